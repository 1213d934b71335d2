import {
  addRow, additive, additiveBias, alibi, based, bilinear, booleanMask, causal, chunkedLocal, cosformer, cosine, decomposedBias, dilated, distance, documents, dot, dpfp, dropout, eluFeatures, entmax, expFeatures, favor,   fixedPattern, full, gat, gatV2, gaussian, globalTokens, gumbel, hardMax, headScale, hedgehog, keyPadding, l2Norm, laser, layerNorm, leakyRelu, lengthScaling, lowRank, maximum, neighbourhood, none, outputGate, positionWeight, prefix,
  projection, relativeQuery, relu, reluFeatures, reluSquared, rmsNorm, rope, rowSum, scalableSoftmax, scaledDot, shaw, sigmoid, sinkTokens, softcap, softmax, softmaxOffByOne, sparsemax, stridedPattern, t5Bias, t5BucketTable, temperature,
  temperatureTuning, tree, treeIntervals, weightedSum, window, type Aggregation, type Masking, type Modifier, type Normalization, type Scoring,
} from '@heed/core';
import { favorFrequencies } from '@heed/core/compute';
import type { Shape, TableOptions } from '@heed/conformance';

/** One choice of a stage: what it is called, and one line that says what it does. */
export interface Member<T> {
  readonly label: string;
  readonly says: string;
  readonly make: (shape: Pick<Shape, 'queryDim' | 'queryLength'>) => T;
  /** How its tables are filled where random numbers would mean nothing. */
  readonly tables?: (shape: Shape) => TableOptions;
}

type Members<T> = Readonly<Record<string, Member<T>>>;

export const scorings: Members<Scoring> = {
  scaledDot: { label: 'scaled dot product', says: 'q · k / √d (Vaswani 2017)', make: () => scaledDot() },
  dot: { label: 'dot product', says: 'q · k (Luong 2015)', make: () => dot() },
  cosine: { label: 'cosine', says: 'the angle alone, times a scale', make: () => cosine({ scale: 8 }) },
  bilinear: { label: 'bilinear', says: 'q · W k (Luong 2015); weights are random here', make: ({ queryDim }) => bilinear({ width: queryDim, scale: 0.05 }) },
  lowRank: { label: 'low rank', says: 'both are projected to four channels first; weights are random here', make: () => lowRank({ rank: 4, scale: 0.05 }), tables: () => ({ scoreDim: 4 }) },
  gaussian: { label: 'Gaussian', says: 'the nearer, the more', make: () => gaussian({ bandwidth: 2 }) },
  distance: { label: 'squared distance', says: '−‖q − k‖², scaled', make: () => distance() },
  additive: { label: 'additive', says: 'a small network over both (Bahdanau 2014); weights are random here', make: () => additive({ width: 8 }), tables: () => ({ scoreDim: 8 }) },
  gat: { label: 'graph attention', says: 'a number of each row, added and bent (Veličković 2018); weights are random here', make: () => gat(), tables: () => ({ scoreDim: 1 }) },
  gatV2: { label: 'graph attention, version 2', says: 'added before it is bent (Brody 2022); weights are random here', make: () => gatV2({ width: 6 }), tables: () => ({ scoreDim: 6 }) },
  rotary: { label: 'scaled dot, rotary positions', says: 'rows are turned by their position first (Su 2021)', make: () => scaledDot().transform(rope({ pairing: 'half' })) },
  l2Norm: { label: 'dot of unit rows', says: 'both are divided by their length', make: () => dot({ scale: 8 }).transform(l2Norm()) },
  rmsNorm: { label: 'scaled dot, RMS norm', says: 'rows are brought to one size first (Qwen3)', make: () => scaledDot().transform(rmsNorm()) },
  layerNorm: { label: 'scaled dot, layer norm', says: 'rows are centred and brought to one size (ViT-22B)', make: () => scaledDot().transform(layerNorm()) },
  projection: { label: 'scaled dot, projected', says: 'both pass a matrix first; weights are random here', make: () => scaledDot({ scale: 0.05 }).transformQuery(projection({ width: 10, table: 'queryMatrix' })).transformKey(projection({ width: 10, table: 'keyMatrix' })), tables: ({ queryDim, keyDim }) => ({ scoreDim: 10, axes: { queryMatrixInput: queryDim, keyMatrixInput: keyDim } }) },
  addRow: { label: 'scaled dot, content bias', says: 'a row is added to every query (Transformer-XL); random here', make: () => scaledDot().transformQuery(addRow({ table: 'content', perHead: 'head' })) },
  elu: { label: 'features elu + 1', says: 'linear attention (Katharopoulos 2020): take row sum as the normalization', make: () => dot().transform(eluFeatures()) },
  reluFeatures: { label: 'features ReLU', says: 'positive parts alone', make: () => dot().transform(reluFeatures()) },
  expFeatures: { label: 'features exp', says: 'each channel’s exponential', make: () => dot({ scale: 0.05 }).transform(expFeatures()) },
  hedgehog: { label: 'features Hedgehog', says: 'softmax over the channels (Zhang 2024)', make: () => dot().transform(hedgehog({ softmax: true })) },
  cosformer: { label: 'features cosFormer', says: 'positive parts, fading with distance (Qin 2022)', make: () => dot().transform(cosformer({ horizon: 128 })) },
  dpfp: { label: 'features DPFP', says: 'products of neighbouring channels (Schlag 2021)', make: () => dot().transform(dpfp({ order: 2 })) },
  based: { label: 'features Based', says: 'the exponential’s first terms (Arora 2024)', make: () => dot().transform(based()) },
  favor: { label: 'features FAVOR+', says: 'softmax in expectation (Choromanski 2021)', make: () => dot().transform(favor({ features: 24 })), tables: ({ queryDim }) => ({ scoreDim: 24, fill: { favorFrequencies: () => favorFrequencies({ features: 24, dim: queryDim, seed: 3 }) } }) },
};

