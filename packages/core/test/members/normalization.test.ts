import { describe, expect, test } from 'vitest';
import type { Aggregation, Normalization } from '../../src/index.ts';
import {
  attention, causal, dropout, entmax, gumbel, hardMax, laser, maximum, none, normalization, outputGate, positionWeight, relu, reluSquared, reweighing, rowSum, scaledDot, sigmoid, softmax, softmaxOffByOne, sparsemax, tensor, toFloat64, weightedSum, window, write,
} from '../../src/index.ts';
import type { Formulas, Tables, Vector } from '../plain.ts';
import { dot, expectClose, expectPlain, plain, random, run, sizes, softmaxOf, total } from '../plain.ts';

// Expected values: the formulas of VARIANTS §5, in nested loops, with thresholds found by halving an interval instead of sorting. Queries stand at 1, 2, 3, 4 and see keys 0 … position.
const { batch, heads, queryLength, keyLength, valueDim } = sizes;
const masking = window({ left: Infinity, right: 0 });
const allowed: NonNullable<Formulas['allowed']> = ({ p, r }) => r <= p;
const sinks = random(61, [heads]);
const centerOf = (b: number, i: number): number => (b * queryLength + i) * 0.4;
const gates = random(62, [batch, heads, queryLength, valueDim]);
const z = toFloat64(sinks);
const G = toFloat64(gates);
const logistic = (x: number): number => 1 / (1 + Math.exp(-x));
const sharper = (scores: Vector): Vector => scores.map((s) => 4 * s);

/** [(α − 1) s − τ]₊^(1/(α−1)) with τ by 200 halvings. */
const thresholded = (alpha: number) => (scores: Vector): Vector => {
  const weights = (tau: number): Vector => scores.map((s) => Math.max((alpha - 1) * s - tau, 0) ** (1 / (alpha - 1)));
  let [low, high] = [Math.min(...scores) * (alpha - 1) - 2, Math.max(...scores) * (alpha - 1)];
  for (let halving = 0; halving < 200; halving++) {
    const middle = (low + high) / 2;
    if (total(weights(middle)) > 1) low = middle;
    else high = middle;
  }
  return weights(low);
};

const members: readonly [string, Normalization, NonNullable<Formulas['weights']>, Tables?][] = [
  ['softmax', softmax(), softmaxOf],
  ['softmax with a temperature', softmax({ temperature: 0.25 }), (s) => softmaxOf(sharper(s))],
  ['softmax with sinks and a temperature, which leaves the sink alone', softmax({ sink: true, temperature: 0.25 }), (s, { h }) => sharper(s).map((each) => Math.exp(each) / (total(sharper(s).map(Math.exp)) + Math.exp(z[h]!))), { sink: sinks }],
  ['softmax off by one', softmaxOffByOne(), (s) => s.map((each) => Math.exp(each) / (1 + total(s.map(Math.exp))))],
  ['sigmoid by keys', sigmoid(), (s) => s.map((each) => logistic(each - Math.log(keyLength)))],
  ['sigmoid by position', sigmoid({ length: 'position' }), (s, { p }) => s.map((each) => logistic(each - Math.log(p + 1)))],
  ['sigmoid by a number', sigmoid({ length: 7 }), (s) => s.map((each) => logistic(each - Math.log(7)))],
  ['sigmoid with a bias', sigmoid({ bias: 0.5 }), (s) => s.map((each) => logistic(each + 0.5))],
  ['ReLU', relu(), (s) => s.map((each) => Math.max(each, 0) / keyLength)],
  ['ReLU by position', relu({ length: 'position' }), (s, { p }) => s.map((each) => Math.max(each, 0) / (p + 1))],
  ['ReLU², n dividing the square', reluSquared({ length: 3 }), (s) => s.map((each) => Math.max(each, 0) ** 2 / 3)],
  ['sparsemax', sparsemax(), thresholded(2)],
  ['entmax-1.5', entmax(1.5), thresholded(1.5)],
  ['entmax with α = 1.25', entmax(1.25), thresholded(1.25)],
  ['entmax with α = 3', entmax(3), thresholded(3)],
  ['row sum', rowSum({ epsilon: 0.5 }), (s) => s.map((each) => each / (total(s) + 0.5))],
  ['none', none(), (s) => s],
  ['hard max', hardMax(), (s) => s.map((_, index) => Number(s.indexOf(Math.max(...s)) === index))],
  ["a user's own", normalization('cubed', ({ score }) => score.mul(score).mul(score)), (s) => s.map((each) => each ** 3)],
  ['a bell around a centre, not normalized again', softmax().reweighBy(positionWeight({ deviation: 1.5 })), (s, { b, i }, pairs) => softmaxOf(s).map((w, at) => w * Math.exp(-((pairs[at]!.r - centerOf(b, i)) ** 2) / (2 * 1.5 ** 2))), { centers: tensor(Float64Array.from({ length: batch * queryLength }, (_, at) => centerOf(0, at)), [batch, 1, queryLength]) }],
];

