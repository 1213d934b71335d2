import { describe, test } from 'vitest';
import type { Modifier, Normalization, RowTransform, Scoring } from '../../src/index.ts';
import {
  addRow, attention, additive, additiveBias, alibi, based, bilinear, causal, cosformer, cosine, decomposedBias, distance, dpfp, dropout, eluFeatures, entmax, expFeatures, favor, gat, gatV2, gumbel, hardMax, headScale, hedgehog, l2Norm, laser, layerNorm,
  leakyRelu, lengthScaling, lowRank, maximum, none, outputGate, positionWeight, projection, relativeQuery, relu, reluSquared, rmsNorm, rope, rowSum, scalableSoftmax, scaledDot, shaw, sigmoid, softmax, softmaxOffByOne, sparsemax, t5Bias, t5BucketTable, temperatureTuning, tensor, weightedSum, window,
} from '../../src/index.ts';
import type { Tables } from '../plain.ts';
import { random } from '../plain.ts';
import { checkGradients, heads, length } from '../reference/central-differences.ts';

// Expected values: central differences of the forward pass, which the other tests of this folder hold against the formulas.
const dim = 2;
const width = 3;

const scorings: readonly [string, Scoring, Tables?][] = [
  ['bilinear', bilinear({ width: dim, perHead: true }), { bilinear: random(1, [1, dim, dim]) }],
  ['bilinear on the query side', bilinear({ width: dim, side: 'query' }), { bilinear: random(1, [dim, dim]) }],
  ['low rank', lowRank({ rank: 1, perHead: true }), { queryFactor: random(1, [heads, 1, dim]), keyFactor: random(2, [1, 1, dim]) }],
  ['additive with tables for each head', additive({ width, bias: true, perHead: true }), { queryProjection: random(1, [heads, width, dim]), keyProjection: random(2, [1, width, dim]), vector: random(3, [heads, width]), queryProjectionBias: random(4, [heads, width]) }],
  ['cosine', cosine({ scale: 3 }), {}],
  ['distance', distance(), {}],
  ['GAT', gat(), { queryVector: random(1, [heads, 1, dim]), keyVector: random(2, [1, 1, dim]) }],
  ['GATv2', gatV2({ width }), { queryProjection: random(1, [heads, width, dim]), keyProjection: random(2, [1, width, dim]), vector: random(3, [heads, width]) }],
];

const modifiers: readonly [string, Modifier, Tables][] = [
  ['ALiBi', alibi(), { slopes: random(1, [heads]) }],
  ['T5 buckets', t5Bias({ buckets: 4, maxDistance: 3 }), { t5Bias: random(1, [heads, 4]), t5Buckets: tensor(t5BucketTable({ buckets: 4, maxDistance: 3, bidirectional: true }), [7]) }],
  ['an additive bias shared by the heads', additiveBias(), { bias: random(1, [1, 1, length, length]) }],
  ['Shaw', shaw({ maxOffset: 1 }), { relativeKeys: random(1, [3, dim]) }],
  ['Shaw for each head', shaw({ maxOffset: 1, perHead: true }), { relativeKeys: random(1, [heads, 3, dim]) }],
  ['relative rows', relativeQuery({ rows: 3, bias: true }), { relativeRows: random(1, [heads, 3, dim]), relativeRowsBias: random(2, [heads, 3]) }],
  ['the decomposed bias', decomposedBias({ height: 2, width: 2 }), { relativeHeight: random(1, [3, dim]), relativeWidth: random(2, [3, dim]) }],
  ['a factor for each head', headScale(), { headScale: random(1, [heads]) }],
  ['a leaky rectifier', leakyRelu(), {}],
  ['length scaling', lengthScaling({ trained: 2 }), {}],
  ['scalable softmax', scalableSoftmax(), { lengthFactors: random(1, [heads]) }],
  ['temperature tuning', temperatureTuning({ step: 2 }), {}],
];