export const modifiers: Members<Modifier> = {
  softcap: { label: 'softcap', says: 'scores are bent to stay below a cap (Gemma 2)', make: () => softcap(5) },
  alibi: { label: 'ALiBi', says: 'the farther, the less (Press 2022)', make: () => alibi() },
  temperature: { label: 'temperature', says: 'scores are divided: below 1 sharper, above 1 softer', make: () => temperature(1) },
  t5Bias: { label: 'T5 bias', says: 'a number for each bucket of distances; random here', make: () => t5Bias({ buckets: 8, maxDistance: 20 }), tables: () => ({ fill: { t5Buckets: () => t5BucketTable({ buckets: 8, maxDistance: 20, bidirectional: true }) } }) },
  additiveBias: { label: 'bias', says: 'a number for each pair; random here', make: () => additiveBias() },
  shaw: { label: 'Shaw', says: 'the query meets a row for each distance (Shaw 2018); random here', make: () => shaw({ maxOffset: 4 }) },
  relativeQuery: { label: 'relative rows', says: 'the query meets a row for each distance (Transformer-XL); random here', make: ({ queryLength }) => relativeQuery({ rows: 2 * queryLength }) },
  decomposedBias: { label: 'image bias', says: 'rows for heights and widths of a grid (SAM); random here', make: ({ queryLength }) => decomposedBias({ height: Math.ceil(queryLength / 4), width: 4, scale: 0.2 }) },
  headScale: { label: 'scale of a head', says: 'one learned factor for each head; random here', make: () => headScale() },
  leakyRelu: { label: 'leaky ReLU', says: 'negative scores are made small (GAT)', make: () => leakyRelu() },
  lengthScaling: { label: 'length scaling', says: 'sharper, the more there is to see (Su)', make: () => lengthScaling({ trained: 8 }) },
  scalableSoftmax: { label: 'scalable softmax', says: 'scores grow with ln n (Nakanishi 2025); factors are random here', make: () => scalableSoftmax() },
  temperatureTuning: { label: 'temperature tuning', says: 'sharper at late positions (Llama 4)', make: () => temperatureTuning({ step: 4 }) },
};

const halves = ({ queryLength, keyLength }: Shape): TableOptions['fill'] => ({
  queryDocuments: () => Array.from({ length: queryLength }, (_, row) => Number(row >= queryLength / 2)),
  keyDocuments: () => Array.from({ length: keyLength }, (_, row) => Number(row >= keyLength / 2)),
});

