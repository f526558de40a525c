// Where each head looks: the tokens twice, lines between them, and a small picture of every head to choose from.

import { make, percent, Roving, tokenClasses } from "./dom.js";

const ROW = 28; // height of a token, in units of the drawing
const FAINT = 0.02; // weights below are not drawn
const SVG = "http://www.w3.org/2000/svg";
const INK = [0, 114, 178]; // the colour of attention, as in live.css

export class AttentionView {
  hint = "Point at a token on the left to see where it looks. Press one on the right to hide it from the others.";
  longest = 40;

  constructor(session, element) {
    this.session = session;
    const { num_hidden_layers: layers, num_attention_heads: heads } = session.bert.config;
    [this.layers, this.heads] = [layers, heads];
    this.first = { layer: Number(element.getAttribute("layer") ?? 1) - 1, head: Number(element.getAttribute("head") ?? 1) - 1 };
    Object.assign(this, this.first);
    this.wanted = element.getAttribute("focus"); // the token to begin with
    this.query = null;
    this.queries = make("div", { class: "bl-column", role: "group", "aria-label": "Tokens that look" });
    this.keys = make("div", { class: "bl-column", role: "group", "aria-label": "Tokens looked at; press one to hide it" });
    this.shares = make("div", { class: "bl-column bl-shares", "aria-hidden": "true" });
    this.lines = document.createElementNS(SVG, "svg");
    this.lines.setAttribute("class", "bl-lines");
    this.lines.setAttribute("preserveAspectRatio", "none");
    this.lines.setAttribute("aria-hidden", "true");
    this.chosen = make("p", { class: "bl-title" });
    this.grid = make("div", { class: "bl-heads", role: "radiogroup", "aria-label": "Layer and head", "--heads": heads });
    this.rovers = [new Roving(this.queries), new Roving(this.keys)];
    this.queries.addEventListener("mouseleave", () => this._point(this.query));
    const choose = (index) => this._choose(Math.floor(index / heads), index % heads);
    this.grid.append(...this._thumbnails(choose));
    new Roving(this.grid, { columns: heads, onmove: choose });
    this.node = make("div", { class: "bl-view bl-split" },
      make("div", { class: "bl-pick" }, this.chosen, this.grid),
      make("div", { class: "bl-attention" }, this.queries, this.lines, this.keys, this.shares));
  }

  controls() {
    return [];
  }

  reset() {
    Object.assign(this, this.first, { query: null });
    this.started = false;
  }

  prepare() {}

  asks() {
    return [];
  }

  show({ tokens }, { attentions }) {
    Object.assign(this, { tokens, attentions });
    if (!this.started && this.wanted) this.query = this._find(this.wanted);
    this.started = true;
    if (this.query >= tokens.length) this.query = null;
    this.rovers[0].replace(tokens.map((token, place) => this._queryChip(token, place)));
    this.rovers[1].replace(tokens.map((token, place) => this._keyChip(token, place)));
    this.shares.replaceChildren(...tokens.map(() => make("span", { class: "bl-share" })));
    this.lines.setAttribute("viewBox", `0 0 100 ${ROW * tokens.length}`);
    this.grid.querySelectorAll("canvas").forEach((canvas, i) => {
      paint(canvas, attentions[Math.floor(i / this.heads)][i % this.heads], tokens.length);
    });
    this._choose(this.layer, this.head);
  }

  _find(piece) {
    const place = this.tokens.findIndex((token) => token.piece === piece);
    return place < 0 ? null : place;
  }

  _thumbnails(choose) {
    const parts = [make("span", {})];
    for (let head = 0; head < this.heads; head++) parts.push(make("span", { class: "bl-axis" }, `head ${head + 1}`));
    for (let layer = 0; layer < this.layers; layer++) {
      parts.push(make("span", { class: "bl-axis" }, `layer ${layer + 1}`));
      for (let head = 0; head < this.heads; head++) {
        const name = `Layer ${layer + 1}, head ${head + 1}`;
        const pick = () => choose(layer * this.heads + head);
        parts.push(make("button", { type: "button", role: "radio", "aria-label": name, title: name, class: "bl-head", onclick: pick },
          make("canvas", { "aria-hidden": "true" })));
      }
    }
    return parts;
  }

