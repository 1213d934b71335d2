import { encode as encodeAll, reader, type DType } from '@heed/core';
import { describe, expect, test } from 'vitest';
import { fromBfloat16, fromFloat16, toBfloat16, toFloat16 } from '../src/emit/half.ts';
import { instructions, type Value } from '../src/emit/instruction.ts';
import { cos, exp, log, pow, sigmoid, sin, tanh, type Lanes } from '../src/emit/math.ts';
import { instantiate } from './harness.ts';

const { i32, v128 } = instructions;

type Unary = (lanes: Lanes, x: Value<'v128'>, y: Value<'v128'>) => Value<'v128'>;

/** Runs a function over arrays whose length is a multiple of 4; words in, words out. */
function over(build: Unary, fused: boolean): (x: Uint32Array, y?: Uint32Array) => Uint32Array {
  const { run, memory } = instantiate({ x: 'i32', y: 'i32', out: 'i32', bytes: 'i32' }, [], (f, { x, y, out, bytes }) => {
    const at = f.local('at', 'i32');
    f.for(at, { to: bytes, step: 16 }, () => {
      f.do(v128.store(i32.add(out, at), build({ f, fused }, v128.load(i32.add(x, at)), v128.load(i32.add(y, at)))));
    });
  });
  return (x, y = x) => {
    const bytes = x.byteLength;
    const pages = Math.ceil((3 * bytes) / 65_536) + 1;
    const present = memory.buffer.byteLength / 65_536;
    if (present < pages) memory.grow(pages - present);
    new Uint32Array(memory.buffer, 0, x.length).set(x);
    new Uint32Array(memory.buffer, bytes, y.length).set(y);
    run(0, bytes, 2 * bytes, bytes);
    return new Uint32Array(memory.buffer, 2 * bytes, x.length).slice();
  };
}

const words = (floats: ArrayLike<number>): Uint32Array => new Uint32Array(Float32Array.from(floats).buffer);
const floats = (bits: Uint32Array): Float32Array => new Float32Array(bits.slice().buffer);

/** Distance in float32 steps at the size of the true value; denormals have the steps of 2⁻¹⁴⁹. */
function ulps(got: number, want: number): number {
  if (Object.is(got, want) || (Number.isNaN(got) && Number.isNaN(want))) return 0;
  const rounded = Math.fround(want);
  if (got === rounded) return Math.min(0.5, Math.abs(got - want) / 2 ** -149);
  if (!Number.isFinite(got) || !Number.isFinite(rounded)) {
    // The next float above the largest would be 2¹²⁸.
    const limit = (value: number): number => (Number.isFinite(value) ? value : Math.sign(value) * 2 ** 128);
    return Math.abs(limit(got) - limit(want)) / 2 ** 104;
  }
  const exponent = Math.max(-126, Math.floor(Math.log2(Math.abs(want))));
  return Math.abs(got - want) / 2 ** (exponent - 23);
}

/** Evenly spaced floats from low to high, and every 2¹²-th bit pattern within. */
function sweep(low: number, high: number, count = 400_000): number[] {
  const points = Array.from({ length: count }, (_, index) => Math.fround(low + ((high - low) * index) / (count - 1)));
  const pattern = new Float32Array(1);
  const bits = new Uint32Array(pattern.buffer);
  for (let word = 0; word < 2 ** 32; word += 2 ** 13 + 1) {
    bits[0] = word;
    if (pattern[0]! >= low && pattern[0]! <= high) points.push(pattern[0]!);
  }
  while (points.length % 4 !== 0) points.push(low);
  return points;
}

const denormal = 2 ** -149;
const edges = [0, -0, denormal, -denormal, 2 ** -126, -(2 ** -126), 1, -1, 0.5, -0.5, 3.4028234663852886e38, -3.4028234663852886e38, Infinity, -Infinity, NaN, 1e-30];

interface Row {
  readonly name: string;
  readonly build: Unary;
  readonly meaning: (x: number) => number;
  readonly from: number;
  readonly to: number;
  /** Largest error stated in math.ts: fused and not. */
  readonly bound: readonly [fused: number, plain: number];
  readonly edges: readonly number[];
}

const logistic = (x: number): number => 1 / (1 + Math.exp(-x));
const rows: readonly Row[] = [
  { name: 'exp', build: exp, meaning: Math.exp, from: -110, to: 92, bound: [1, 1], edges },
  { name: 'log', build: log, meaning: Math.log, from: 0, to: 3.4e38, bound: [1, 1], edges },
  { name: 'log near 1', build: log, meaning: Math.log, from: 0.4, to: 2.5, bound: [1, 1], edges: [] },
  { name: 'tanh', build: tanh, meaning: Math.tanh, from: -12, to: 12, bound: [6, 6], edges },
  { name: 'sigmoid', build: sigmoid, meaning: logistic, from: -110, to: 110, bound: [3, 3], edges },
  { name: 'sin', build: sin, meaning: Math.sin, from: -100, to: 100, bound: [2, 2], edges: edges.filter((x) => !(Math.abs(x) > 2 ** 27) || Math.abs(x) === Infinity) },
  { name: 'sin of large angles', build: sin, meaning: Math.sin, from: -(2 ** 27) + 8, to: 2 ** 27 - 8, bound: [2, 2], edges: [] },
  { name: 'cos', build: cos, meaning: Math.cos, from: -100, to: 100, bound: [2, 2], edges: edges.filter((x) => !(Math.abs(x) > 2 ** 27) || Math.abs(x) === Infinity) },
  { name: 'cos of large angles', build: cos, meaning: Math.cos, from: -(2 ** 27) + 8, to: 2 ** 27 - 8, bound: [2, 2], edges: [] },
];

