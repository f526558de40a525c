// BERT's forward pass, as companion/model/ computes it: embeddings, layers of attention and feed-forward, both heads.

import { product } from "./matmul.js";

const PAGE = 65536; // bytes; WebAssembly's memory comes in these
const BLOCK = 4; // rows that the fast product writes at a time

const roundUp = (value, step) => Math.ceil(value / step) * step;

/** A safetensors file: name to {dtype, shape, bytes}. */
function tensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  delete header.__metadata__;
  const entries = Object.entries(header).map(([name, { dtype, shape, data_offsets: [start, end] }]) => {
    return [name, { dtype, shape, bytes: new Uint8Array(buffer, 8 + length + start, end - start) }];
  });
  return new Map(entries);
}

/** A number of 16 bits (IEEE 754 half) as a float. */
function half(bits) {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** Writes a tensor as floats: fp32 as it is, 8 bits times the scale of its run of columns. */
function writeFloats({ dtype, bytes }, scales, target) {
  const own = bytes.slice().buffer; // a copy begins where a number may begin
  if (dtype === "F32") return target.set(new Float32Array(own));
  const whole = new Int8Array(own);
  const steps = Float32Array.from(new Uint16Array(scales.bytes.slice().buffer), half);
  const run = whole.length / steps.length;
  for (let group = 0, at = 0; group < steps.length; group++) {
    for (const end = at + run; at < end; at++) target[at] = whole[at] * steps[group];
  }
}

const ERF = [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587,
  -0.82215223, 0.17087277];

/** erf to 1.2e-7 (Press et al., Numerical Recipes, section 6.2). */
export function erf(x) {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  let series = 0;
  for (let i = ERF.length - 1; i >= 0; i--) series = series * t + ERF[i];
  const rest = t * Math.exp(-x * x + series);
  return x < 0 ? rest - 1 : 1 - rest;
}

const gelu = (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2));

/** Softmax in place over `count` numbers from `start` on; those equal to -Infinity get no weight. */
function softmax(values, start, count) {
  let highest = -Infinity;
  for (let i = start; i < start + count; i++) highest = Math.max(highest, values[i]);
  let sum = 0;
  for (let i = start; i < start + count; i++) sum += values[i] = Math.exp(values[i] - highest);
  for (let i = start; i < start + count; i++) values[i] /= sum;
}

/** Which key each query may look at, (tokens, tokens) of 0 and 1, or null for all: `look` is "all" or "earlier". */
export function visibility(tokens, look = "all", unseen = []) {
  if (look === "all" && !unseen.length) return null;
  const visible = new Uint8Array(tokens * tokens).fill(1);
  for (let query = 0; query < tokens; query++) {
    if (look === "earlier") visible.fill(0, query * tokens + query + 1, (query + 1) * tokens);
    for (const key of unseen) if (key !== query) visible[query * tokens + key] = 0;
  }
  return visible;
}

export class Bert {
  /** `buffer`: the safetensors file of companion.deployment.browser; `config`: its config.json. */
  constructor(buffer, config) {
    this.config = config;
    this.hidden = config.hidden_size;
    this.heads = config.num_attention_heads;
    const stored = tensors(buffer);
    const names = [...stored.keys()].filter((name) => !name.endsWith(".scale"));
    const size = (name) => roundUp(stored.get(name).shape.reduce((a, b) => a * b, 1), BLOCK);
    const rows = roundUp(config.max_position_embeddings, BLOCK);
    const scratch = {
      x: rows * this.hidden, query: rows * this.hidden, key: rows * this.hidden, value: rows * this.hidden,
      mixed: rows * this.hidden, inner: rows * config.intermediate_size, out: rows * this.hidden,
      answer: BLOCK * roundUp(config.vocab_size, 2),
    };
    const floats = names.reduce((sum, name) => sum + size(name), 0) + Object.values(scratch).reduce((a, b) => a + b);
    const memory = new WebAssembly.Memory({ initial: Math.ceil((4 * floats) / PAGE) });
    this.memory = new Float32Array(memory.buffer);
    this.product = product(memory);
    this.at = new Map(); // name of a weight to its place in memory
    let place = 0;
    for (const name of names) {
      this.at.set(name, place);
      writeFloats(stored.get(name), stored.get(`${name}.scale`), this.memory.subarray(place, place + size(name)));
      place += size(name);
    }
    this.scratch = {};
    for (const [name, length] of Object.entries(scratch)) {
      this.scratch[name] = place;
      place += length;
    }
  }