  _queryChip(token, place) {
    return make("button", {
      type: "button", class: tokenClasses(token.piece, token.special), "aria-pressed": String(place === this.query),
      onmouseenter: () => this._point(place),
      onfocus: () => this._point(place, true),
      onclick: () => this._pin(place),
    }, token.piece);
  }

  _keyChip(token, place) {
    const unseen = this.session.unseen.has(place);
    const press = () => {
      if (!this.session.unseen.delete(place)) this.session.unseen.add(place);
      this.session.update();
    };
    return make("button", {
      type: "button", class: `${tokenClasses(token.piece, token.special)}${unseen ? " bl-unseen" : ""}`,
      "aria-pressed": String(unseen), title: unseen ? "Hidden from the others" : null, onclick: press,
    }, token.piece);
  }

  _pin(place) {
    this.query = this.query === place ? null : place;
    [...this.queries.children].forEach((chip, i) => chip.setAttribute("aria-pressed", String(i === this.query)));
    this._point(this.query);
  }

  _choose(layer, head) {
    Object.assign(this, { layer, head });
    this.grid.querySelectorAll("button").forEach((button, i) => {
      const own = i === layer * this.heads + head;
      button.setAttribute("aria-checked", String(own));
      button.tabIndex = own ? 0 : -1;
    });
    this._point(this.query, true);
  }

  /** Shows where one token looks, or where all do. */
  _point(query, aloud = false) {
    if (!this.tokens) return;
    const n = this.tokens.length;
    const weights = this.attentions[this.layer][this.head];
    const of = (i, j) => weights[i * n + j];
    const drawn = query === null ? [...Array(n).keys()] : [query];
    this.lines.replaceChildren(...drawn.flatMap((i) => [...Array(n).keys()].flatMap((j) => (of(i, j) < FAINT ? [] : [line(i, j, of(i, j))]))));
    [...this.queries.children].forEach((chip, i) => chip.classList.toggle("bl-chosen", i === query));
    [...this.keys.children].forEach((chip, j) => chip.style.setProperty("--w", query === null ? 0 : of(query, j)));
    [...this.shares.children].forEach((share, j) => (share.textContent = query === null ? "" : percent(of(query, j))));
    const where = `layer ${this.layer + 1}, head ${this.head + 1}`;
    this.chosen.textContent = query === null ? `Where each token looks: ${where}` : `Where “${this.tokens[query].piece}” looks: ${where}`;
    if (aloud) this.session.say(this._told(query, of, n));
  }

  _told(query, of, n) {
    if (query === null) return this.chosen.textContent;
    const most = [...Array(n).keys()].sort((a, b) => of(query, b) - of(query, a)).slice(0, 3);
    return `${this.chosen.textContent}: ${most.map((j) => `${this.tokens[j].piece} ${percent(of(query, j))}`).join(", ")}`;
  }
}

function line(query, key, weight) {
  const path = document.createElementNS(SVG, "path");
  const [from, to] = [ROW * query + ROW / 2, ROW * key + ROW / 2];
  path.setAttribute("d", `M0 ${from}C50 ${from} 50 ${to} 100 ${to}`);
  path.setAttribute("opacity", Math.sqrt(weight));
  path.setAttribute("stroke-width", 1 + 4 * weight);
  return path;
}

/** The weights of a head as a picture, one dot for each pair of tokens. */
function paint(canvas, weights, n) {
  canvas.width = canvas.height = n;
  const image = new ImageData(n, n);
  weights.forEach((weight, i) => image.data.set([...INK, 255 * Math.sqrt(weight)], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
}
