// The element <attention-stepper>: it shows the table that came with the page, and turns it into something to move.
// One query looks in six steps; keys are dragged, tokens hidden, scores multiplied. The numbers are those of Python's
// companion.show.stepper.

import { make, Roving } from "./live/dom.js";

const SVG = "http://www.w3.org/2000/svg";
const SIZE = 260; // of a plane, in units of the drawing
const GRID = 0.25; // keys stop at multiples of it
const STEPS = ["Scores", "Scaling", "Exponentials", "Sum", "Weights", "Mixing"];
const COLUMNS = ["score", "÷ √2", "e^…", "weight"];
const FIRST_SHOWN = [1, 2, 3, 5]; // the step at which a column appears

/** Scores to weights to the mixture, for one query; `seen[i]` says whether key i may be looked at. */
export function attend({ query, keys, values, seen, factor }) {
  const scores = keys.map((key) => factor * (query[0] * key[0] + query[1] * key[1]));
  const scaled = scores.map((score) => score / Math.SQRT2);
  const exponentials = scaled.map((score, i) => (seen[i] ? Math.exp(score) : 0));
  const sum = exponentials.reduce((a, b) => a + b, 0);
  const weights = exponentials.map((one) => one / sum);
  const output = [0, 1].map((d) => weights.reduce((total, weight, i) => total + weight * values[i][d], 0));
  return { scores, scaled, exponentials, sum, weights, output };
}

/** A number as the page writes it: up to four decimals, none that is only zeros. */
export function written(value) {
  if (!Number.isFinite(value)) return "–";
  if (Math.abs(value) >= 1e5) return value.toExponential(2);
  return String(Number(value.toFixed(4))).replace("-", "−");
}

const draw = (name, attributes, text = "") => {
  const node = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
  node.textContent = text;
  return node;
};

/** A square piece of the plane; what is dragged in it stays inside. */
class Plane {
  constructor(title, label, low, high) {
    Object.assign(this, { low, high });
    this.svg = draw("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "group", "aria-label": label });
    this.node = make("figure", { class: "as-plane" }, make("figcaption", {}, title), this.svg);
  }

  at([x, y]) {
    const scale = SIZE / (this.high - this.low);
    return [(x - this.low) * scale, (this.high - y) * scale];
  }

  back(event) {
    const box = this.svg.getBoundingClientRect();
    const scale = (this.high - this.low) / box.width;
    return [this.low + (event.clientX - box.left) * scale, this.high - (event.clientY - box.top) * scale];
  }

  inside(number) {
    const stopped = Math.round(number / GRID) * GRID;
    return Math.min(this.high - GRID, Math.max(this.low + GRID, stopped));
  }

  line(from, to, name) {
    const [[x1, y1], [x2, y2]] = [this.at(from), this.at(to)];
    return draw("line", { x1, y1, x2, y2, class: name });
  }

  text(point, words, [dx, dy] = [0, 0], anchor = "middle") {
    const [x, y] = this.at(point);
    return draw("text", { x: x + dx, y: y + dy, "text-anchor": anchor }, words);
  }

  axes() {
    const { low, high } = this;
    return [this.line([low, 0], [high, 0], "as-axis"), this.line([0, low], [0, high], "as-axis")];
  }
}

class AttentionStepper extends HTMLElement {
  connectedCallback() {
    if (this.rows) return;
    this.rows = JSON.parse(this.dataset.given);
    this._start();
    this._build();
    this._update();
    window.addEventListener("beforeprint", () => this._go(STEPS.length)); // on paper all steps stand
  }

  _start() {
    const { keys, tokens, query } = this.rows;
    this.state = { query, keys: keys.map((key) => [...key]), seen: tokens.map(() => true), factor: 1, step: 1 };
  }

  get numbers() {
    const { query, keys, seen, factor } = this.state;
    return attend({ query: this.rows.queries[query], keys, values: this.rows.values, seen, factor });
  }

  _build() {
    const { tokens, values, queries, keys } = this.rows;
    const reach = 1 + Math.ceil(Math.max(...[...queries, ...keys].flat().map(Math.abs)));
    this.plane = new Plane("The query and the keys: drag a key", "Keys in the plane", -reach, reach);
    const all = values.flat();
    this.mixed = new Plane("Values, and what comes out", "Values and output", Math.min(0, ...all) - 1, Math.max(...all) + 1);
    this.handles = tokens.map((name, i) => this._handle(name, i));
    this.moving = draw("g", {});
    this.plane.svg.append(...this.plane.axes(), this.moving, ...this.handles);
    this.mixed.svg.setAttribute("role", "img");
    this.said = make("p", { class: "as-said", role: "status" });
    this.body = make("tbody", {});
    this.replaceChildren(this._steps(), this.said, make("div", { class: "as-parts" }, this.plane.node, this._table(), this.mixed.node), this._controls());
    this.classList.add("as-live");
  }

