import type { AttentionStages, AttentionVariant } from '@heed/core';
import { favorFrequencies } from '@heed/core/compute';
import {
  additive, additiveBias, addRow, alibi, attention, based, bilinear, booleanMask, causal, chunkedLocal, cosformer, cosine, decomposedBias, dilated, distance, documents, dot, dpfp, dropout, elementwise, eluFeatures, entmax,
  expFeatures, favor, fixedPattern, gat, gatV2, gaussian, globalTokens, gumbel, hardMax, headScale, hedgehog, keyPadding, l2Norm, laser, layerNorm, leakyRelu, lengthScaling, lowRank, mask, maximum, modifier,
  neighbourhood, none, normalization, outputGate, positionWeight, prefix, projection, relativeQuery, relu, reluFeatures, reluSquared, reweighing, rmsNorm, rope, rowSum, scalableSoftmax, scaledDot, scoring, shaw, sigmoid, sinkTokens,
  softcap, softmax, softmaxOffByOne, sparsemax, stridedPattern, t5Bias, t5BucketTable, temperature, temperatureTuning, tree, treeIntervals, weightedSum, window, write,
} from '@heed/core';
import type { Shape, TableOptions } from './inputs.ts';
import type { Tolerance } from './tolerance.ts';
import { float32Attention, float32Threshold } from './tolerance.ts';

/** A variant that the suite knows by name, for any shape that suits it. */
export interface NamedVariant {
  readonly make: (shape: Shape) => AttentionVariant;
  /** How its tables are drawn, where N(0, 1) or the default sizes would be wrong. */
  readonly tables?: (shape: Shape) => TableOptions;
  /** Shapes that it can be run on. Default: any. */
  readonly suits?: (shape: Shape) => boolean;
  /** Largest |score| on N(0, 1) inputs, where it is much more than 4. */
  readonly score?: number;
}

/** The bound that goes with a variant. */
export function toleranceOf(variant: AttentionVariant): Tolerance {
  return variant.normalization.rule.kind === 'threshold' ? float32Threshold : float32Attention;
}

/** Every normalization of core as a variant with the stages given. Where scores must not be negative, they are products of positive features. */
export const normalizations: Readonly<Record<string, (stages?: AttentionStages) => AttentionVariant>> = {
  softmax: (stages) => attention({ ...stages, normalization: softmax() }),
  softmaxTemperature: (stages) => attention({ ...stages, normalization: softmax({ temperature: 0.7 }) }),
  softmaxSink: (stages) => attention({ ...stages, normalization: softmax({ sink: true }) }),
  softmaxOffByOne: (stages) => attention({ ...stages, normalization: softmaxOffByOne() }),
  sigmoid: (stages) => attention({ ...stages, normalization: sigmoid({ length: 16 }) }),
  relu: (stages) => attention({ ...stages, normalization: relu({ length: 16 }) }),
  reluSquared: (stages) => attention({ ...stages, normalization: reluSquared({ length: 'position' }) }),
  none: (stages) => attention({ ...stages, normalization: none() }),
  rowSum: (stages) => attention({ scoring: dot().transform(eluFeatures()), ...stages, normalization: rowSum() }),
  sparsemax: (stages) => attention({ ...stages, normalization: sparsemax() }),
  entmax15: (stages) => attention({ ...stages, normalization: entmax(1.5) }),
  entmax13: (stages) => attention({ ...stages, normalization: entmax(1.3) }),
  hardMax: (stages) => attention({ ...stages, normalization: hardMax() }),
  gumbel: (stages) => attention({ ...stages, normalization: gumbel({ seed: 11, temperature: 0.5 }) }),
  gumbelHard: (stages) => attention({ ...stages, normalization: gumbel({ seed: 11, hard: true }) }),
  dropout: (stages) => attention({ ...stages, normalization: softmax().reweighBy(dropout({ probability: 0.4, seed: 5 })) }),
  positionWeight: (stages) => attention({ ...stages, normalization: softmax().reweighBy(positionWeight({ deviation: 2 })) }),
  custom: (stages) => attention({ ...stages, normalization: normalization('cubed', ({ score }) => score.mul(score).mul(score)) }),
};