describe('weights are what the formulas say', () => {
  test.each(members)('%s', (_, member, weights, tables = {}) => expectPlain(attention({ masking, normalization: member }), { allowed, weights }, tables));

  test('Gumbel: noise of the same seed is the same, and averages to softmax', async () => {
    const scoring = scaledDot();
    const draws = 100;
    const mean = new Float64Array(batch * heads * queryLength * valueDim);
    for (let seed = 0; seed < draws; seed++) {
      const { output } = await run(attention({ scoring, masking, normalization: gumbel({ seed, hard: true }) }));
      toFloat64(output).forEach((each, index) => (mean[index] = mean[index]! + each / draws));
    }
    // A choice by noisy maximum has the probabilities of softmax (Gumbel 1954); values within ±1, so 5 standard errors are at most 5 / √draws.
    plain({ allowed }).forEach((want, index) => expect(Math.abs(mean[index]! - want)).toBeLessThan(5 / Math.sqrt(draws)));
    const soft = async (seed: number): Promise<Float64Array> => toFloat64((await run(attention({ normalization: gumbel({ seed }) }))).output);
    expect(await soft(1)).toEqual(await soft(1));
    expect(await soft(1)).not.toEqual(await soft(2));
  });

  test('dropout: weights are 0 or divided by 1 − p, and keep their mean', async () => {
    const draws = 100;
    const mean = new Float64Array(batch * heads * queryLength * valueDim);
    for (let seed = 0; seed < draws; seed++) {
      const { output } = await run(attention({ masking, normalization: softmax().reweighBy(dropout({ probability: 0.25, seed })) }));
      toFloat64(output).forEach((each, index) => (mean[index] = mean[index]! + each / draws));
    }
    plain({ allowed }).forEach((want, index) => expect(Math.abs(mean[index]! - want)).toBeLessThan(5 / Math.sqrt(draws)));
    await expectPlain(attention({ masking, normalization: softmax().reweighBy(dropout({ probability: 0, seed: 1 })) }), { allowed });
  });

  test('changes of weights follow one another', () => {
    const squared = reweighing('squared', ({ weight }) => weight.mul(weight));
    const halved = reweighing('halved', ({ weight }) => weight.mul(0.5));
    return expectPlain(attention({ normalization: softmax().reweighBy(squared).reweighBy(halved) }), { weights: (s) => softmaxOf(s).map((w) => 0.5 * w * w) });
  });
});

const aggregations: readonly [string, Aggregation, NonNullable<Formulas['aggregate']>, Tables?][] = [
  ['weighted sum', weightedSum(), (w, v) => dot(w, v)],
  ['largest weighted value', maximum(), (w, v) => Math.max(...w.map((each, index) => each * v[index]!))],
  ['LASER', laser(), (w, v) => Math.log(total(w.map((each, index) => each * Math.exp(v[index]!))))],
  ['output gate', weightedSum().finishBy(outputGate()), (w, v, { b, h, i }, c) => dot(w, v) * logistic(G[((b * heads + h) * queryLength + i) * valueDim + c]!), { gate: gates }],
  ['prepared twice', weightedSum().prepareBy(write('prepare', 'square', ({ value }) => value.mul(value))).prepareBy(write('prepare', 'shift', ({ value, channel }) => value.add(channel.toF32()))), (w, v, _, c) => dot(w, v.map((each) => each * each + c))],
  ['finished twice', laser().finishBy(write('finish', 'exp', ({ output }) => output.exp())).finishBy(write('finish', 'twice', ({ output }) => output.mul(2))), (w, v) => 2 * total(w.map((each, index) => each * Math.exp(v[index]!)))],
];

describe('aggregation is what the formulas say', () => {
  test.each(aggregations)('%s', (_, aggregation, aggregate, tables = {}) => expectPlain(attention({ masking, aggregation }), { allowed, aggregate }, tables));

  test('LASER takes no notice of a weight of 0, however large the value', async () => {
    const first = reweighing('first', ({ weight, keyIndex }) => keyIndex.eq(0).select(0, weight));
    const value = tensor(Float64Array.from({ length: batch * keyLength * valueDim }, (_, at) => (Math.floor(at / valueDim) % keyLength === 0 ? 1000 : 0)), [batch, 1, keyLength, valueDim]);
    const { output } = await run(attention({ normalization: softmax().reweighBy(first), aggregation: laser() }), { value });
    const want = plain({ aggregate: (w) => Math.log(total(w.slice(1))) });
    expectClose(output, want);
  });

  test('LASER survives values beyond the range of exp', async () => {
    const value = tensor(new Float64Array(batch * keyLength * valueDim).fill(1e4), [batch, 1, keyLength, valueDim]);
    expectClose((await run(attention({ masking: causal(), aggregation: laser() }), { value })).output, new Float64Array(batch * heads * queryLength * valueDim).fill(1e4));
  });
});
