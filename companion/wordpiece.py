"""WordPiece from scratch: split text into words, learn a vocabulary of word pieces, encode with it.

The three steps stand in this order: `basic_tokenize` cuts text into words and punctuation, `train_wordpiece` learns the
pieces from counted words, `WordPiece` encodes words with the pieces by greedy longest match first.

Sources
-------
Schuster and Nakajima (2012), "Japanese and Korean Voice Search", introduced word pieces; Wu et al. (2016), "Google's
Neural Machine Translation System" (arXiv:1609.08144), gave them their name; Devlin et al. (2019) use a vocabulary of
30,000. Both earlier papers choose the merge that raises the likelihood of the training text most. Google never
released the program that learnt BERT's vocabulary (the README of google-research/bert says so). The trainer here
follows the one that most later vocabularies were made with, `WordPieceTrainer` of Hugging Face's `tokenizers`: it
merges the pair that occurs most often, as byte-pair encoding does (Sennrich et al., 2016), and writes the pieces with
BERT's "##". See `train_wordpiece` for what is equal to that library and what is not.
"""

import heapq
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tqdm.auto import tqdm

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PREFIX = "##"  # marks a piece that continues a word
MAX_WORD_LENGTH = 100  # characters; a longer word becomes [UNK]

CONTROL = ("Cc", "Cf", "Co", "Cs")
CHINESE_BLOCKS = (  # as in BERT: the CJK ideographs, not kana or hangul, which are written in words
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


# ---- text to words


def is_control(character: str) -> bool:
    """Return whether the character is removed: control, format, private-use and surrogate characters, and U+FFFD.

    Tab and line ends, which Unicode calls control characters, are white space here.
    """
    return character == "\ufffd" or unicodedata.category(character) in CONTROL and character not in "\t\n\r"


def is_chinese(character: str) -> bool:
    """Return whether the character is a CJK ideograph, which BERT makes a word of its own."""
    return any(first <= ord(character) <= last for first, last in CHINESE_BLOCKS)


def is_punctuation(character: str) -> bool:
    """Return whether BERT splits at this character: Unicode categories P*, and all ASCII that is no letter or digit.

    So "$", "+", "<", "=", ">", "^", "`", "|" and "~" split words although Unicode calls them symbols.
    """
    return "!" <= character <= "~" and not character.isalnum() or unicodedata.category(character)[0] == "P"


class _Table(dict[int, str]):
    """Base of the tables for `str.translate`: the replacement of a character, computed when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = replacement = self.replacement(chr(code))
        return replacement

    def replacement(self, character: str) -> str:
        raise NotImplementedError


class _CleanTable(_Table):
    """Removes control characters, makes white space plain, puts spaces around Chinese characters."""

    def __init__(self, isolate_chinese: bool) -> None:
        super().__init__()
        self.isolate_chinese = isolate_chinese

    def replacement(self, character: str) -> str:
        if is_control(character):
            return ""
        if character.isspace():
            return " "
        return f" {character} " if self.isolate_chinese and is_chinese(character) else character


class _WordTable(_Table):
    """Removes accents, lower-cases, puts spaces around punctuation."""

    def __init__(self, lowercase: bool, strip_accents: bool) -> None:
        super().__init__()
        self.lowercase, self.strip_accents = lowercase, strip_accents

    def replacement(self, character: str) -> str:
        if self.strip_accents and unicodedata.category(character) == "Mn":
            return ""
        if is_punctuation(character):
            return f" {character} "
        return character.lower() if self.lowercase else character


class BasicTokenizer:
    """Split text into words, punctuation marks and Chinese characters, as BERT does before WordPiece.

    Parameters
    ----------
    lowercase
        Lower-case every character (one by one: a final Greek sigma stays "σ").
    strip_accents
        Remove accents: decompose (Unicode NFD), then drop the marks (category Mn). `None` means: when `lowercase`.
    tokenize_chinese_chars
        Make every Chinese character a word of its own.

    Notes
    -----
    Source: Devlin et al. (2019), `tokenization.py` of google-research/bert. The order of the steps is that of
    `tokenizers.normalizers.BertNormalizer`: clean, isolate Chinese characters, strip accents, lower-case, split.
    The words are those of that library too, but for two kinds of rare characters: marks and punctuation that entered
    Unicode after the version its tables hold, and the ideographs U+2B820 to U+2B91F, which it does not isolate.
    """

    _ASCII_WORDS = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]")
    _ASCII_CONTROL = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127])

    def __init__(
        self, lowercase: bool = True, strip_accents: bool | None = None, tokenize_chinese_chars: bool = True
    ) -> None:
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self._clean = _CleanTable(tokenize_chinese_chars)
        self._words = _WordTable(lowercase, self.strip_accents)

    def __call__(self, text: str) -> list[str]:
        """Return the words of `text`."""
        if not isinstance(text, str):
            raise TypeError(f"text is {type(text).__name__} ({text!r:.40}); every text must be a str")
        if text.isascii():  # most English text; the same result, several times faster
            text = text.translate(self._ASCII_CONTROL)
            return self._ASCII_WORDS.findall(text.lower() if self.lowercase else text)
        text = text.translate(self._clean)
        if self.strip_accents:
            text = unicodedata.normalize("NFD", text)
        return text.translate(self._words).split()


def basic_tokenize(
    text: str, lowercase: bool = True, strip_accents: bool | None = None, tokenize_chinese_chars: bool = True
) -> list[str]:
    """Split `text` into words, punctuation marks and Chinese characters; see `BasicTokenizer`.

    Examples
    --------
    >>> basic_tokenize("Déjà-vu costs $5!")
    ['deja', '-', 'vu', 'costs', '$', '5', '!']
    """
    return BasicTokenizer(lowercase, strip_accents, tokenize_chinese_chars)(text)


# ---- words to a vocabulary


def count_words(
    lines: Iterable[str],
    lowercase: bool = True,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
) -> Counter[str]:
    """Return how often each word stands in `lines`; see `BasicTokenizer` for the arguments."""
    if isinstance(lines, str):
        raise TypeError("lines is one str; allowed: an iterable of str. Pass lines.splitlines() or an open file")
    split = BasicTokenizer(lowercase, strip_accents, tokenize_chinese_chars)
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(split(line))
    return counts


def train_wordpiece(
    text: Iterable[str] | Mapping[str, int],
    vocab_size: int,
    *,
    min_frequency: int = 2,
    limit_alphabet: int = 1000,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
    progress: bool = False,
) -> list[str]:
    """Learn a WordPiece vocabulary.

    The vocabulary begins with the special tokens, the characters that begin words ("a") and those that continue them
    ("##a"). Then the pair of neighbouring pieces with the highest count over all words becomes one piece, again and
    again, until there are `vocab_size` pieces or no pair occurs `min_frequency` times. Ties go to the pair whose
    pieces are older in the vocabulary (first the left one, then the right one), so that the same words always give
    the same vocabulary, whatever their order.

    Parameters
    ----------
    text
        Lines of text, or the words with their counts.
    vocab_size
        Number of tokens wanted; fewer come back when the text has too few frequent pairs.
    min_frequency
        A pair that occurs less often is not merged.
    limit_alphabet
        Number of different characters kept, the most frequent ones; the others are left out of the words.
    special_tokens
        First tokens of the vocabulary.
    lowercase, strip_accents, tokenize_chinese_chars
        How lines are split into words, see `BasicTokenizer`; words with counts are taken as they are.
    progress
        Show a progress bar.

    Returns
    -------
    list of str
        The tokens; the place of a token is its id.

    Raises
    ------
    ValueError
        If `vocab_size` cannot hold the special tokens and the characters, or a number is not positive.

    Notes
    -----
    The algorithm is that of `tokenizers.trainers.WordPieceTrainer` (Hugging Face), which is byte-pair encoding
    (Sennrich et al., 2016, Algorithm 1) with "##"; see the head of this module for the original one. That library
    numbers the "##" characters in the order of a randomly seeded hash table, and its ties follow those numbers: two
    runs of it on the same text can differ in a few tokens. Given the numbers used here (pass the characters as its
    first special tokens), its vocabulary and this one are equal, token by token.
    """
    _check_positive(vocab_size=vocab_size, min_frequency=min_frequency, limit_alphabet=limit_alphabet)
    counts = text if isinstance(text, Mapping) else count_words(text, lowercase, strip_accents, tokenize_chinese_chars)
    words = sorted(counts)  # the result does not depend on the order of the text
    alphabet = _alphabet(counts, limit_alphabet)
    tokens = list(dict.fromkeys([*special_tokens, *alphabet, *_continuations(words, alphabet)]))
    if len(tokens) > vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size} is smaller than the {len(tokens)} special tokens and characters of this text; "
            f"pass a larger vocab_size or a limit_alphabet below {limit_alphabet}"
        )
    merger = _PairMerger(tokens, words, [counts[word] for word in words])
    with tqdm(total=vocab_size, initial=len(tokens), desc="WordPiece", unit="token", disable=not progress) as bar:
        while len(tokens) < vocab_size and merger.merge_most_frequent(min_frequency):
            bar.update(len(tokens) - bar.n)
    return tokens


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name}={number} must be at least 1")


def _alphabet(counts: Mapping[str, int], limit: int) -> list[str]:
    """The `limit` most frequent characters (ties: the lower code point), in the order of code points."""
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    return sorted(sorted(characters, key=lambda character: (-characters[character], character))[:limit])


def _continuations(words: Iterable[str], alphabet: Iterable[str]) -> list[str]:
    """The "##" forms of the characters that stand inside words, in the order of code points."""
    inside = set().union(*(word[1:] for word in words))
    return [PREFIX + character for character in alphabet if character in inside]


class _PairMerger:
    """The state of training: words as lists of token ids, the count of every pair and where it stands.

    A merge touches only the words that hold the pair, and of the counts only those of its neighbours there. A pair
    enters the queue once, with all its words, when the younger of its pieces is made; from then on its count can only
    fall. So the queue may be lazy: a count that has fallen is put right when the pair comes up.
    """

    def __init__(self, tokens: list[str], words: Sequence[str], word_counts: Sequence[int]) -> None:
        self.tokens, self.word_counts = tokens, word_counts
        self.ids = {token: number for number, token in enumerate(tokens)}
        self.words = [self._spell(word) for word in words]
        self.pair_counts: Counter[tuple[int, int]] = Counter()
        self.queue: list[tuple[int, tuple[int, int], set[int]]] = []
        where: dict[tuple[int, int], set[int]] = {}
        for number, word in enumerate(self.words):
            for pair in zip(word, word[1:], strict=False):
                self.pair_counts[pair] += word_counts[number]
                where.setdefault(pair, set()).add(number)
        self._enqueue(where)

    def merge_most_frequent(self, min_frequency: int) -> bool:
        """Merge the pair with the highest count everywhere; return whether there was one frequent enough."""
        while self.queue:
            negative_count, pair, places = heapq.heappop(self.queue)
            count = self.pair_counts[pair]
            if count != -negative_count:
                self._push(pair, places)
            elif count < min_frequency:
                return False
            else:
                self._enqueue(self._merge_in(places, pair, self._id_of(pair)))
                return True
        return False

    def _spell(self, word: str) -> list[int]:
        """The word as ids of single characters, without those that are not in the alphabet."""
        return [
            self.ids[PREFIX + character if place else character]
            for place, character in enumerate(word)
            if character in self.ids
        ]

    def _id_of(self, pair: tuple[int, int]) -> int:
        """The id of the two pieces as one, which becomes a new token if there is none."""
        token = self.tokens[pair[0]] + self.tokens[pair[1]].removeprefix(PREFIX)
        if token not in self.ids:
            self.ids[token] = len(self.tokens)
            self.tokens.append(token)
        return self.ids[token]

    def _merge_in(self, places: Iterable[int], pair: tuple[int, int], merged: int) -> dict[tuple[int, int], set[int]]:
        """Merge the pair in these words, keep the counts right, and return the words of each pair that came up."""
        where: dict[tuple[int, int], set[int]] = {}
        for number in places:
            for changed, change in _merge_in_word(self.words[number], pair, merged):
                self.pair_counts[changed] += change * self.word_counts[number]
                if change > 0:
                    where.setdefault(changed, set()).add(number)
        return where

    def _enqueue(self, where: Mapping[tuple[int, int], set[int]]) -> None:
        for pair, places in where.items():
            if self.pair_counts[pair] > 0:
                self._push(pair, places)

    def _push(self, pair: tuple[int, int], places: set[int]) -> None:
        heapq.heappush(self.queue, (-self.pair_counts[pair], pair, places))


def _merge_in_word(word: list[int], pair: tuple[int, int], merged: int) -> Iterator[tuple[tuple[int, int], int]]:
    """Replace the pair in the word, from the left; yield the pairs that vanish (-1) and come up (+1) beside it."""
    left, right = pair
    place = 0
    while place < len(word) - 1:
        if word[place] == left and word[place + 1] == right:
            word[place : place + 2] = [merged]
            if place > 0:
                yield (word[place - 1], left), -1
                yield (word[place - 1], merged), 1
            if place + 1 < len(word):
                yield (right, word[place + 1]), -1
                yield (merged, word[place + 1]), 1
        place += 1


# ---- words to ids


class WordPiece:
    """Encode text with a WordPiece vocabulary, by greedy longest match first.

    A word is cut from the left: the longest piece of the vocabulary that begins it, then the longest "##" piece that
    continues it, and so on. If some rest begins with no piece at all, the whole word becomes `[UNK]`; so does a word
    of more than 100 characters. Special tokens that stand literally in the text ("[MASK]") are kept whole.

    Parameters
    ----------
    vocabulary
        The tokens in the order of their ids, with `[UNK]` among them.
    lowercase, strip_accents, tokenize_chinese_chars
        See `BasicTokenizer`.

    Raises
    ------
    ValueError
        If `[UNK]` is missing or a token stands twice.

    Notes
    -----
    The ids equal those of `companion.tokenizer.Tokenizer` with the same vocabulary. Words met once are remembered
    with their ids: in natural text most words are repetitions, which makes this class fast without compiled code.
    """

    CACHE_SIZE = 1 << 18  # words

    def __init__(
        self,
        vocabulary: Sequence[str],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
    ) -> None:
        self.vocabulary = list(vocabulary)
        self.ids = {token: number for number, token in enumerate(self.vocabulary)}
        self._check()
        self.unk_id = self.ids[UNK]
        self.basic_tokenizer = BasicTokenizer(lowercase, strip_accents, tokenize_chinese_chars)
        self._longest = max(map(len, self.vocabulary))
        self._special = re.compile("(" + "|".join(re.escape(t) for t in SPECIAL_TOKENS if t in self.ids) + ")")
        self._cache: dict[str, tuple[int, ...]] = {}

    def _check(self) -> None:
        if twice := repeated_token(self.vocabulary):
            raise ValueError(f"vocabulary holds {twice!r} more than once; every token may stand there once")
        if UNK not in self.ids:
            raise ValueError(f"vocabulary lacks {UNK}, which stands for the words that cannot be spelt; add it")

    def encode(self, text: str) -> list[int]:
        """Return the ids of the pieces of `text`, without `[CLS]` and `[SEP]`."""
        ids: list[int] = []
        for part in self._special.split(text) if "[" in text else (text,):
            if part in SPECIAL_TOKENS and part in self.ids:
                ids.append(self.ids[part])
            else:
                for word in self.basic_tokenizer(part):
                    ids += self._cache.get(word) or self._encode_and_remember(word)
        return ids

    def tokenize(self, text: str) -> list[str]:
        """Return the pieces of `text`.

        Examples
        --------
        >>> WordPiece(["[UNK]", "un", "##aff", "##able"]).tokenize("Unaffable you")
        ['un', '##aff', '##able', '[UNK]']
        """
        return [self.vocabulary[number] for number in self.encode(text)]

    def encode_word(self, word: str) -> tuple[int, ...]:
        """Return the ids of the pieces of one word, which has been through `BasicTokenizer`."""
        if len(word) > MAX_WORD_LENGTH:
            return (self.unk_id,)
        pieces: list[int] = []
        start = 0
        while start < len(word):
            number, start = self._longest_match(word, start)
            if number is None:
                return (self.unk_id,)
            pieces.append(number)
        return tuple(pieces)

    def _longest_match(self, word: str, start: int) -> tuple[int | None, int]:
        """The id of the longest piece at `start`, or `None`, and the place after it."""
        prefix = PREFIX if start else ""
        for end in range(min(len(word), start + self._longest), start, -1):
            number = self.ids.get(prefix + word[start:end])
            if number is not None:
                return number, end
        return None, start

    def _encode_and_remember(self, word: str) -> tuple[int, ...]:
        ids = self.encode_word(word)
        if len(self._cache) >= self.CACHE_SIZE:
            self._cache.clear()
        if len(word) <= MAX_WORD_LENGTH:
            self._cache[word] = ids
        return ids

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Return the text of the ids: pieces joined to words, words separated by single spaces.

        The spaces of the original text, its capitals and accents are not in the ids and do not come back.
        """
        tokens = [self.vocabulary[number] for number in ids]
        if skip_special_tokens:
            tokens = [token for token in tokens if token not in SPECIAL_TOKENS]
        return join_pieces(tokens)


def repeated_token(vocabulary: Iterable[str]) -> str | None:
    """Return the first token that stands in the vocabulary more than once, or `None`."""
    return next((token for token, count in Counter(vocabulary).items() if count > 1), None)


def join_pieces(tokens: Iterable[str]) -> str:
    """Return the tokens as text: "##" pieces joined to the piece before, all else separated by single spaces.

    Examples
    --------
    >>> join_pieces(["un", "##aff", "##able", "!"])
    'unaffable !'
    """
    return " ".join(tokens).replace(" " + PREFIX, "")