/** Variants whose partial results merge, one or more for each merge class. */
export const mergeable: Readonly<Record<string, () => AttentionVariant>> = {
  softmax: () => attention({ masking: causal() }),
  softmaxSink: () => attention({ masking: causal(), normalization: softmax({ sink: true }) }),
  softmaxOffByOne: () => attention({ normalization: softmaxOffByOne() }),
  dropout: () => attention({ normalization: softmax().reweighBy(dropout({ probability: 0.4, seed: 5 })) }),
  positionWeight: () => attention({ normalization: softmax().reweighBy(positionWeight({ deviation: 3 })) }),
  outputGate: () => attention({ aggregation: weightedSum().finishBy(outputGate()) }),
  sigmoid: () => attention({ normalization: sigmoid(), masking: causal() }),
  relu: () => attention({ normalization: relu() }),
  none: () => attention({ normalization: none(), masking: window({ left: 6, right: 0 }) }),
  rowSum: () => attention({ scoring: dot().transform(eluFeatures()), normalization: rowSum(), masking: causal() }),
  maximum: () => attention({ normalization: none(), aggregation: maximum() }),
  laser: () => attention({ aggregation: laser(), masking: causal() }),
  laserSink: () => attention({ aggregation: laser(), normalization: softmax({ sink: true }) }),
};

/** Variants that need the whole row. */
export const notMergeable: Readonly<Record<string, () => AttentionVariant>> = {
  sparsemax: () => attention({ normalization: sparsemax() }),
  entmax15: () => attention({ normalization: entmax(1.5) }),
  hardMax: () => attention({ normalization: hardMax() }),
  gumbelHard: () => attention({ normalization: gumbel({ seed: 3, hard: true }) }),
  softmaxMaximum: () => attention({ aggregation: maximum() }),
  squaredWeight: () => attention({ normalization: softmax().reweighBy(reweighing('squared', ({ weight }) => weight.mul(weight))) }),
};

const even = (shape: Shape): boolean => shape.queryDim % 2 === 0;
const narrow = (shape: Shape): boolean => shape.queryDim <= 8;
const user = modifier('user', ({ score, head, queryPosition, keyPosition }) => score.mul(head.add(1).toF32().div(4)).add(queryPosition.sub(keyPosition).toF32().sin()));
const checkered = mask('checkered', ({ head, queryPosition, keyPosition }) => queryPosition.add(keyPosition).add(head).mod(3).ne(0).or(queryPosition.eq(keyPosition)));

const scorings: Readonly<Record<string, NamedVariant>> = {
  scaledDot: { make: () => attention() },
  dot: { make: () => attention({ scoring: dot() }), score: 40 },
  scale: { make: () => attention({ scoring: scaledDot({ scale: 0.2 }) }), score: 10 },
  bilinear: { make: ({ queryDim }) => attention({ scoring: bilinear({ width: queryDim, scale: 0.02 }) }) },
  bilinearQuery: { make: ({ keyDim }) => attention({ scoring: bilinear({ width: keyDim, side: 'query', perHead: true, scale: 0.02 }) }) },
  lowRank: { make: () => attention({ scoring: lowRank({ rank: 4, scale: 0.02 }) }), tables: () => ({ scoreDim: 4 }) },
  cosine: { make: () => attention({ scoring: cosine({ scale: 8 }) }), score: 8 },
  gaussian: { make: () => attention({ scoring: gaussian({ bandwidth: 3 }) }), score: 30 },
  distance: { make: () => attention({ scoring: distance() }), score: 60 },
  additive: { make: () => attention({ scoring: additive({ width: 12, bias: true }) }), tables: () => ({ scoreDim: 12 }), score: 12 },
  gat: { make: () => attention({ scoring: gat() }), tables: () => ({ scoreDim: 1 }), score: 20 },
  gatV2: { make: () => attention({ scoring: gatV2({ width: 6 }) }), tables: () => ({ scoreDim: 6 }), score: 40 },
  userCombine: { make: () => attention({ scoring: scoring('manhattan', ({ queryElement, keyElement }) => queryElement.sub(keyElement).abs().neg(), { scale: 0.5 }) }), score: 60 },
};