  /**
   * Runs the network on one row of token ids.
   *
   * segments: 0 or 1 for each token; visible: see `visibility`; order: false gives all tokens one and the same position
   * vector, the mean; at: places whose token is asked for. Returns {logits: one Float32Array for each of `at`,
   * attentions: [layer][head] of Float32Array (tokens, tokens), nextSentence: the two logits of that head}.
   */
  run(ids, { segments = null, visible = null, order = true, at = [], nextSentence = false } = {}) {
    const n = ids.length;
    if (n > this.config.max_position_embeddings) throw new RangeError(`${n} tokens are more than the positions`);
    this._embed(ids, segments, order);
    const attentions = [];
    for (let layer = 0; layer < this.config.num_hidden_layers; layer++) attentions.push(this._layer(layer, n, visible));
    const result = { attentions, logits: at.map((place) => this._tokenLogits(place)) };
    if (nextSentence) result.nextSentence = this._sentenceLogits();
    return result;
  }

  _embed(ids, segments, order) {
    const { memory, hidden } = this;
    const table = (name) => this.at.get(`bert.embeddings.${name}_embeddings.weight`);
    const [words, positions, kinds] = [table("word"), table("position"), table("token_type")];
    const mean = new Float32Array(hidden);
    ids.forEach((_, i) => {
      for (let d = 0; d < hidden; d++) mean[d] += memory[positions + i * hidden + d] / ids.length;
    });
    ids.forEach((id, i) => {
      const segment = segments ? segments[i] : 0;
      for (let d = 0; d < hidden; d++) {
        const position = order ? memory[positions + i * hidden + d] : mean[d];
        const vector = memory[words + id * hidden + d] + position + memory[kinds + segment * hidden + d];
        memory[this.scratch.x + i * hidden + d] = vector;
      }
    });
    this._norm("bert.embeddings.LayerNorm", this.scratch.x, ids.length);
  }

  /** One encoder layer, in place on scratch.x; returns the weights of its heads. */
  _layer(layer, n, visible) {
    const { x, query, key, value, mixed, inner, out } = this.scratch;
    const name = `bert.encoder.layer.${layer}`;
    this._dense(`${name}.attention.self.query`, x, query, n);
    this._dense(`${name}.attention.self.key`, x, key, n);
    this._dense(`${name}.attention.self.value`, x, value, n);
    const weights = [];
    for (let head = 0; head < this.heads; head++) weights.push(this._attend(head, n, visible));
    this._dense(`${name}.attention.output.dense`, mixed, out, n);
    this._addAndNorm(`${name}.attention.output.LayerNorm`, n);
    this._dense(`${name}.intermediate.dense`, x, inner, n);
    const count = n * this.config.intermediate_size;
    for (let i = inner; i < inner + count; i++) this.memory[i] = gelu(this.memory[i]);
    this._dense(`${name}.output.dense`, inner, out, n);
    this._addAndNorm(`${name}.output.LayerNorm`, n);
    return weights;
  }