export const maskings: Members<Masking> = {
  full: { label: 'everything', says: 'every query may see every key', make: () => full() },
  causal: { label: 'causal', says: 'nothing that comes later', make: () => causal() },
  window: { label: 'window', says: 'only keys nearby, on both sides', make: () => window({ left: 2, right: 2 }) },
  causalWindow: { label: 'causal window', says: 'the last few keys', make: () => causal().and(window({ left: 3, right: Infinity })) },
  sinkWindow: { label: 'sinks and window', says: 'the first keys, and the last few (StreamingLLM)', make: () => causal().and(window({ left: 3, right: Infinity }).or(sinkTokens(1))) },
  chunked: { label: 'chunks', says: 'keys of the same chunk', make: () => causal().and(chunkedLocal(4)) },
  dilated: { label: 'dilated', says: 'every other key of a window', make: () => dilated({ keys: 4, dilation: 2 }) },
  strided: { label: 'strided', says: 'the last few, and every third before them (Child 2019)', make: () => stridedPattern(3) },
  fixed: { label: 'fixed', says: 'the own block, and the end of every block before it (Child 2019)', make: () => fixedPattern({ stride: 4, summary: 1 }) },
  neighbourhood: { label: 'neighbourhood', says: 'as many keys for every query, at the edges too (Hassani 2022)', make: ({ queryLength }) => neighbourhood({ shape: [queryLength], kernel: queryLength < 3 ? 1 : 3 }) },
  globalTokens: { label: 'global tokens and window', says: 'a few tokens see all and are seen by all (Longformer); the first here', make: () => window({ left: 2, right: 2 }).or(globalTokens()), tables: ({ queryLength, keyLength }) => ({ fill: { globalQueries: () => Array.from({ length: queryLength }, (_, row) => Number(row === 0)), globalKeys: () => Array.from({ length: keyLength }, (_, row) => Number(row === 0)) } }) },
  documents: { label: 'documents', says: 'two texts in one: nothing crosses the middle', make: () => documents(), tables: (shape) => ({ fill: halves(shape) ?? {} }) },
  prefix: { label: 'prefix', says: 'the first third is seen by all, the rest is causal', make: () => causal().or(prefix()), tables: ({ keyLength }) => ({ fill: { prefixLengths: () => [Math.ceil(keyLength / 3)] } }) },
  keyPadding: { label: 'padding', says: 'the last quarter is padding', make: () => keyPadding({ side: 'right' }), tables: ({ keyLength }) => ({ fill: { keyCounts: () => [Math.ceil((3 * keyLength) / 4)] } }) },
  booleanMask: { label: 'a mask as a tensor', says: 'a bit for each pair; random here', make: () => booleanMask() },
  tree: {
    label: 'tree',
    says: 'a token sees the branch above it: drafts of a decoder',
    make: () => tree(),
    tables: ({ queryLength, keyLength }) => {
      const { treeNode, treeFirst, treeLast } = treeIntervals(Array.from({ length: Math.min(queryLength, keyLength) }, (_, node) => Math.floor((node - 1) / 2)), { past: Math.max(0, keyLength - queryLength) });
      return { fill: { treeNode: () => treeNode, treeFirst: () => treeFirst, treeLast: () => treeLast } };
    },
  },
};

export const normalizations: Members<Normalization> = {
  softmax: { label: 'softmax', says: 'rows sum to one, nothing is zero', make: () => softmax() },
  softmaxTemperature: { label: 'softmax with a temperature', says: 'below 1 sharper, above 1 softer', make: () => softmax({ temperature: 0.7 }) },
  softmaxSink: { label: 'softmax with a sink', says: 'a logit without a value takes its share (gpt-oss); random here', make: () => softmax({ sink: true }) },
  softmaxOffByOne: { label: 'softmax off by one', says: 'a row may attend to nothing', make: () => softmaxOffByOne() },
  sparsemax: { label: 'sparsemax', says: 'rows sum to one, most are exactly zero', make: () => sparsemax() },
  entmax: { label: 'entmax 1.5', says: 'between softmax and sparsemax', make: () => entmax(1.5) },
  entmax13: { label: 'entmax 1.3', says: 'nearer to softmax', make: () => entmax(1.3) },
  hardMax: { label: 'hard max', says: 'one key takes all', make: () => hardMax() },
  gumbel: { label: 'Gumbel softmax', says: 'noise decides among close scores', make: () => gumbel({ seed: 11, temperature: 0.5 }) },
  sigmoid: { label: 'sigmoid', says: 'each pair for itself: rows do not sum to one', make: () => sigmoid() },
  relu: { label: 'ReLU', says: 'positive scores as they are', make: () => relu() },
  reluSquared: { label: 'ReLU squared', says: 'positive scores, squared', make: () => reluSquared() },
  rowSum: { label: 'row sum', says: 'scores divided by their sum: for positive features', make: () => rowSum() },
  none: { label: 'none', says: 'scores are weights', make: () => none() },
  dropout: { label: 'softmax, some dropped', says: 'weights are dropped at random after the softmax', make: () => softmax().reweighBy(dropout({ probability: 0.3, seed: 5 })) },
  positionWeight: { label: 'softmax, weighed by position', says: 'a bell around a predicted place (Luong 2015); the place is random here', make: () => softmax().reweighBy(positionWeight({ deviation: 2 })) },
};

export const aggregations: Members<Aggregation> = {
  weightedSum: { label: 'weighted sum', says: 'Σ w v', make: () => weightedSum() },
  maximum: { label: 'maximum', says: 'the largest w v of each channel', make: () => maximum() },
  laser: { label: 'LASER', says: 'ln Σ w eᵛ of each channel', make: () => laser() },
  outputGate: { label: 'gated output', says: 'each channel is multiplied by a gate (Qiu 2025); random here', make: () => weightedSum().finishBy(outputGate()) },
};

/** How the tables of the members picked are filled, all together. */
export function tablesOf(picked: readonly (Member<unknown> | undefined)[], shape: Shape): TableOptions {
  const options = picked.flatMap((member) => member?.tables?.(shape) ?? []);
  const scoreDim = options.find((one) => one.scoreDim !== undefined)?.scoreDim;
  return {
    ...(scoreDim === undefined ? {} : { scoreDim }),
    axes: Object.assign({}, ...options.map(({ axes = {} }) => axes)) as Readonly<Record<string, number>>,
    fill: Object.assign({}, ...options.map(({ fill = {} }) => fill)) as NonNullable<TableOptions['fill']>,
  };
}