const transforms: Readonly<Record<string, NamedVariant>> = {
  projection: { make: () => attention({ scoring: scaledDot({ scale: 0.02 }).transformQuery(projection({ width: 10, table: 'queryMatrix', bias: true })).transformKey(projection({ width: 10, table: 'keyMatrix', perHead: 'keyHead' })) }), tables: ({ queryDim, keyDim }) => ({ axes: { queryMatrixInput: queryDim, keyMatrixInput: keyDim } }) },
  l2Norm: { make: () => attention({ scoring: dot().transform(l2Norm()) }) },
  rmsNorm: { make: () => attention({ scoring: scaledDot().transformQuery(rmsNorm({ weight: 'queryNorm' })).transformKey(rmsNorm({ weight: 'keyNorm', onePlusWeight: true })) }), score: 8 },
  layerNorm: { make: () => attention({ scoring: scaledDot().transform(layerNorm({ weight: 'gain', bias: 'shift' })) }), score: 10 },
  ropeHalf: { make: () => attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })), masking: causal() }), suits: even },
  ropeInterleaved: { make: () => attention({ scoring: scaledDot().transform(rope({ pairing: 'interleaved', base: 500 })), masking: causal() }), suits: even },
  ropePartial: { make: ({ queryDim }) => attention({ scoring: scaledDot().transform(rope({ pairing: 'half', width: Math.max(2, 2 * Math.floor(queryDim / 4)), magnitude: 1.1 })) }), suits: ({ queryDim }) => queryDim >= 4 },
  ropeFrequencies: {
    make: () => attention({ scoring: scaledDot().transform(rope({ pairing: 'half', frequencies: 'frequencies' })) }),
    tables: ({ queryDim }) => ({ axes: { frequenciesPairs: queryDim / 2 }, fill: { frequencies: (_random, [pairs = 1]) => Float32Array.from({ length: pairs }, (_, index) => 100 ** (-index / pairs)) } }),
    suits: even,
  },
  rmsNormRope: { make: () => attention({ scoring: scaledDot().transform(rmsNorm(), rope({ pairing: 'half' })), masking: causal() }), suits: even },
  addRow: { make: () => attention({ scoring: scaledDot().transformQuery(addRow({ table: 'content', perHead: 'head' })) }), score: 8 },
  userTransform: { make: () => attention({ scoring: scaledDot().transform(elementwise('squash', ({ element }) => element.tanh())) }) },
  linearElu: { make: () => attention({ scoring: dot().transform(eluFeatures()), normalization: rowSum(), masking: causal() }) },
  linearRelu: { make: () => attention({ scoring: dot().transform(reluFeatures()), normalization: rowSum({ epsilon: 1e-2 }), masking: causal() }) },
  linearExp: { make: () => attention({ scoring: dot().transform(expFeatures()), normalization: rowSum() }) },
  hedgehog: { make: () => attention({ scoring: dot().transform(hedgehog({ softmax: true })), normalization: rowSum() }) },
  based: { make: () => attention({ scoring: dot().transform(based()), normalization: rowSum(), masking: causal() }), suits: narrow },
  dpfp: { make: () => attention({ scoring: dot().transform(dpfp({ order: 2 })), normalization: rowSum({ epsilon: 1e-2 }) }), suits: narrow },
  cosformer: { make: () => attention({ scoring: dot().transform(cosformer({ horizon: 1024 })), normalization: rowSum({ epsilon: 1e-2 }), masking: causal() }) },
  favor: {
    make: () => attention({ scoring: dot().transform(favor({ features: 24 })), normalization: rowSum() }),
    tables: ({ queryDim }) => ({ fill: { favorFrequencies: () => favorFrequencies({ features: 24, dim: queryDim, seed: 3 }) } }),
    suits: ({ queryDim }) => queryDim <= 64,
  },
};

const modifiers: Readonly<Record<string, NamedVariant>> = {
  softcap: { make: () => attention({ scoring: scaledDot().modify(softcap(2)), masking: causal() }) },
  alibi: { make: () => attention({ scoring: scaledDot().modify(alibi()), masking: causal() }) },
  alibiSoftcap: { make: () => attention({ scoring: scaledDot().modify(softcap(5), alibi()), masking: window({ left: 20, right: 0 }) }) },
  temperature: { make: () => attention({ scoring: scaledDot().modify(temperature(0.5)) }), score: 8 },
  headScale: { make: () => attention({ scoring: cosine().modify(headScale()) }) },
  leakyRelu: { make: () => attention({ scoring: scaledDot().modify(leakyRelu()) }) },
  additiveBias: { make: () => attention({ scoring: scaledDot().modify(additiveBias()) }) },
  t5Bias: { make: () => attention({ scoring: dot({ scale: 0.2 }).modify(t5Bias({ buckets: 8, maxDistance: 20 })) }), tables: () => ({ fill: { t5Buckets: () => t5BucketTable({ buckets: 8, maxDistance: 20, bidirectional: true }) } }), score: 10 },
  shaw: { make: () => attention({ scoring: scaledDot().modify(shaw({ maxOffset: 4 })), masking: causal() }), score: 8 },
  relativeQuery: { make: () => attention({ scoring: scaledDot().modify(relativeQuery({ rows: 12, bias: true })), masking: causal() }), score: 8 },
  decomposedBias: { make: () => attention({ scoring: scaledDot().modify(decomposedBias({ height: 25, width: 24, scale: 0.1 })) }), score: 8 },
  lengthScaling: { make: () => attention({ scoring: scaledDot().modify(lengthScaling({ trained: 16 })), masking: causal() }), score: 8 },
  scalableSoftmax: { make: () => attention({ scoring: scaledDot().modify(scalableSoftmax()), masking: causal() }), score: 20 },
  temperatureTuning: { make: () => attention({ scoring: scaledDot().modify(temperatureTuning({ step: 8 })), masking: causal() }), score: 6 },
  userModifier: { make: () => attention({ scoring: scaledDot().modify(user) }) },
};

