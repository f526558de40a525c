// Text to token ids: BERT's cleaning and splitting, then WordPiece, as companion/text/words.py and wordpiece.py do it.

const SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const SPECIAL_IN_TEXT = /\[(?:PAD|UNK|CLS|SEP|MASK)\]/g;
const LONGEST_WORD = 100; // characters; a longer word becomes [UNK]

const isSpace = (character) => /^\s$/u.test(character);
const isControl = (character) =>
  character === "\ufffd" || (/^[\p{Cc}\p{Cf}\p{Co}\p{Cs}]$/u.test(character) && !"\t\n\r".includes(character));
const isMark = (character) => /^\p{Mn}$/u.test(character);
const isPunctuation = (character) => /^[\p{P}$+<=>^`|~]$/u.test(character);
const isChinese = (character) =>
  /^[\u4E00-\u9FFF\u3400-\u4DBF\u{20000}-\u{2A6DF}\u{2A700}-\u{2B81F}\u{2B820}-\u{2CEAF}\uF900-\uFAFF\u{2F800}-\u{2FA1F}]$/u
    .test(character);

/** What becomes of one character: the characters to keep of it, and whether each stands alone. */
function replaced(character, { lowercase, strip_accents, tokenize_chinese_chars }) {
  if (isControl(character)) return [];
  if (isSpace(character)) return [" "];
  const alone = tokenize_chinese_chars && isChinese(character);
  let kept = [...(strip_accents ? character.normalize("NFD") : character)];
  if (strip_accents) kept = kept.filter((one) => !isMark(one));
  if (lowercase) kept = kept.flatMap((one) => [...one.toLowerCase()]);
  return alone ? [" ", ...kept, " "] : kept;
}

/** Words of a text: {characters, starts, ends}, the last two being places in the text, one for each character. */
function* words(text, offset, splitting) {
  let word = { characters: [], starts: [], ends: [] };
  const add = (character, start, end) => {
    word.characters.push(character);
    word.starts.push(start);
    word.ends.push(end);
  };
  for (let start = offset; start < offset + text.length; ) {
    const original = String.fromCodePoint(text.codePointAt(start - offset));
    const end = start + original.length;
    for (const character of replaced(original, splitting)) {
      const alone = isPunctuation(character);
      if ((alone || character === " ") && word.characters.length) {
        yield word;
        word = { characters: [], starts: [], ends: [] };
      }
      if (character !== " ") add(character, start, end);
      if (alone) {
        yield word;
        word = { characters: [], starts: [], ends: [] };
      }
    }
    start = end;
  }
  if (word.characters.length) yield word;
}

export class Tokenizer {
  /** `vocabulary`: the tokens in the order of their ids. `splitting`: lowercase, strip_accents, tokenize_chinese_chars. */
  constructor(vocabulary, splitting) {
    this.vocabulary = vocabulary;
    this.splitting = splitting;
    this.ids = new Map(vocabulary.map((token, id) => [token, id]));
    [this.padId, this.unkId, this.clsId, this.sepId, this.maskId] = SPECIAL.map((token) => this.ids.get(token));
  }

  isSpecial(id) {
    return SPECIAL.includes(this.vocabulary[id]);
  }

  /** The tokens of a text without [CLS] and [SEP]: a list of {id, start, end}; start and end are places in the text. */
  tokens(text) {
    const found = [];
    let after = 0;
    for (const match of text.matchAll(SPECIAL_IN_TEXT)) {
      this._read(text.slice(after, match.index), after, found);
      after = match.index + match[0].length;
      found.push({ id: this.ids.get(match[0]), start: match.index, end: after });
    }
    this._read(text.slice(after), after, found);
    return found;
  }

  /** The row of a model for a text, or for a pair: {ids, segments, tokens}; tokens of [CLS] and [SEP] have no place. */
  encode(text, pair = null, longest = Infinity) {
    const texts = pair === null ? [text] : [text, pair];
    const room = Math.floor((longest - 1 - texts.length) / texts.length);
    const tokens = [{ id: this.clsId }];
    const segments = [0];
    texts.forEach((one, segment) => {
      const own = [...this.tokens(one).slice(0, Math.max(room, 0)), { id: this.sepId }];
      tokens.push(...own);
      segments.push(...own.map(() => segment));
    });
    return { ids: tokens.map((token) => token.id), segments, tokens };
  }

  _read(text, offset, found) {
    for (const word of words(text, offset, this.splitting)) found.push(...this._pieces(word));
  }

  /** Cuts a word from the left into the longest pieces of the vocabulary. */
  _pieces({ characters, starts, ends }) {
    const whole = { id: this.unkId, start: starts[0], end: ends.at(-1) };
    if (characters.length > LONGEST_WORD) return [whole];
    const pieces = [];
    for (let first = 0, last; first < characters.length; first = last) {
      let id;
      for (last = characters.length; last > first; last--) {
        id = this.ids.get((first ? "##" : "") + characters.slice(first, last).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return [whole];
      pieces.push({ id, start: starts[first], end: ends[last - 1] });
    }
    return pieces;
  }
}
