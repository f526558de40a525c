// One worker with one model for all elements of a page.

import { Tokenizer } from "./tokenizer.js";

const engines = new Map(); // name of a model to the promise of its engine

/** The engine of a model, fetched at the first call; `onProgress` gets the share that has arrived. */
export function engine(model, onProgress) {
  if (!engines.has(model)) {
    const promise = new Engine(model).load(onProgress);
    engines.set(model, promise);
    promise.catch(() => engines.delete(model)); // so that the next call tries again
  }
  return engines.get(model);
}

class Engine {
  constructor(model) {
    this.address = new URL(`./${model}/`, import.meta.url).href;
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map(); // number of a question to what to do with its answer
    this.asked = 0;
  }

  load(onProgress) {
    return new Promise((resolve, reject) => {
      const fail = (message) => {
        this.worker.terminate();
        reject(new Error(message));
      };
      this.worker.onerror = (event) => fail(event.message ?? "its program did not load");
      this.worker.onmessage = ({ data }) => {
        if (data.progress !== undefined) onProgress?.(data.progress);
        else if (data.number !== undefined) this._answer(data);
        else if (data.failed) fail(data.failed);
        else resolve(this._begin(data));
      };
      this.worker.postMessage({ load: this.address });
    });
  }

  /** Runs a row: {ids, segments, look, unseen, order, at}; see Bert.run. */
  run(row) {
    const number = ++this.asked;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      this.worker.postMessage({ run: number, ...row });
    });
  }

  _begin({ config, vocabulary }) {
    this.config = config;
    this.tokenizer = new Tokenizer(vocabulary, config.tokenizer);
    return this;
  }

  _answer(data) {
    const { resolve, reject } = this.waiting.get(data.number);
    this.waiting.delete(data.number);
    if (data.failed) reject(new Error(data.failed));
    else resolve(data);
  }
}