  _steps() {
    this.dots = STEPS.map((name, i) => make("button", { type: "button", role: "radio", onclick: () => this._go(i + 1) }, `${i + 1} ${name}`));
    const bar = make("div", { class: "as-steps", role: "radiogroup", "aria-label": "Step" }, ...this.dots);
    new Roving(bar, { onmove: (i) => this._go(i + 1) });
    this.back = make("button", { type: "button", onclick: () => this._go(this.state.step - 1) }, "← Back");
    this.next = make("button", { type: "button", class: "as-next", onclick: () => this._go(this.state.step + 1) }, "Next step →");
    return make("div", { class: "as-head" }, bar, make("span", { class: "as-turn" }, this.back, this.next));
  }

  _table() {
    const head = make("tr", {}, make("th", {}, make("span", { class: "as-aria" }, "token")),
      ...COLUMNS.map((name) => make("th", { scope: "col" }, name)));
    this.total = make("p", { class: "as-sum" });
    return make("div", { class: "as-table" }, make("table", {}, make("thead", {}, head), this.body), this.total);
  }

  _controls() {
    const { tokens } = this.rows;
    this.who = make("select", { onchange: (event) => this._set({ query: Number(event.target.value) }) },
      ...tokens.map((name, i) => make("option", { value: i }, name)));
    this.slider = make("input", { type: "range", min: 0, max: 4, step: 0.1, oninput: (event) => this._set({ factor: Number(event.target.value) }) });
    this.factor = make("output", {});
    this.boxes = tokens.map((_, i) => make("input", { type: "checkbox", onchange: (event) => this._see(i, event.target.checked) }));
    const sees = make("fieldset", {}, make("legend", {}, "It may look at"),
      ...tokens.map((name, i) => make("label", {}, this.boxes[i], ` ${name}`)));
    const again = () => {
      this._start();
      this._update();
    };
    return make("div", { class: "as-controls" }, make("label", {}, "Who looks: ", this.who), sees,
      make("label", {}, "Scores times t = ", this.factor, this.slider),
      make("button", { type: "button", onclick: again }, "Start again"));
  }