  /** softmax(QKᵀ/√d) V of one head, into scratch.mixed; returns the weights, (tokens, tokens). */
  _attend(head, n, visible) {
    const { memory, hidden, scratch } = this;
    const size = hidden / this.heads;
    const from = head * size;
    const weights = new Float32Array(n * n);
    for (let i = 0; i < n; i++) {
      const q = scratch.query + i * hidden + from;
      for (let j = 0; j < n; j++) {
        const k = scratch.key + j * hidden + from;
        let score = 0;
        for (let d = 0; d < size; d++) score += memory[q + d] * memory[k + d];
        weights[i * n + j] = visible && !visible[i * n + j] ? -Infinity : score / Math.sqrt(size);
      }
      softmax(weights, i * n, n);
      const target = scratch.mixed + i * hidden + from;
      memory.fill(0, target, target + size);
      for (let j = 0; j < n; j++) {
        const weight = weights[i * n + j];
        const v = scratch.value + j * hidden + from;
        for (let d = 0; d < size; d++) memory[target + d] += weight * memory[v + d];
      }
    }
    return weights;
  }

  /** What the masked-language head gives every token of the vocabulary at one place. */
  _tokenLogits(place) {
    const { x, query, out, answer } = this.scratch;
    const { vocab_size } = this.config;
    this.memory.copyWithin(query, x + place * this.hidden, x + (place + 1) * this.hidden);
    this._dense("cls.predictions.transform.dense", query, out, 1);
    for (let i = out; i < out + this.hidden; i++) this.memory[i] = gelu(this.memory[i]);
    this._norm("cls.predictions.transform.LayerNorm", out, 1);
    const [words, bias] = ["bert.embeddings.word_embeddings.weight", "cls.predictions.bias"].map((name) => this.at.get(name));
    this.product(out, words, bias, answer, 1, this.hidden, vocab_size);
    return this.memory.slice(answer, answer + vocab_size);
  }

  /** Logits of next-sentence prediction: the second text follows the first, or it does not. */
  _sentenceLogits() {
    const { x, query, out } = this.scratch;
    this._dense("bert.pooler.dense", x, query, 1);
    for (let i = query; i < query + this.hidden; i++) this.memory[i] = Math.tanh(this.memory[i]);
    this.product(query, this.at.get("cls.seq_relationship.weight"), this.at.get("cls.seq_relationship.bias"), out, 1, this.hidden, 2);
    return this.memory.slice(out, out + 2);
  }

  _dense(name, from, to, rows) {
    const [weight, bias] = [this.at.get(`${name}.weight`), this.at.get(`${name}.bias`)];
    const [inputs, outputs] = this._sizes(name);
    this.product(from, weight, bias, to, rows, inputs, outputs);
  }

  _sizes(name) {
    const { intermediate_size: inner } = this.config;
    if (name.endsWith("intermediate.dense")) return [this.hidden, inner];
    if (/layer\.\d+\.output\.dense$/.test(name)) return [inner, this.hidden];
    return [this.hidden, this.hidden];
  }

  _addAndNorm(name, n) {
    const { x, out } = this.scratch;
    for (let i = 0; i < n * this.hidden; i++) this.memory[x + i] += this.memory[out + i];
    this._norm(name, x, n);
  }

  _norm(name, start, rows) {
    const { memory, hidden } = this;
    const [weight, bias] = [this.at.get(`${name}.weight`), this.at.get(`${name}.bias`)];
    for (let row = start; row < start + rows * hidden; row += hidden) {
      let mean = 0;
      let variance = 0;
      for (let d = 0; d < hidden; d++) mean += memory[row + d] / hidden;
      for (let d = 0; d < hidden; d++) variance += (memory[row + d] - mean) ** 2 / hidden;
      const scale = 1 / Math.sqrt(variance + this.config.layer_norm_eps);
      for (let d = 0; d < hidden; d++) {
        memory[row + d] = (memory[row + d] - mean) * scale * memory[weight + d] + memory[bias + d];
      }
    }
  }
}

/** The likeliest of `logits` with their probabilities at a temperature, the likeliest first: [{id, probability}]. */
export function likeliest(logits, count, temperature = 1) {
  let highest = -Infinity;
  for (const logit of logits) highest = Math.max(highest, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp((logit - highest) / temperature);
  const ids = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a]).slice(0, count);
  return ids.map((id) => ({ id, probability: Math.exp((logits[id] - highest) / temperature) / sum }));
}
