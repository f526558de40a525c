// The element <run-calculator>: it shows the table that came with the page, and puts sliders above it. What a size
// takes per token, per row and at all is Python's (companion.show.calculator); here are three products and a sum.

import { make } from "./live/dom.js";

const BILLIONS = [0.05, 0.5, 1, 2, 4.4, 10, 20, 43, 100];
const ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const GPUS = [1, 2, 4, 8, 16, 32, 64];

/** Hours, bytes on each GPU and dollars of a plan. */
export function plan({ size, billions, rows, gpus, speed, price }) {
  const hours = (size.flopsPerToken * billions * 1e9) / (speed * gpus) / 3600;
  return { hours, bytes: size.stateBytes + rows * size.rowBytes, dollars: hours * gpus * price };
}

/** A number with two or three digits that count, and a comma for thousands. */
export const short = (value) =>
  value.toLocaleString("en", { maximumFractionDigits: value < 1 ? 2 : value < 20 ? 1 : 0 });

/** Hours in the unit that a person would use. */
export function time(hours) {
  if (hours < 1 / 60) return `${short(hours * 3600)} seconds`;
  if (hours < 1.5) return `${short(hours * 60)} minutes`;
  return hours < 72 ? `${short(hours)} hours` : `${short(hours / 24)} days`;
}

class RunCalculator extends HTMLElement {
  connectedCallback() {
    if (this.output) return;
    const { sizes, speed, price, start } = JSON.parse(this.dataset.given);
    Object.assign(this, { speed, price });
    this.choices = [
      this.slider("BERT", sizes, sizes.findIndex(({ name }) => name === "base"), (s) => `${s.name}, ${s.shape}`),
      this.slider("Tokens", BILLIONS, BILLIONS.indexOf(start.billions), (n) => `${n} billion`),
      this.slider("Rows on each GPU", ROWS, ROWS.indexOf(start.rows), String),
      this.slider("GPUs", GPUS, GPUS.indexOf(start.gpus), String),
    ];
    this.output = make("output", { class: "rc-result" });
    this.prepend(make("div", { class: "rc-live" }, ...this.choices.map(({ node }) => node), this.output));
    this.show();
  }

  slider(name, values, at, written) {
    const input = make("input", { type: "range", min: 0, max: values.length - 1, value: at, "aria-label": name });
    const said = make("span", { class: "rc-value" });
    const value = () => values[Number(input.value)];
    const tell = () => {
      said.textContent = written(value());
      input.setAttribute("aria-valuetext", said.textContent);
    };
    input.addEventListener("input", () => {
      tell();
      this.show();
    });
    tell();
    return { value, node: make("label", {}, make("span", {}, name), input, said) };
  }

  show() {
    const [size, billions, rows, gpus] = this.choices.map(({ value }) => value());
    const { hours, bytes, dollars } = plan({ size, billions, rows, gpus, speed: this.speed, price: this.price });
    const parts = [time(hours), `${short(bytes / 1e9)} GB on each GPU`, `${short(dollars)} dollars`];
    this.output.replaceChildren(...parts.map((part) => make("strong", {}, part)));
  }
}

customElements.define("run-calculator", RunCalculator);
