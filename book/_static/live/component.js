// What a reader plays with: a sentence, what the model makes of it, and a few switches. One session for each element.

import { make } from "./dom.js";
import { engine } from "./engine.js";
import { AttentionView } from "./attention.js";
import { FillView } from "./fill.js";

const VIEWS = { fill: FillView, attention: AttentionView };

/** Fetches the model and puts a running session in the place of the still. */
export async function start(element, onProgress) {
  const bert = await engine(element.getAttribute("model"), onProgress);
  const session = new Session(element, bert);
  await session.update();
  const byKeyboard = element.querySelector(".bl-run:focus-visible"); // on a telephone a focus opens the keyboard
  element.replaceChildren(...session.parts());
  element.classList.add("bl-running");
  if (byKeyboard) session.field.focus({ preventScroll: true });
}

/** Where two texts differ: the length of what they begin with in common, and of what they end with. */
function difference(before, after) {
  const most = Math.min(before.length, after.length);
  let head = 0;
  while (head < most && before[head] === after[head]) head++;
  let tail = 0;
  while (tail < most - head && before.at(-1 - tail) === after.at(-1 - tail)) tail++;
  return { head, tail };
}

class Session {
  constructor(element, bert) {
    this.bert = bert;
    this.tokenizer = bert.tokenizer;
    this.original = element.getAttribute("sentence");
    this.text = this.original;
    this.hidden = []; // places {start, end} in the text whose token is hidden
    this.unseen = new Set(); // tokens that the others may not look at
    this.order = true;
    this.look = "all";
    this.asked = 0;
    this.view = new VIEWS[element.getAttribute("mode")](this, element);
    this.said = make("p", { class: "bl-aria", "aria-live": "polite" });
    this.time = make("span", { class: "bl-time" });
    this.field = make("input", {
      type: "text", class: "bl-field", value: this.text, spellcheck: "false", autocomplete: "off",
      "aria-label": "Sentence for the model", oninput: () => this.type(this.field.value),
    });
  }

  parts() {
    const again = make("button", { type: "button", class: "bl-again", onclick: () => this.reset() }, "Start over");
    return [
      make("div", { class: "bl-line" }, this.field, again),
      this.view.node,
      make("div", { class: "bl-controls" }, ...this.view.controls(),
        this._switch("Knows the order of words", true, (on) => (this.order = on)),
        this._switch("Sees later words", true, (on) => (this.look = on ? "all" : "earlier"))),
      make("p", { class: "bl-note" }, this.view.hint, " ", this.time),
      this.said,
    ];
  }

  _switch(label, checked, change) {
    const set = (event) => {
      change(event.target.checked);
      this.update();
    };
    const box = make("input", { type: "checkbox", onchange: set });
    box.checked = checked;
    return make("label", { class: "bl-switch" }, box, label);
  }

  /** The reader typed: what was hidden stays hidden where the text did not change. */
  type(text) {
    const { head, tail } = difference(this.text, text);
    const [changed, shift] = [this.text.length - tail, text.length - this.text.length];
    this.hidden = this.hidden.flatMap(({ start, end }) => {
      if (end <= head) return [{ start, end }];
      return start >= changed ? [{ start: start + shift, end: end + shift }] : [];
    });
    this.text = text;
    this.unseen.clear();
    this.update();
  }

  reset() {
    Object.assign(this, { text: this.original, hidden: [], order: true, look: "all" });
    this.unseen.clear();
    this.field.value = this.text;
    for (const box of this.field.closest("bert-live").querySelectorAll("[type=checkbox]")) box.checked = true;
    this.view.reset();
    this.update();
  }

  /** Hides the token if it is shown, and the other way round. */
  toggle({ start, end }) {
    const others = this.hidden.filter((place) => place.start !== start || place.end !== end);
    this.hidden = others.length < this.hidden.length ? others : [...others, { start, end }];
    this.update();
  }

  /** Puts a piece of the vocabulary in the place of a token. */
  put({ start, end }, piece) {
    this.hidden = this.hidden.filter((place) => place.start !== start || place.end !== end);
    const joins = piece.startsWith("##");
    if (joins) while (start > 0 && this.text[start - 1] === " ") start--;
    this.type(this.text.slice(0, start) + (joins ? piece.slice(2) : piece) + this.text.slice(end));
    this.field.value = this.text;
  }

  /** The row of ids, with what is hidden replaced; `tokens` know their piece, their place, and what is hidden. */
  row() {
    const { tokenizer } = this;
    const { ids, segments, tokens } = tokenizer.encode(this.text, null, this.view.longest);
    const described = tokens.map(({ id, start, end }) => {
      const hidden = this.hidden.some((place) => place.start === start && place.end === end);
      const shown = hidden ? tokenizer.maskId : id;
      return { id: shown, original: id, piece: tokenizer.vocabulary[shown], start, end, hidden, special: tokenizer.isSpecial(shown) };
    });
    return { ids: described.map((token) => token.id), segments, tokens: described, read: ids.length };
  }

  /** Asks the model about the present state; an answer that was overtaken by a newer question is dropped. */
  async update() {
    const number = ++this.asked;
    const row = this.row();
    this.view.prepare(row);
    const unseen = [...this.unseen].filter((place) => place < row.ids.length);
    const { look, order } = this;
    const answer = await this.bert.run({ ids: row.ids, segments: row.segments, unseen, look, order, at: this.view.asks(row) });
    if (number !== this.asked) return;
    this.view.show(row, answer);
    const cut = row.ids.length >= this.view.longest ? ` Only the first ${row.ids.length - 2} tokens are read.` : "";
    this.time.textContent = `Computed in ${Math.max(1, Math.round(answer.milliseconds))} ms.${cut}`;
  }

  say(text) {
    this.said.textContent = text;
  }
}
