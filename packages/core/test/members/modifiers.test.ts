import { describe, test } from 'vitest';
import type { Modifier } from '../../src/index.ts';
import {
  additiveBias, addRow, alibi, alibiSlopes, attention, decomposedBias, headScale, leakyRelu, lengthScaling, none, relativeQuery, scalableSoftmax, scaledDot, shaw, softcap, t5Bias, t5BucketTable, temperature, temperatureTuning, tensor, toFloat64,
} from '../../src/index.ts';
import type { Formulas, Pair, Tables, Vector } from '../plain.ts';
import { dot, expectPlain, random, sizes } from '../plain.ts';

// Expected values: the formulas of VARIANTS §4 and of the papers, in nested loops. Queries stand at 1, 2, 3, 4, keys at 0 … 4.
const { batch, heads, queryLength, keyLength, dim } = sizes;
const scaled = (q: Vector, k: Vector): number => dot(q, k) / 2;
const clamp = (x: number, low: number, high: number): number => Math.min(Math.max(x, low), high);
const perHead = random(31, [heads]);
const a = toFloat64(perHead);
const bias = random(32, [batch, heads, queryLength, keyLength]);
const rows = random(33, [5, dim]);
const headRows = random(34, [heads, 6, dim]);
const headBias = random(35, [heads, 6]);
const t5 = random(36, [heads, 8]);
const tall = random(37, [5, dim]);
const wide = random(38, [3, dim]);
const [B, R, H, C, T, Y, X] = [bias, rows, headRows, headBias, t5, tall, wide].map(toFloat64) as [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];
const rowOf = (data: Float64Array, at: number): Vector => [...data.subarray(at * dim, (at + 1) * dim)];
/** Raffel's formula with 8 buckets up to a distance of 16, both directions. */
const bucket = ({ p, r }: Pair): number => {
  const d = r - p;
  const n = Math.abs(d);
  return (d > 0 ? 4 : 0) + (n < 2 ? n : Math.min(3, 2 + Math.floor((Math.log(n / 2) / Math.log(16 / 2)) * 2)));
};

const members: readonly [string, Modifier | readonly Modifier[], NonNullable<Formulas['score']>, Tables?][] = [
  ['softcap', softcap(0.5), (q, k) => 0.5 * Math.tanh(scaled(q, k) / 0.5)],
  ['temperature', temperature(3), (q, k) => scaled(q, k) / 3],
  ['ALiBi', alibi(), (q, k, { h, p, r }) => scaled(q, k) - 2 ** (-4 * (h + 1)) * Math.abs(p - r), { slopes: tensor(alibiSlopes(heads), [heads]) }],
  ['T5 buckets', t5Bias({ buckets: 8, maxDistance: 16 }), (q, k, at) => scaled(q, k) + T[at.h * 8 + bucket(at)]!, { t5Bias: t5, t5Buckets: tensor(t5BucketTable({ buckets: 8, maxDistance: 16, bidirectional: true }), [33]) }],
  ['an additive bias', additiveBias(), (q, k, { b, h, i, j }) => scaled(q, k) + B[((b * heads + h) * queryLength + i) * keyLength + j]!, { bias }],
  ['Shaw', shaw({ maxOffset: 2 }), (q, k, { p, r }) => (dot(q, k) + dot(q, rowOf(R, clamp(r - p, -2, 2) + 2))) / 2, { relativeKeys: rows }],
  ['relative rows by distance, with a bias', relativeQuery({ rows: 6, first: -2, bias: true }), (q, k, { h, p, r }) => {
    const d = clamp(p - r + 2, 0, 5);
    return (dot(q, k) + dot(q, rowOf(H, h * 6 + d)) + C[h * 6 + d]!) / 2;
  }, { relativeRows: headRows, relativeRowsBias: headBias }],
  ['the decomposed bias of an image of 3 × 2', decomposedBias({ height: 3, width: 2 }), (q, k, { p, r }) =>
    scaled(q, k) + dot(q, rowOf(Y, Math.floor(p / 2) - Math.floor(r / 2) + 2)) + dot(q, rowOf(X, (p % 2) - (r % 2) + 1)), { relativeHeight: tall, relativeWidth: wide }],
  ['a factor for each head', headScale(), (q, k, { h }) => a[h]! * scaled(q, k), { headScale: perHead }],
  ['a leaky rectifier', leakyRelu({ slope: 0.3 }), (q, k) => (scaled(q, k) >= 0 ? 1 : 0.3) * scaled(q, k)],
  ['length scaling by position', lengthScaling({ trained: 3 }), (q, k, { p }) => (scaled(q, k) * Math.log(p + 1)) / Math.log(3)],
  ['length scaling of longer rows only', lengthScaling({ trained: 3, onlyLonger: true }), (q, k, { p }) => scaled(q, k) * Math.max(1, Math.log(p + 1) / Math.log(3))],
  ['length scaling by keys', lengthScaling({ trained: 3, measure: 'keys' }), (q, k) => (scaled(q, k) * Math.log(keyLength)) / Math.log(3)],
  ['scalable softmax', scalableSoftmax(), (q, k, { h, p }) => a[h]! * Math.log(p + 1) * scaled(q, k), { lengthFactors: perHead }],
  ['temperature tuning', temperatureTuning({ strength: 0.2, step: 2 }), (q, k, { p }) => scaled(q, k) * (1 + 0.2 * Math.log(1 + Math.floor((p + 1) / 2)))],
  ['the order in which they are listed (L2)', [softcap(0.5), additiveBias(), temperature(2)], (q, k, { b, h, i, j }) => (0.5 * Math.tanh(scaled(q, k) / 0.5) + B[((b * heads + h) * queryLength + i) * keyLength + j]!) / 2, { bias }],
];

describe('modified scores are what the formulas say', () => {
  test.each(members)('%s', (_, given, score, tables = {}) =>
    expectPlain(attention({ scoring: scaledDot().modify(...[given].flat()), normalization: none() }), { score, weights: (scores) => scores }, tables));

  test('Transformer-XL: [(q + u)·k + (q + v)·r] / √dim (Dai 2019, section 3.3)', async () => {
    const u = random(41, [heads, dim]);
    const v = toFloat64(random(42, [heads, dim]));
    const of = (data: Float64Array, h: number): Vector => [...data.subarray(h * dim, (h + 1) * dim)];
    const U = toFloat64(u);
    const plus = (x: Vector, y: Vector): Vector => x.map((each, c) => each + y[c]!);
    const difference = Float64Array.from({ length: heads * 6 }, (_, at) => dot(of(v, Math.floor(at / 6)).map((each, c) => each - of(U, Math.floor(at / 6))[c]!), rowOf(H, at)));
    await expectPlain(
      attention({ scoring: scaledDot().transformQuery(addRow({ table: 'u', perHead: 'head' })).modify(relativeQuery({ rows: 6, first: -2, bias: true })), normalization: none() }),
      { score: (q, k, { h, p, r }) => (dot(plus(q, of(U, h)), k) + dot(plus(q, of(v, h)), rowOf(H, h * 6 + clamp(p - r + 2, 0, 5)))) / 2, weights: (scores) => scores },
      { u, relativeRows: headRows, relativeRowsBias: tensor(difference, [heads, 6]) },
    );
  });
});