// Expected values: the engine's float64 functions, good to about 1e-16.
describe.each([true, false])('elementary functions, fused multiply-add: %s', (fused) => {
  test.each(rows)('$name stays within its stated error', ({ build, meaning, from, to, bound, edges: special }) => {
    const inputs = [...special, ...sweep(from, to)];
    while (inputs.length % 4 !== 0) inputs.push(from);
    const got = floats(over(build, fused)(words(inputs)));
    let worst = { ulps: 0, x: 0, got: 0, want: 0 };
    inputs.forEach((x, index) => {
      const want = meaning(Math.fround(x));
      const error = ulps(got[index]!, want);
      if (!(error <= worst.ulps)) worst = { ulps: error, x, got: got[index]!, want };
    });
    expect(worst.ulps, JSON.stringify(worst)).toBeLessThanOrEqual(bound[fused ? 0 : 1]);
  });

  test('pow stays within 1 ULP, over bases and exponents', () => {
    const bases = [0, denormal, 1e-38, 1e-5, 0.1, 0.5, 0.9999999, 1, 1.0000001, 1.5, 2, 10, 1e5, 3e38, Infinity, NaN, ...sweep(0.01, 20, 400).slice(0, 400)];
    const exponents = [-0, 0, 1, -1, 0.5, 2, 3, 10, -10, 100.5, -3.25, 1e-7, 30, 1000, -1000, 0.3333333];
    const pairs = bases.flatMap((base) => exponents.map((exponent) => [Math.fround(base), Math.fround(exponent)] as const));
    const got = floats(over((lanes, x, y) => pow(lanes, x, y), fused)(words(pairs.map(([base]) => base)), words(pairs.map(([, exponent]) => exponent))));
    let worst = { ulps: 0, base: 0, exponent: 0, got: 0, want: 0 };
    pairs.forEach(([base, exponent], index) => {
      const want = base ** exponent;
      const error = ulps(got[index]!, want);
      if (!(error <= worst.ulps)) worst = { ulps: error, base, exponent, got: got[index]!, want };
    });
    expect(worst.ulps, JSON.stringify(worst)).toBeLessThanOrEqual(1);
  });

  test('a negative base is NaN, exponent 0 gives 1', () => {
    const got = floats(over((lanes, x, y) => pow(lanes, x, y), fused)(words([-2, -2, NaN, 0]), words([3, 0, 0, 0])));
    expect([...got]).toEqual([NaN, 1, 1, 1]);
  });
});

describe('half precision', () => {
  const decoder = (dtype: DType) => (bits: number): number => reader(dtype, Uint16Array.of(bits))(0);
  const encoder = (dtype: DType) => (value: number): number => encodeAll([value], dtype)[0]!;
  const all = Uint32Array.from({ length: 65_536 }, (_, bits) => bits);

  test.each([
    ['f16', (lanes: Lanes, x: Value<'v128'>) => fromFloat16(lanes.f, x), decoder('f16')],
    ['bf16', (_: Lanes, x: Value<'v128'>) => fromBfloat16(x), decoder('bf16')],
  ] as const)('every %s number is exact as float32', (_, build, decode) => {
    const got = floats(over(build, true)(all));
    all.forEach((bits) => {
      if (!Object.is(got[bits], decode(bits))) expect([bits, got[bits]]).toEqual([bits, decode(bits)]);
    });
  });

  test.each([
    ['f16', (lanes: Lanes, x: Value<'v128'>) => toFloat16(lanes.f, x), encoder('f16'), decoder('f16')],
    ['bf16', (lanes: Lanes, x: Value<'v128'>) => toBfloat16(lanes.f, x), encoder('bf16'), decoder('bf16')],
  ] as const)('float32 is rounded to the nearest %s, ties to even', (_, build, encode, decode) => {
    // Every number of the type, the middle to its neighbour, and the floats beside that middle.
    const inputs: number[] = [...edges, 65504, 65519.996, 65520, 65536, -65520];
    for (let bits = 0; bits < 65_536; bits += 3) {
      const value = decode(bits);
      if (!Number.isFinite(value)) continue;
      const next = decode(bits + 1);
      const middle = Number.isFinite(next) ? Math.fround((value + next) / 2) : value;
      inputs.push(value, middle, Math.fround(middle * (1 + 2 ** -22)), Math.fround(middle * (1 - 2 ** -22)));
    }
    for (const x of sweep(-70_000, 70_000, 4000)) inputs.push(x);
    while (inputs.length % 4 !== 0) inputs.push(0);
    const got = over(build, true)(words(inputs));
    inputs.forEach((x, index) => {
      const rounded = Math.fround(x);
      const want = encode(rounded);
      const same = Number.isNaN(rounded) ? Number.isNaN(decode(got[index]!)) : got[index] === want;
      if (!same) expect([x, got[index]]).toEqual([x, want]);
    });
  });
});
