import { describe, test } from 'vitest';
import type { RowTransform } from '../../src/index.ts';
import {
  addRow, attention, based, cosformer, dpfp, elementwise, eluFeatures, expFeatures, favor, hedgehog, l2Norm, layerNorm, none, projection, reluFeatures, rmsNorm, rope, scaledDot, tensor, toFloat64,
} from '../../src/index.ts';
import type { Formulas, Pair, Tables, Vector } from '../plain.ts';
import { dot, expectPlain, random, sizes, total } from '../plain.ts';

// Expected values: the formulas of VARIANTS §4.4–4.6 and §7.2, in nested loops.
const { heads, dim } = sizes;
const gain = random(51, [dim]);
const shift = random(52, [dim]);
const matrix = random(53, [3, dim]);
const matrixBias = random(54, [3]);
const frequencies = tensor([1, 0.1], [2], { dtype: 'f64' });
const omega = random(55, [5, dim]);
const perHead = random(56, [heads, dim]);
const [G, S, M, C, O, P] = [gain, shift, matrix, matrixBias, omega, perHead].map(toFloat64) as [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];
const relu = (x: number): number => Math.max(x, 0);
const mean = (x: Vector): number => total(x) / x.length;

type Map = (x: Vector, position: number, head: number) => Vector;

const rotate = (pairs: readonly (readonly [number, number])[], angles: Vector, factor = 1): Map => (x, p) => {
  const result = [...x];
  pairs.forEach(([first, second], pair) => {
    const [c, s] = [Math.cos(p * angles[pair]!), Math.sin(p * angles[pair]!)];
    result[first] = factor * (x[first]! * c - x[second]! * s);
    result[second] = factor * (x[first]! * s + x[second]! * c);
  });
  return result;
};

const favorFeatures: Map = (x) => {
  const scaled = x.map((each) => each / Math.sqrt(Math.sqrt(dim)));
  return Array.from({ length: 5 }, (_, l) => Math.exp(dot([...O.subarray(l * dim, (l + 1) * dim)], scaled) - dot(scaled, scaled) / 2) / Math.sqrt(5));
};

const rolled = (x: Vector, by: number): Vector => x.map((_, index) => x[(index - by + x.length) % x.length]!);
const dpfpFeatures: Map = (x) => {
  const r = [...x.map(relu), ...x.map((each) => relu(-each))];
  return [1, 2].flatMap((by) => r.map((each, index) => each * rolled(r, by)[index]!));
};

const members: readonly [string, RowTransform, Map, Tables?][] = [
  ['elu + 1', eluFeatures(), (x) => x.map((each) => (each > 0 ? each + 1 : Math.exp(each)))],
  ['relu', reluFeatures(), (x) => x.map(relu)],
  ['exp', expFeatures(), (x) => x.map(Math.exp)],
  ['hedgehog', hedgehog(), (x) => [...x.map(Math.exp), ...x.map((each) => Math.exp(-each))]],
  ['hedgehog as a softmax', hedgehog({ softmax: true }), (x) => [...x, ...x.map((each) => -each)].map((each) => Math.exp(each) / total([...x, ...x.map((y) => -y)].map(Math.exp)))],
  ['DPFP', dpfp({ order: 2 }), dpfpFeatures],
  ['cosFormer', cosformer({ horizon: 16 }), (x, p) => [...x.map((each) => relu(each) * Math.cos((Math.PI * p) / 32)), ...x.map((each) => relu(each) * Math.sin((Math.PI * p) / 32))]],
  ['FAVOR+', favor({ features: 5 }), favorFeatures, { favorFrequencies: omega }],
  ['L2 norm', l2Norm(), (x) => x.map((each) => each / Math.sqrt(dot(x, x)))],
  ['RMS norm with a weight', rmsNorm({ epsilon: 1e-3, weight: 'gain' }), (x) => x.map((each, c) => (each / Math.sqrt(mean(x.map((y) => y * y)) + 1e-3)) * G[c]!), { gain }],
  ['RMS norm with 1 + weight', rmsNorm({ epsilon: 1e-3, weight: 'gain', onePlusWeight: true }), (x) => x.map((each, c) => (each / Math.sqrt(mean(x.map((y) => y * y)) + 1e-3)) * (1 + G[c]!)), { gain }],
  ['layer norm', layerNorm({ epsilon: 1e-3, weight: 'gain', bias: 'shift' }), (x) => x.map((each, c) => ((each - mean(x)) / Math.sqrt(mean(x.map((y) => (y - mean(x)) ** 2)) + 1e-3)) * G[c]! + S[c]!), { gain, shift }],
  ['rotary, halves', rope({ pairing: 'half' }), rotate([[0, 2], [1, 3]], [1, 0.01])],
  ['rotary, interleaved, another base and magnitude', rope({ pairing: 'interleaved', base: 100, magnitude: 1.25 }), rotate([[0, 1], [2, 3]], [1, 0.1], 1.25)],
  ['rotary, part of the row', rope({ pairing: 'half', width: 2 }), rotate([[0, 1]], [1])],
  ['rotary, frequencies in a table', rope({ pairing: 'interleaved', frequencies: 'theta' }), rotate([[0, 1], [2, 3]], [1, 0.1]), { theta: frequencies }],
  ['projection', projection({ width: 3, bias: true }), (x) => Array.from({ length: 3 }, (_, r) => dot([...M.subarray(r * dim, (r + 1) * dim)], x) + C[r]!), { projection: matrix, projectionBias: matrixBias }],
  ['addRow', addRow(), (x) => x.map((each, c) => each + S[c]!), { row: shift }],
  ["a user's own", elementwise('squared', ({ element }) => element.mul(element)), (x) => x.map((each) => each * each)],
];

const formulas = (map: Map): Formulas => ({ score: (q: Vector, k: Vector, { h, p, r }: Pair) => 0.5 * dot(map(q, p, h), map(k, r, 0)), weights: (scores) => scores });

describe('transformed rows are what the formulas say', () => {
  test.each(members)('%s', (_, member, map, tables = {}) => expectPlain(attention({ scoring: scaledDot({ scale: 0.5 }).transform(member), normalization: none() }), formulas(map), tables));

  test('Based: the product of two rows is 1 + s + s²/2', () =>
    expectPlain(attention({ scoring: scaledDot({ scale: 1 }).transform(based()), normalization: none() }), { score: (q, k) => 1 + dot(q, k) / 2 + (dot(q, k) / 2) ** 2 / 2, weights: (scores) => scores }));

  test('a row for each query head', () =>
    expectPlain(attention({ scoring: scaledDot().transformQuery(addRow({ perHead: 'head' })), normalization: none() }), { score: (q, k, { h }) => dot(q.map((x, c) => x + P[h * dim + c]!), k) / 2, weights: (scores) => scores }, { row: perHead }));

  test('first to last, and the scale follows the final width', () =>
    expectPlain(
      attention({ scoring: scaledDot().transform(projection({ width: 3, bias: true }), eluFeatures(), hedgehog()), normalization: none() }),
      {
        score: (q, k) => {
          const map = (x: Vector): Vector => {
            const y = Array.from({ length: 3 }, (_, r) => dot([...M.subarray(r * dim, (r + 1) * dim)], x) + C[r]!).map((each) => (each > 0 ? each + 1 : Math.exp(each)));
            return [...y.map(Math.exp), ...y.map((each) => Math.exp(-each))];
          };
          return dot(map(q), map(k)) / Math.sqrt(6);
        },
        weights: (scores) => scores,
      },
      { projection: matrix, projectionBias: matrixBias },
    ));
});
