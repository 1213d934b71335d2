import { describe, test } from 'vitest';
import type { Scoring } from '../../src/index.ts';
import { additive, attention, bilinear, cosine, distance, dot as dotScoring, gat, gatV2, gaussian, lowRank, none, scaledDot, scoring, toFloat64 } from '../../src/index.ts';
import type { Formulas, Tables, Vector } from '../plain.ts';
import { dot, expectPlain, random, sizes } from '../plain.ts';

// Expected values: the formulas of VARIANTS' scoring table, in nested loops; weights are the scores, so that nothing cancels.
const { heads, keyHeads, dim } = sizes;
const width = 3;
const squared = (a: Vector, b: Vector): number => a.reduce((sum, x, c) => sum + (x - b[c]!) ** 2, 0);
const length = (x: Vector): number => Math.sqrt(dot(x, x));
const leaky = (x: number, slope: number): number => (x >= 0 ? x : slope * x);
/** Row-major matrix times vector. */
const times = (matrix: ArrayLike<number>, start: number, rows: number, x: Vector): Vector => Array.from({ length: rows }, (_, r) => x.reduce((sum, element, c) => sum + matrix[start + r * x.length + c]! * element, 0));
const wq = random(21, [width, dim]);
const wk = random(22, [width, dim]);
const vector = random(23, [width]);
const bias = random(24, [width]);
const square = random(25, [dim, dim]);
const headWq = random(26, [heads, width, dim]);
const headWk = random(27, [keyHeads, width, dim]);
const headVector = random(28, [heads, width]);
const queryVector = random(29, [1, dim]);
const keyVector = random(30, [1, dim]);
const [AQ, AK] = [[...toFloat64(queryVector)], [...toFloat64(keyVector)]];
const [Wq, Wk, V, C, S, HWq, HWk, HV] = [wq, wk, vector, bias, square, headWq, headWk, headVector].map(toFloat64) as [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];

const members: readonly [string, Scoring, NonNullable<Formulas['score']>, Tables?][] = [
  ['dot', dotScoring(), (q, k) => dot(q, k)],
  ['scaled dot', scaledDot(), (q, k) => dot(q, k) / Math.sqrt(dim)],
  ['scaled dot with another scale', scaledDot({ scale: 0.3 }), (q, k) => 0.3 * dot(q, k)],
  ['bilinear on the key side', bilinear({ width: dim }), (q, k) => dot(q, times(S, 0, dim, k)), { bilinear: square }],
  ['bilinear on the query side', bilinear({ width: dim, side: 'query' }), (q, k) => dot(times(S, 0, dim, q), k), { bilinear: square }],
  ['low rank', lowRank({ rank: width }), (q, k) => dot(times(Wq, 0, width, q), times(Wk, 0, width, k)) / Math.sqrt(width), { queryFactor: wq, keyFactor: wk }],
  ['additive', additive({ width }), (q, k) => times(Wq, 0, width, q).reduce((sum, x, c) => sum + V[c]! * Math.tanh(x + times(Wk, 0, width, k)[c]!), 0), { queryProjection: wq, keyProjection: wk, vector }],
  [
    'additive with a bias', additive({ width, bias: true, scale: 2 }), (q, k) => 2 * times(Wq, 0, width, q).reduce((sum, x, c) => sum + V[c]! * Math.tanh(x + times(Wk, 0, width, k)[c]! + C[c]!), 0),
    { queryProjection: wq, keyProjection: wk, vector, queryProjectionBias: bias },
  ],
  [
    'additive with tables for each head', additive({ width, perHead: true }),
    (q, k, { h }) => times(HWq, h * width * dim, width, q).reduce((sum, x, c) => sum + HV[h * width + c]! * Math.tanh(x + times(HWk, 0, width, k)[c]!), 0),
    { queryProjection: headWq, keyProjection: headWk, vector: headVector },
  ],
  ['cosine', cosine({ scale: 5 }), (q, k) => (5 * dot(q, k)) / (length(q) * length(k))],
  ['cosine with a large ε', cosine({ epsilon: 10 }), (q, k) => dot(q, k) / 100],
  ['distance', distance(), (q, k) => -squared(q, k) / Math.sqrt(dim)],
  ['Gaussian', gaussian({ bandwidth: 1.5 }), (q, k) => -squared(q, k) / (2 * 1.5 ** 2)],
  ['GAT', gat({ perHead: false }), (q, k) => leaky(dot(q, AQ) + dot(k, AK), 0.2), { queryVector, keyVector }],
  [
    'GATv2 with tables for each head', gatV2({ width, slope: 0.1 }),
    (q, k, { h }) => times(HWq, h * width * dim, width, q).reduce((sum, x, c) => sum + HV[h * width + c]! * leaky(x + times(HWk, 0, width, k)[c]!, 0.1), 0),
    { queryProjection: headWq, keyProjection: headWk, vector: headVector },
  ],
  ["a user's own", scoring('manhattan', ({ queryElement, keyElement }) => queryElement.sub(keyElement).abs().neg(), { scale: 1 }), (q, k) => -q.reduce((sum, x, c) => sum + Math.abs(x - k[c]!), 0)],
];

describe('scores are what the formulas say', () => {
  test.each(members)('%s', (_, member, score, tables = {}) => expectPlain(attention({ scoring: member, normalization: none() }), { score, weights: (scores) => scores }, tables));
});

test('a Gaussian is blind to ‖q‖² under softmax: q·k/h² − ‖k‖²/2h² weighs alike', () =>
  expectPlain(attention({ scoring: gaussian({ bandwidth: 1.5 }) }), { score: (q, k) => (dot(q, k) - dot(k, k) / 2) / 1.5 ** 2 }));
