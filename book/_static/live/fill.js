// Hidden words and what the model would put there.

import { likeliest } from "./bert.js";
import { make, percent, Roving, tokenClasses } from "./dom.js";

export class FillView {
  hint = "Press a word to hide or show it, a guess to put it in.";
  longest = 128; // the model never saw longer rows

  constructor(session, element) {
    this.session = session;
    this.count = Number(element.getAttribute("count") ?? 5);
    this.temperature = 1;
    this.tokens = make("div", { class: "bl-tokens", role: "group", "aria-label": "Tokens; press one to hide or show it" });
    this.chips = new Roving(this.tokens);
    this.guesses = make("div", { class: "bl-guesses" });
    this.node = make("div", { class: "bl-view" }, this.tokens, this.guesses);
  }

  controls() {
    this.shown = make("output", {}, "1.0");
    const change = (event) => {
      this.temperature = Number(event.target.value);
      this.shown.textContent = this.temperature.toFixed(1);
      if (this.last) this.show(...this.last);
    };
    this.slider = make("input", { type: "range", min: 0.1, max: 3, step: 0.1, value: 1, oninput: change });
    return [make("label", { class: "bl-slider" }, "Temperature", this.slider, this.shown)];
  }

  reset() {
    this.temperature = this.slider.value = 1;
    this.shown.textContent = "1.0";
  }

  prepare({ tokens }) {
    this.chips.replace(tokens.map((token) => this._chip(token)));
  }

  asks({ tokens }) {
    return tokens.flatMap((token, place) => (this._isBlank(token) ? [place] : []));
  }

  show(row, answer) {
    this.last = [row, answer];
    const blanks = row.tokens.filter((token) => this._isBlank(token));
    const parts = answer.logits.map((logits, i) => this._blank(blanks[i], logits, blanks.length > 1 ? i + 1 : 0));
    const none = make("p", { class: "bl-none" }, "Nothing is hidden. Press a word above, or write [MASK] into the sentence.");
    this.guesses.replaceChildren(...(parts.length ? parts : [none]));
    const best = (logits) => likeliest(logits, 3, this.temperature).map((one) => `${this._piece(one.id)} ${percent(one.probability)}`);
    this.session.say(answer.logits.map((logits, i) => `Guesses for hidden word ${i + 1}: ${best(logits).join(", ")}`).join(". "));
  }

  _isBlank(token) {
    return token.id === this.session.tokenizer.maskId && token.start !== undefined;
  }

  _piece(id) {
    return this.session.tokenizer.vocabulary[id];
  }

  _chip(token) {
    const fixed = token.start === undefined; // [CLS] and [SEP] are no words
    const attributes = { class: tokenClasses(token.piece, token.special) };
    if (fixed) return make("span", attributes, token.piece);
    const press = () => (this._isBlank(token) && !token.hidden ? this._fillIn(token) : this.session.toggle(token));
    const title = token.hidden ? `hidden: ${this._piece(token.original)}` : null;
    const button = { type: "button", "aria-pressed": String(this._isBlank(token)), title, onclick: press };
    return make("button", { ...attributes, ...button }, token.piece);
  }

  /** A [MASK] that the reader wrote hides no word: pressed, it takes the best guess. */
  _fillIn(token) {
    if (!this.last) return;
    const [row, answer] = this.last;
    const index = row.tokens.filter((one) => this._isBlank(one)).findIndex((one) => one.start === token.start);
    if (answer.logits[index]) this.session.put(token, this._piece(likeliest(answer.logits[index], 1)[0].id));
  }

  _blank(token, logits, number) {
    const guesses = likeliest(logits, this.count, this.temperature);
    const highest = guesses[0].probability;
    const rows = guesses.map(({ id, probability }) => make("li", { class: id === token.original ? "bl-right" : null },
      make("button", { type: "button", class: "bl-word", title: "Put it in", onclick: () => this.session.put(token, this._piece(id)) },
        this._piece(id)),
      make("span", { class: "bl-track" }, make("span", { class: "bl-bar", "--w": probability / highest })),
      make("span", { class: "bl-share" }, percent(probability))));
    const mask = number ? `[MASK] ${number}` : "[MASK]";
    const title = token.hidden ? `${mask} hides ${this._rank(token, logits)}` : number && mask;
    return make("div", { class: "bl-blank" },
      ...(title ? [make("p", { class: "bl-title" }, title)] : []),
      make("ol", { class: "bl-list" }, ...rows));
  }

  /** Where the word that was hidden stands among all tokens. */
  _rank(token, logits) {
    const rank = logits.reduce((count, logit) => count + (logit > logits[token.original]), 1);
    return `“${this._piece(token.original)}”: guess no. ${rank.toLocaleString("en")}`;
  }
}
