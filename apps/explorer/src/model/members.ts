import {
  additive, alibi, causal, chunkedLocal, cosine, dilated, distance, dot, entmax, full, gaussian, hardMax, laser, maximum, none, relu, reluSquared, rope, scaledDot, sigmoid, sinkTokens, softcap, softmax, softmaxOffByOne, sparsemax, temperature,
  weightedSum, window, type Aggregation, type Masking, type Modifier, type Normalization, type Scoring,
} from '@heed/core';

/** One choice of a stage: what it is called, and one line that says what it does. */
export interface Member<T> {
  readonly label: string;
  readonly says: string;
  readonly make: () => T;
}

type Members<T> = Readonly<Record<string, Member<T>>>;

export const scorings: Members<Scoring> = {
  scaledDot: { label: 'scaled dot product', says: 'q · k / √d (Vaswani 2017)', make: () => scaledDot() },
  dot: { label: 'dot product', says: 'q · k (Luong 2015)', make: () => dot() },
  cosine: { label: 'cosine', says: 'the angle alone, times a scale', make: () => cosine({ scale: 8 }) },
  rotary: { label: 'scaled dot, rotary positions', says: 'rows are turned by their position first (Su 2021)', make: () => scaledDot().transform(rope({ pairing: 'half' })) },
  gaussian: { label: 'Gaussian', says: 'the nearer, the more', make: () => gaussian({ bandwidth: 2 }) },
  distance: { label: 'squared distance', says: '−‖q − k‖², scaled', make: () => distance() },
  additive: { label: 'additive', says: 'a small network over both (Bahdanau 2014); its weights are random here', make: () => additive({ width: 8 }) },
};

export const modifiers: Members<Modifier> = {
  softcap: { label: 'softcap', says: 'scores are bent to stay below a cap (Gemma 2)', make: () => softcap(5) },
  alibi: { label: 'ALiBi', says: 'the farther, the less (Press 2022)', make: () => alibi() },
  temperature: { label: 'temperature', says: 'scores are divided: below 1 sharper, above 1 softer', make: () => temperature(1) },
};

export const maskings: Members<Masking> = {
  full: { label: 'everything', says: 'every query may see every key', make: () => full() },
  causal: { label: 'causal', says: 'nothing that comes later', make: () => causal() },
  window: { label: 'window', says: 'only keys nearby, on both sides', make: () => window({ left: 2, right: 2 }) },
  causalWindow: { label: 'causal window', says: 'the last few keys', make: () => causal().and(window({ left: 3, right: Infinity })) },
  sinkWindow: { label: 'sinks and window', says: 'the first keys, and the last few (StreamingLLM)', make: () => causal().and(window({ left: 3, right: Infinity }).or(sinkTokens(1))) },
  dilated: { label: 'dilated', says: 'every other key of a window', make: () => dilated({ keys: 4, dilation: 2 }) },
  chunked: { label: 'chunks', says: 'keys of the same chunk', make: () => causal().and(chunkedLocal(4)) },
};

export const normalizations: Members<Normalization> = {
  softmax: { label: 'softmax', says: 'rows sum to one, nothing is zero', make: () => softmax() },
  softmaxOffByOne: { label: 'softmax off by one', says: 'a row may attend to nothing', make: () => softmaxOffByOne() },
  sparsemax: { label: 'sparsemax', says: 'rows sum to one, most are exactly zero', make: () => sparsemax() },
  entmax: { label: 'entmax 1.5', says: 'between softmax and sparsemax', make: () => entmax(1.5) },
  hardMax: { label: 'hard max', says: 'one key takes all', make: () => hardMax() },
  sigmoid: { label: 'sigmoid', says: 'each pair for itself: rows do not sum to one', make: () => sigmoid() },
  relu: { label: 'ReLU', says: 'positive scores as they are', make: () => relu() },
  reluSquared: { label: 'ReLU squared', says: 'positive scores, squared', make: () => reluSquared() },
  none: { label: 'none', says: 'scores are weights', make: () => none() },
};

export const aggregations: Members<Aggregation> = {
  weightedSum: { label: 'weighted sum', says: 'Σ w v', make: () => weightedSum() },
  maximum: { label: 'maximum', says: 'the largest w v of each channel', make: () => maximum() },
  laser: { label: 'LASER', says: 'ln Σ w eᵛ of each channel', make: () => laser() },
};
