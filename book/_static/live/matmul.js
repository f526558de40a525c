// The product of two matrices, where a BERT spends nearly all of its time: in plain JavaScript, and the same as a
// WebAssembly function of some two hundred instructions, put together here, which takes four numbers at a time.

/** out (m, n) = a (m, k) · wᵀ + bias, with w (n, k). All are places in `memory`, counted in floats. */
export function plainProduct(memory) {
  return (a, w, bias, out, m, k, n) => {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let p = 0; p < k; p++) sum += memory[a + i * k + p] * memory[w + j * k + p];
        memory[out + i * n + j] = sum + memory[bias + j];
      }
    }
  };
}

/** The fast product where the browser has vectors of four numbers (all have since 2023), else the plain one. */
export function product(memory) {
  try {
    return fastProduct(memory);
  } catch {
    return plainProduct(new Float32Array(memory.buffer));
  }
}

/** The same through WebAssembly, for k a multiple of 4 and n of 2. It writes whole blocks of four rows. */
export function fastProduct(buffer) {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(program()), { js: { memory: buffer } });
  return (a, w, bias, out, m, k, n) => exports.product(4 * a, 4 * w, 4 * bias, 4 * out, m, k, n);
}

const [I32, V128] = [0x7f, 0x7b];
const ROWS = 4; // of a block of the result
const COLUMNS = 2;
const [A, W, BIAS, OUT, M, K, N] = [0, 1, 2, 3, 4, 5, 6]; // parameters
const [I, J, STRIDE, LEFT] = [7, 8, 9, 10];
const FROM = 11; // addresses: ROWS in a, then COLUMNS in w
const SUMS = FROM + ROWS + COLUMNS; // ROWS * COLUMNS vectors of partial sums
const VALUES = SUMS + ROWS * COLUMNS; // ROWS + COLUMNS vectors just read

/** An unsigned number in LEB128, as the format writes all of them. */
const leb = (number) => (number < 128 ? [number] : [(number & 127) | 128, ...leb(number >>> 7)]);
const list = (items) => [...leb(items.length), ...items.flat()];
const section = (id, content) => [id, ...list(content)];
const text = (name) => list([...name].map((letter) => letter.charCodeAt(0)));

const get = (local) => [0x20, ...leb(local)];
const set = (local) => [0x21, ...leb(local)];
const number = (value) => [0x41, value]; // below 64
const plus = 0x6a;
const times = 0x6c;
const scaled = (value) => [...value, ...number(2), 0x74]; // a count of floats in bytes
const simd = (code) => [0xfd, ...leb(code)];
const increase = (local, by) => [...get(local), ...number(by), plus, ...set(local)];
const load = [...simd(0), 4, 0];
const zero = [...simd(12), ...Array(16).fill(0)];
const multiply = simd(0xe6);
const add = simd(0xe4);
const lane = (index) => [...simd(0x1f), index];
const addFloats = 0x92;
const storeFloat = [0x38, 2, 0];
const loadFloat = [0x2a, 2, 0];
const repeat = (body, ...condition) => [0x03, 0x40, ...body, ...condition, 0x0d, 0, 0x0b]; // while the condition holds

const range = (count) => [...Array(count).keys()];

function program() {
  const block = range(ROWS).flatMap((row) => range(COLUMNS).map((column) => [row, column]));
  const sum = ([row, column]) => SUMS + row * COLUMNS + column;

  const startAt = (local, base, index, ahead) => [
    ...get(base), ...get(index), ...number(ahead), plus, ...get(STRIDE), times, plus, ...set(local),
  ];
  const start = [
    ...range(ROWS).flatMap((row) => startAt(FROM + row, A, I, row)),
    ...range(COLUMNS).flatMap((column) => startAt(FROM + ROWS + column, W, J, column)),
    ...block.flatMap((one) => [...zero, ...set(sum(one))]),
    ...get(K), ...set(LEFT),
  ];
  const step = [
    ...range(ROWS + COLUMNS).flatMap((one) => [...get(FROM + one), ...load, ...set(VALUES + one)]),
    ...block.flatMap(([row, column]) => [
      ...get(VALUES + row), ...get(VALUES + ROWS + column), ...multiply,
      ...get(sum([row, column])), ...add, ...set(sum([row, column])),
    ]),
    ...range(ROWS + COLUMNS).flatMap((one) => increase(FROM + one, 16)),
    ...get(LEFT), ...number(4), 0x6b, 0x22, ...leb(LEFT),
  ];
  const finish = block.flatMap(([row, column]) => [
    ...scaled([...get(I), ...number(row), plus, ...get(N), times, ...get(J), plus, ...number(column), plus]),
    ...get(OUT), plus,
    ...range(4).flatMap((index) => [...get(sum([row, column])), ...lane(index), ...(index ? [addFloats] : [])]),
    ...scaled([...get(J), ...number(column), plus]), ...get(BIAS), plus, ...loadFloat, addFloats,
    ...storeFloat,
  ]);
  const below = (local, limit) => [...get(local), ...get(limit), 0x49];
  const columns = repeat([...start, ...repeat(step), ...finish, ...increase(J, COLUMNS)], ...below(J, N));
  const body = [
    ...scaled(get(K)), ...set(STRIDE),
    ...repeat([...number(0), ...set(J), ...columns, ...increase(I, ROWS)], ...below(I, M)),
    0x0b,
  ];
  const locals = list([
    [SUMS - I, I32],
    [ROWS * COLUMNS + ROWS + COLUMNS, V128],
  ]);
  return new Uint8Array([
    0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, list([[0x60, ...list(Array(7).fill(I32)), 0]])),
    ...section(2, list([[...text("js"), ...text("memory"), 2, 0, 1]])),
    ...section(3, list([0])),
    ...section(7, list([[...text("product"), 0, 0]])),
    ...section(10, list([list([...locals, ...body])])),
  ]);
}