const maskings: Readonly<Record<string, NamedVariant>> = {
  causal: { make: () => attention({ masking: causal() }) },
  window: { make: () => attention({ masking: window({ left: 7, right: 2 }) }) },
  causalWindow: { make: () => attention({ masking: causal().and(window({ left: 15, right: Infinity })) }) },
  chunkedLocal: { make: () => attention({ masking: causal().and(chunkedLocal(9)) }) },
  documents: { make: () => attention({ masking: documents() }) },
  causalDocuments: { make: () => attention({ masking: causal().and(documents()) }) },
  prefix: { make: () => attention({ masking: causal().or(prefix()) }), tables: () => ({ fill: { prefixLengths: (random, [batch = 1], { keyLength }) => Array.from({ length: batch }, () => random.integer(keyLength + 1)) } }) },
  keyPaddingLeft: { make: () => attention({ masking: keyPadding({ side: 'left' }) }), tables: () => ({ fill: { keyCounts: (random, [batch = 1], { keyLength }) => Array.from({ length: batch }, () => random.integer(keyLength + 1)) } }) },
  keyPaddingRight: { make: () => attention({ masking: keyPadding({ side: 'right' }) }), tables: () => ({ fill: { keyCounts: (random, [batch = 1], { keyLength }) => Array.from({ length: batch }, () => random.integer(keyLength + 1)) } }) },
  booleanMask: { make: () => attention({ masking: booleanMask() }) },
  tree: {
    make: () => attention({ masking: tree() }),
    tables: ({ queryLength, keyLength, batch }) => {
      // Node n hangs below node ⌊(n − 1) / 2⌋; keys before the drafts are seen by all of them.
      const intervals = treeIntervals(Array.from({ length: Math.min(queryLength, keyLength) }, (_, node) => Math.floor((node - 1) / 2)), { past: Math.max(0, keyLength - queryLength) });
      const repeated = (row: ArrayLike<number>, length: number) => (): ArrayLike<number> => Array.from({ length: batch * length }, (_, index) => row[index % length] ?? 0);
      return { fill: { treeNode: repeated(intervals.treeNode, queryLength), treeFirst: repeated(intervals.treeFirst, keyLength), treeLast: repeated(intervals.treeLast, keyLength) } };
    },
    suits: ({ queryLength, keyLength }) => queryLength <= keyLength,
  },
  dilated: { make: () => attention({ masking: dilated({ keys: 4, dilation: 3 }) }) },
  neighbourhood: { make: () => attention({ masking: neighbourhood({ shape: [20, 20], kernel: [3, 5] }) }) },
  neighbourhoodDilated: { make: () => attention({ masking: neighbourhood({ shape: [400], kernel: 5, dilation: 3 }) }) },
  sinkTokens: { make: () => attention({ masking: causal().and(window({ left: 6, right: 0 }).or(sinkTokens(3))) }) },
  stridedPattern: { make: () => attention({ masking: stridedPattern(8) }) },
  fixedPattern: { make: () => attention({ masking: fixedPattern({ stride: 8, summary: 2 }) }) },
  globalTokens: { make: () => attention({ masking: window({ left: 4, right: 4 }).or(globalTokens()) }) },
  notCausal: { make: () => attention({ masking: causal().not() }) },
  userMask: { make: () => attention({ masking: checkered }) },
};

const aggregations: Readonly<Record<string, NamedVariant>> = {
  maximum: { make: () => attention({ normalization: none(), aggregation: maximum(), masking: causal() }) },
  maximumSoftmax: { make: () => attention({ aggregation: maximum() }) },
  laser: { make: () => attention({ aggregation: laser(), masking: causal() }) },
  laserSigmoid: { make: () => attention({ aggregation: laser(), normalization: sigmoid() }) },
  outputGate: { make: () => attention({ aggregation: weightedSum().finishBy(outputGate()), masking: causal() }) },
  prepared: { make: () => attention({ aggregation: weightedSum().prepareBy(write('prepare', 'turn', ({ value, channel, keyPosition }) => value.mul(channel.add(keyPosition).toF32().cos()))) }) },
};

/** Every variant that the examples are drawn from; between them they have every stage member of core. */
export const variants: Readonly<Record<string, NamedVariant>> = {
  ...scorings,
  ...transforms,
  ...modifiers,
  ...maskings,
  ...Object.fromEntries(Object.entries(normalizations).map(([name, make]) => [name === 'softmax' ? 'plainSoftmax' : name, { make: () => make({ masking: causal() }) }])),
  ...aggregations,
};

/** The same by stage, for cases that go through one stage. */
export const variantsByStage: Readonly<Record<'scoring' | 'transforms' | 'modifiers' | 'masking' | 'aggregation', Readonly<Record<string, NamedVariant>>>> = { scoring: scorings, transforms, modifiers, masking: maskings, aggregation: aggregations };