const transforms: readonly [string, RowTransform, Tables?][] = [
  ['elu + 1', eluFeatures()],
  ['exp', expFeatures()],
  ['hedgehog', hedgehog({ softmax: true })],
  ['DPFP', dpfp({ order: 2 })],
  ['Based', based()],
  ['cosFormer', cosformer({ horizon: 8 })],
  ['FAVOR+', favor({ features: 3 }), { favorFrequencies: random(1, [3, dim]) }],
  ['L2 norm with a weight', l2Norm({ weight: 'gain' }), { gain: random(1, [dim]) }],
  ['RMS norm with 1 + weight', rmsNorm({ weight: 'gain', onePlusWeight: true }), { gain: random(1, [dim]) }],
  ['layer norm', layerNorm({ weight: 'gain', bias: 'shift', epsilon: 0.1 }), { gain: random(1, [dim]), shift: random(2, [dim]) }],
  ['rotary', rope({ pairing: 'half', base: 10, magnitude: 1.5 })],
  ['projection', projection({ width, bias: true }), { projection: random(1, [width, dim]), projectionBias: random(2, [width]) }],
  ['addRow', addRow(), { row: random(1, [dim]) }],
];

const normalizations: readonly [string, Normalization, Tables?][] = [
  ['softmax with sinks', softmax({ sink: true }), { sink: random(1, [heads]) }],
  ['softmax off by one', softmaxOffByOne()],
  ['sigmoid', sigmoid()],
  ['ReLU', relu()],
  ['ReLU²', reluSquared({ length: 'position' })],
  ['sparsemax', sparsemax()],
  ['entmax-1.5', entmax(1.5)],
  ['entmax with α = 1.25', entmax(1.25)],
  ['row sum', rowSum({ epsilon: 3 })],
  ['none', none()],
  ['hard max, whose scores get nothing', hardMax()],
  ['Gumbel', gumbel({ seed: 3, temperature: 2 })],
  ['dropout', softmax().reweighBy(dropout({ probability: 0.3, seed: 5 }))],
  ['a bell around learned centres', softmax().reweighBy(positionWeight({ deviation: 1.5 })), { centers: random(1, [1, heads, length]) }],
];

describe('gradients are central differences', () => {
  test.each(scorings)('%s', (_, scoring, tables = {}) => checkGradients({ variant: attention({ scoring }), tables, queryDim: dim }));
  test.each(modifiers)('%s', (_, modifier, tables) => checkGradients({ variant: attention({ scoring: scaledDot().modify(modifier) }), tables, queryDim: dim }));
  test.each(transforms)('%s', (_, transform, tables = {}) => checkGradients({ variant: attention({ scoring: scaledDot().transform(transform) }), tables, queryDim: dim }));
  test.each(normalizations)('%s', (_, normalization, tables = {}) => checkGradients({ variant: attention({ normalization, masking: causal() }), tables, queryDim: dim }));
  test.each([['weightedSum', weightedSum()], ['maximum', maximum()], ['laser', laser()]] as const)('%s behind a gate', (_, aggregation) =>
    checkGradients({ variant: attention({ normalization: sigmoid(), aggregation: aggregation.finishBy(outputGate()) }), tables: { gate: random(1, [1, heads, length, 3]) }, queryDim: dim }));
  test('LASER under softmax', () => checkGradients({ variant: attention({ aggregation: laser() }), queryDim: dim }));

  test('rows that see nothing, keys that nobody sees, padding, a batch and negative offsets', () =>
    checkGradients({
      variant: attention({ scoring: cosine(), masking: window({ left: 1, right: 0 }) }),
      queryDim: dim,
      inputs: { query: random(1, [2, heads, length, dim]), key: random(2, [2, 1, length, dim]), value: random(3, [2, 1, length, 3]), queryLengths: [3, 4], keyLengths: [4, 3], queryOffset: [-1, 2] },
    }));
  test('packed sequences', () =>
    checkGradients({ variant: attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })), masking: causal() }), queryDim: dim, inputs: { packed: { query: [0, 1, 1, 4], key: [0, 1, 1, 4] } } }));
});