  _handle(name, i) {
    const group = draw("g", { class: "as-key", tabindex: 0, role: "button" });
    const drag = (event) => group.hasPointerCapture(event.pointerId) && this._move(i, this.plane.back(event));
    group.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      group.focus({ preventScroll: true });
      group.setPointerCapture(event.pointerId);
    });
    group.addEventListener("pointermove", drag);
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!step) return;
      event.preventDefault();
      this._move(i, this.state.keys[i].map((value, d) => value + GRID * step[d]));
    });
    group.append(draw("circle", { r: 18, class: "as-hold" }), draw("rect", { x: -5, y: -5, width: 10, height: 10 }), draw("text", { x: -9, y: 15, "text-anchor": "end" }));
    return group;
  }

  _move(i, point) {
    this.state.keys[i] = point.map((value) => this.plane.inside(value));
    this._update();
  }

  _see(i, seen) {
    this.state.seen[i] = seen;
    this._update();
  }

  _set(change) {
    Object.assign(this.state, change);
    this._update();
  }

  _go(step) {
    this._set({ step: Math.min(STEPS.length, Math.max(1, step)) });
  }

  _update() {
    const numbers = this.numbers;
    const { step, query, factor, seen } = this.state;
    this.dots.forEach((dot, i) => {
      dot.setAttribute("aria-checked", String(i + 1 === step));
      dot.tabIndex = i + 1 === step ? 0 : -1;
    });
    this.back.disabled = step === 1;
    this.next.disabled = step === STEPS.length;
    this.who.value = query;
    this.slider.value = factor;
    this.factor.textContent = factor.toFixed(1);
    this.boxes.forEach((box, i) => (box.checked = seen[i]));
    this._fillTable(numbers);
    this._drawPlane(numbers);
    this._drawMixture(numbers);
    this.said.textContent = this._sentence(numbers);
  }

  _fillTable({ scores, scaled, exponentials, weights, sum }) {
    const { step, seen } = this.state;
    const columns = [scores, scaled, exponentials, weights];
    this.body.replaceChildren(...this.rows.tokens.map((name, i) => {
      const cells = columns.map((column, c) => make("td", {
        class: FIRST_SHOWN[c] > step ? "as-later" : FIRST_SHOWN[c] === step ? "as-now" : null,
        "--w": c === 3 && step >= FIRST_SHOWN[c] && sum ? weights[i] : 0,
      }, FIRST_SHOWN[c] > step ? "" : !seen[i] && c < 2 ? "hidden" : written(column[i])));
      return make("tr", { class: seen[i] ? null : "as-unseen" }, make("th", { scope: "row" }, name), ...cells);
    }));
    this.total.textContent = step < 4 ? "" : `sum of the exponentials: ${written(sum)}`;
  }

  _drawPlane({ scores }) {
    const { keys, query, seen } = this.state;
    const [x, y] = this.rows.queries[query];
    const length = Math.hypot(x, y) || 1;
    const far = 4 * this.plane.high;
    const across = [(-y / length) * far, (x / length) * far];
    const levels = keys.flatMap((key, i) => (seen[i] ? [this.plane.line([key[0] - across[0], key[1] - across[1]], [key[0] + across[0], key[1] + across[1]], "as-level")] : []));
    const [tipX, tipY] = this.plane.at([x, y]);
    const turn = (Math.atan2(-y, x) * 180) / Math.PI;
    const tip = draw("path", { d: "M0 0L-10 -5L-10 5Z", class: "as-tip", transform: `translate(${tipX} ${tipY}) rotate(${turn})` });
    const name = this.plane.text([x, y], `query of ${this.rows.tokens[query]}`, [4, -8]);
    this.moving.replaceChildren(...levels, this.plane.line([0, 0], [x, y], "as-query"), tip, name);
    this.handles.forEach((handle, i) => {
      const [px, py] = this.plane.at(keys[i]);
      handle.setAttribute("transform", `translate(${px} ${py})`);
      handle.classList.toggle("as-unseen", !seen[i]);
      const label = this.rows.tokens[i];
      handle.setAttribute("aria-label", `Key of ${label} at ${keys[i].map(written).join(", ")}; arrow keys move it`);
      const beside = keys.some((key) => Math.abs(key[1] - keys[i][1]) < 0.5 && key[0] < keys[i][0] && keys[i][0] - key[0] < 3);
      handle.lastChild.setAttribute("text-anchor", beside ? "start" : "end");
      handle.lastChild.setAttribute("x", beside ? 9 : -9);
      handle.lastChild.textContent = seen[i] ? `${label}: ${written(scores[i])}` : `${label}: hidden`;
    });
  }

  _drawMixture({ weights, output, sum }) {
    const { values, tokens, valueNames } = this.rows;
    const plane = this.mixed;
    const corners = values.map((value) => plane.at(value).join(",")).join(" ");
    const done = this.state.step === STEPS.length && sum > 0;
    const pulls = done ? values.map((value, i) => {
      const line = plane.line(value, output, "as-pull");
      line.setAttribute("stroke-width", 8 * weights[i]);
      return line;
    }) : [];
    const [cx, cy] = plane.at(output);
    const dot = done ? [draw("circle", { cx, cy, r: 6, class: "as-output" })] : [];
    const spots = values.flatMap((value, i) => {
      const [x, y] = plane.at(value);
      return [draw("circle", { cx: x, cy: y, r: 4, class: "as-value" }), plane.text(value, tokens[i], [0, value[1] > 1 ? -10 : 18])];
    });
    const names = valueNames.length ? [plane.text([plane.high, 0], `${valueNames[0]} →`, [-4, -6], "end"), plane.text([0, plane.high], `↑ ${valueNames[1]}`, [6, 14], "start")] : [];
    plane.svg.replaceChildren(...plane.axes(), draw("polygon", { points: corners, class: "as-hull" }), ...pulls, ...spots, ...dot, ...names);
    plane.svg.setAttribute("aria-label", done ? `The output lies at ${output.map(written).join(", ")}` : "The values, before they are mixed");
  }

  _sentence({ scores, scaled, exponentials, sum, weights, output }) {
    const { tokens, values } = this.rows;
    const { step, query, seen, keys, factor } = this.state;
    const left = tokens.map((_, i) => i).filter((i) => seen[i]);
    if (!left.length) return "Every key is hidden: the sum is 0, and there is nothing to divide by.";
    const list = (numbers) => left.map((i) => `${tokens[i]} ${written(numbers[i])}`).join(", ");
    const best = left.reduce((a, b) => (scores[b] > scores[a] ? b : a));
    const [q, k] = [this.rows.queries[query], keys[best]];
    const times = factor === 1 ? "" : ` · ${factor.toFixed(1)}`;
    const sums = [0, 1].map((d) => left.map((i) => `${written(weights[i])} · ${written(values[i][d])}`).join(" + "));
    return [
      `The query of ${tokens[query]} times each key. For ${tokens[best]}: (${written(q[0])} · ${written(k[0])} + ${written(q[1])} · ${written(k[1])})${times} = ${written(scores[best])}.`,
      `Each score divided by √2 = 1.4142: ${list(scaled)}.`,
      `e to the power of each: ${list(exponentials)}. All are positive now.${left.length < tokens.length ? " A hidden key gives 0." : ""}`,
      `The exponentials add up to ${written(sum)}.`,
      `Each exponential divided by ${written(sum)}: ${list(weights)}. Together they are 1.`,
      `Each value times its weight, added: ${sums[0]} = ${written(output[0])}, and ${sums[1]} = ${written(output[1])}.`,
    ][step - 1];
  }
}

customElements.define("attention-stepper", AttentionStepper);
