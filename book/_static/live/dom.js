// Small helpers for building and steering what is on the page.

/** An element: make("button", {class: "x", onclick: f, "--w": 0.5, disabled: true}, "text", node, ...). */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** One stop of the tab key for a group of buttons; the arrows move within it, by `columns` up and down. */
export class Roving {
  constructor(group, { columns = 1, onmove = null } = {}) {
    this.group = group;
    this.columns = columns;
    this.onmove = onmove;
    this.current = 0;
    group.addEventListener("keydown", (event) => this._key(event));
    group.addEventListener("focusin", (event) => this._mark(this.buttons.indexOf(event.target)));
  }

  /** Puts new buttons into the group; the focus stays at its place. */
  replace(nodes) {
    const had = this.group.contains(document.activeElement);
    this.group.replaceChildren(...nodes);
    this._mark(Math.max(0, Math.min(this.current, this.buttons.length - 1)));
    if (had) this.buttons[this.current]?.focus();
  }

  get buttons() {
    return [...this.group.querySelectorAll("button:not([disabled])")];
  }

  _mark(index) {
    if (index < 0) return;
    this.current = index;
    this.buttons.forEach((button, i) => (button.tabIndex = i === index ? 0 : -1));
  }

  _key(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns };
    const { buttons } = this;
    let target = this.current + (steps[event.key] ?? NaN);
    if (event.key === "Home") target = 0;
    if (event.key === "End") target = buttons.length - 1;
    if (!buttons[target]) return;
    event.preventDefault();
    buttons[target].focus();
    this.onmove?.(target);
  }
}

/** The classes of a token; those of companion/show/live.py. */
export function tokenClasses(token, special) {
  if (token === "[MASK]") return "bl-token bl-mask";
  if (special) return "bl-token bl-special";
  return token.startsWith("##") ? "bl-token bl-piece" : "bl-token";
}

export const percent = (share) => `${(100 * share).toFixed(1)}%`;
