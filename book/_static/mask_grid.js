// The element <mask-grid>: it shows the tables that came with the page, and turns them into a square to click.
// A cell is a query that looks at a key; a click hides it. The weights are those of Python's companion.show.mask_grid.

import { make, Roving } from "./live/dom.js";

const WAYS = {
  lowest: "lowest number, in place of the score",
  infinity: "−∞, in place of the score",
  added: "−10,000, added to the score",
};
const MASKS = {
  "hide nothing": () => true,
  "hide padding": (query, key, tokens) => tokens[key] !== "[PAD]",
  "hide what comes later": (query, key) => key <= query,
};

/** The softmax of a row of scores of which some are hidden, in one of three ways. */
export function weigh({ scores, seen, way }) {
  const fill = { lowest: () => -Number.MAX_VALUE, infinity: () => -Infinity, added: (score) => score - 1e4 }[way];
  const masked = scores.map((score, i) => (seen[i] ? score : fill(score)));
  const highest = Math.max(...masked);
  const exponentials = masked.map((score) => Math.exp(score - highest)); // −∞ − (−∞) is NaN, as in Python
  const sum = exponentials.reduce((a, b) => a + b, 0);
  return exponentials.map((one) => one / sum);
}

const written = (value) => (Number.isNaN(value) ? "NaN" : value.toFixed(3));

class MaskGrid extends HTMLElement {
  connectedCallback() {
    if (this.rows) return;
    this.rows = JSON.parse(this.dataset.given);
    this.way = "lowest";
    this._build();
    this._cover("hide nothing");
  }

  get tokens() {
    return this.rows.tokens;
  }

  _build() {
    const { tokens } = this;
    this.said = make("p", { class: "mg-said", role: "status" });
    this.cells = tokens.map((_, i) => tokens.map((_, j) => make("button", { type: "button", onclick: () => this._turn(i, j) })));
    this.sums = tokens.map(() => make("td", { class: "mg-sum" }));
    const head = make("tr", {}, make("td", {}, "looks ↓ at →"), ...tokens.map((name) => make("th", { scope: "col" }, name)), make("th", { scope: "col" }, "sum"));
    const body = tokens.map((name, i) =>
      make("tr", {}, make("th", { scope: "row" }, name), ...this.cells[i].map((cell) => make("td", {}, cell)), this.sums[i]));
    const table = make("table", { class: "mg-table" }, make("thead", {}, head), make("tbody", {}, ...body));
    this.roving = new Roving(table, { columns: tokens.length });
    this.roving._mark(0);
    this.replaceChildren(this._controls(), make("div", { class: "mg-scroll" }, table), this.said);
    this.classList.add("mg-live");
  }

  _controls() {
    const masks = Object.keys(MASKS).map((name) => make("button", { type: "button", onclick: () => this._cover(name) }, name));
    const choice = make("select", { onchange: (event) => this._change(event.target.value) },
      ...Object.entries(WAYS).map(([value, words]) => make("option", { value }, words)));
    return make("div", { class: "mg-controls" }, ...masks, make("label", {}, "Hide by ", choice));
  }

  _cover(name) {
    const { tokens } = this;
    this.seen = tokens.map((_, i) => tokens.map((_, j) => MASKS[name](i, j, tokens)));
    this._update();
    const { length } = this.seen.flat().filter((seen) => !seen);
    this.said.textContent = length ? `${length} of ${tokens.length ** 2} cells are hidden. Click a cell to hide or show it.` : "Every token may look everywhere. Click a cell to hide it.";
  }

  _turn(i, j) {
    this.seen[i][j] = !this.seen[i][j];
    this._update();
    this.said.textContent = this._sentence(i, j);
  }

  _change(way) {
    this.way = way;
    this._update();
    const blind = this.tokens.findIndex((_, i) => !this.seen[i].some(Boolean));
    this.said.textContent = blind < 0 ? "Wherever a row still has a key, all three ways give the same weights." : this._sentence(blind, 0);
  }

  _weights(i) {
    return weigh({ scores: this.rows.scores[i], seen: this.seen[i], way: this.way });
  }

  _update() {
    this.tokens.forEach((query, i) => {
      const weights = this._weights(i);
      weights.forEach((weight, j) => {
        const cell = this.cells[i][j];
        const hidden = !this.seen[i][j];
        cell.textContent = written(weight);
        cell.classList.toggle("mg-hidden", hidden);
        cell.style.setProperty("--w", Number.isNaN(weight) ? 0 : weight);
        cell.setAttribute("aria-pressed", String(hidden));
        cell.setAttribute("aria-label", `${query} looks at ${this.tokens[j]}: ${written(weight)}${hidden ? ", hidden" : ""}`);
      });
      this.sums[i].textContent = written(weights.reduce((a, b) => a + b, 0));
    });
  }

  _sentence(i, j) {
    const [query, key] = [this.tokens[i], this.tokens[j]];
    const left = this.tokens.map((_, k) => k).filter((k) => this.seen[i][k]);
    if (!left.length) {
      return {
        lowest: `${query} may look at nothing. All its scores are the same lowest number, so the weights are equal: a plain average.`,
        infinity: `${query} may look at nothing. Its exponentials are all 0, and 0 / 0 is NaN.`,
        added: `${query} may look at nothing, but the same −10,000 in every score cancels: the row is as if nothing were hidden.`,
      }[this.way];
    }
    const weights = this._weights(i);
    const list = left.map((k) => `${this.tokens[k]} ${written(weights[k])}`).join(", ");
    return this.seen[i][j] ? `${query} may look at ${key} again: ${list}.` : `${query} may not look at ${key}. What is left is divided by a smaller sum: ${list}.`;
  }
}

customElements.define("mask-grid", MaskGrid);
