// Runs the network away from the page, which stays responsive. In: {load: address} once, then {run: number, ...}.

import { Bert, visibility } from "./bert.js";

let bert = null;

async function fetched(address, onBytes = null) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${response.status} for ${address.pathname.split("/").at(-1)}`);
  if (!onBytes || !response.body) return new Uint8Array(await response.arrayBuffer());
  const total = Number(response.headers.get("Content-Length")) || Infinity;
  const parts = [];
  let length = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    length += value.length;
    onBytes(Math.min(length / total, 1));
  }
  const whole = new Uint8Array(length);
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

async function load(address) {
  const file = (name) => new URL(name, address);
  const [weights, config, vocabulary] = await Promise.all([
    fetched(file("model.safetensors"), (share) => postMessage({ progress: share })),
    fetched(file("config.json")),
    fetched(file("vocab.txt")),
  ]);
  const text = (bytes) => new TextDecoder().decode(bytes);
  const settings = JSON.parse(text(config));
  bert = new Bert(weights.buffer, settings);
  postMessage({ ready: true, config: settings, vocabulary: text(vocabulary).split("\n").slice(0, -1) });
}

function run({ run: number, ids, segments, look, unseen, order, at }) {
  const visible = visibility(ids.length, look, unseen);
  const started = performance.now();
  const result = bert.run(ids, { segments, visible, order, at });
  postMessage({ number, ...result, milliseconds: performance.now() - started });
}

onmessage = async ({ data }) => {
  try {
    if (data.load) await load(data.load);
    else run(data);
  } catch (error) {
    postMessage({ failed: error.message, number: data.run });
  }
};
