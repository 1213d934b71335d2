import type { NormalizationRule } from '../../stages/normalization/stage.ts';

/** The weights of one row, with what the backward pass and the statistics need. */
export interface NormalizedRow {
  readonly weights: Float64Array;
  /** ln of the denominator, sink included; softmax only, else NaN. */
  readonly logSumExp: number;
  /** Σ t + ε; rowSum only, else NaN. */
  readonly denominator: number;
}

/**
 * Scores t of the allowed keys of one row (none of them −∞) → weights (VARIANTS §5).
 *
 * @param sink    logit of the sink, −∞ for none
 * @param epsilon of rowSum
 */
export function normalizeRow(rule: NormalizationRule, t: Float64Array, sink: number, epsilon: number): NormalizedRow {
  const none = { logSumExp: Number.NaN, denominator: Number.NaN };
  switch (rule.kind) {
    case 'softmax': {
      const logSumExp = logSumExpOf(t, sink);
      return { ...none, weights: t.map((value) => Math.exp(value - logSumExp)), logSumExp };
    }
    case 'threshold':
      return { ...none, weights: entmax(t, rule.alpha) };
    case 'hardMax': {
      const largest = t.reduce((a, b) => Math.max(a, b), -Infinity);
      const winner = t.indexOf(largest);
      return { ...none, weights: t.map((_, index) => Number(index === winner)) };
    }
    case 'elementwise':
      return { ...none, weights: t.slice() };
    case 'rowSum': {
      const denominator = t.reduce((sum, value) => sum + value, 0) + epsilon;
      return { ...none, weights: t.map((value) => value / denominator), denominator };
    }
  }
}

/** ln(Σ e^t + e^sink) around the largest term; −∞ where there is no term. */
export function logSumExpOf(t: Float64Array, sink: number = -Infinity): number {
  const largest = t.reduce((a, b) => Math.max(a, b), sink);
  if (largest === -Infinity) return -Infinity;
  return largest + Math.log(t.reduce((sum, value) => sum + Math.exp(value - largest), Math.exp(sink - largest)));
}

/** [(α − 1)t − τ]₊^(1/(α−1)): exact by sorting for α = 2 (Martins 2016) and 1.5 (Peters 2019), by bisection for any other. */
export function entmax(t: Float64Array, alpha: number): Float64Array {
  if (alpha === 2) return sparsemax(t);
  if (alpha === 1.5) return entmax15(t);
  return entmaxByBisection(t, alpha);
}

function sparsemax(t: Float64Array): Float64Array {
  const sorted = t.toSorted().reverse();
  let sum = 0;
  let threshold = 0;
  sorted.forEach((value, index) => {
    sum += value;
    if (1 + (index + 1) * value > sum) threshold = (sum - 1) / (index + 1);
  });
  return t.map((value) => Math.max(value - threshold, 0));
}

function entmax15(t: Float64Array): Float64Array {
  const largest = t.reduce((a, b) => Math.max(a, b), -Infinity);
  const halved = t.map((value) => (value - largest) / 2);
  const sorted = halved.toSorted().reverse();
  let sum = 0;
  let squares = 0;
  let threshold = 0;
  sorted.forEach((value, index) => {
    const count = index + 1;
    sum += value;
    squares += value * value;
    const mean = sum / count;
    const spread = squares - sum * mean;
    const candidate = mean - Math.sqrt(Math.max((1 - spread) / count, 0));
    if (candidate <= value) threshold = candidate;
  });
  return halved.map((value) => Math.max(value - threshold, 0) ** 2);
}

/** 60 halvings of [(α−1)·max − 1, (α−1)·max − n^(1−α)], then the row is divided by its sum. */
function entmaxByBisection(t: Float64Array, alpha: number): Float64Array {
  const scaled = t.map((value) => (alpha - 1) * value);
  const largest = scaled.reduce((a, b) => Math.max(a, b), -Infinity);
  const weightsAt = (threshold: number): Float64Array => scaled.map((value) => Math.max(value - threshold, 0) ** (1 / (alpha - 1)));
  const total = (weights: Float64Array): number => weights.reduce((sum, weight) => sum + weight, 0);
  let low = largest - 1;
  let high = largest - t.length ** (1 - alpha);
  for (let halving = 0; halving < 60; halving++) {
    const middle = (low + high) / 2;
    if (total(weightsAt(middle)) >= 1) low = middle;
    else high = middle;
  }
  const weights = weightsAt(low);
  const sum = total(weights);
  return weights.map((weight) => weight / sum);
}

/** Gradients of one row's scores, and of its sink logit, from those of its weights and its logSumExp (VARIANTS §5, backward). */
export function normalizeRowBackward(
  rule: NormalizationRule,
  row: NormalizedRow,
  weightGradient: Float64Array,
  logSumExpGradient: number,
  sink: number,
): { readonly scores: Float64Array; readonly sink: number } {
  const { weights, logSumExp, denominator } = row;
  const inner = (factors: Float64Array): number => factors.reduce((sum, factor, index) => sum + factor * (weightGradient[index] ?? 0), 0);
  const at = (index: number): number => weightGradient[index] ?? 0;
  switch (rule.kind) {
    case 'softmax': {
      const delta = inner(weights);
      const sinkWeight = sink === -Infinity ? 0 : Math.exp(sink - logSumExp);
      return { scores: weights.map((weight, index) => weight * (at(index) - delta + logSumExpGradient)), sink: sinkWeight * (logSumExpGradient - delta) };
    }
    case 'threshold': {
      const slopes = weights.map((weight) => (weight > 0 ? weight ** (2 - rule.alpha) : 0));
      const mean = inner(slopes) / slopes.reduce((sum, slope) => sum + slope, 0);
      return { scores: slopes.map((slope, index) => slope * (at(index) - mean)), sink: 0 };
    }
    case 'hardMax':
      return { scores: new Float64Array(weights.length), sink: 0 };
    case 'elementwise':
      return { scores: weightGradient.slice(), sink: 0 };
    case 'rowSum': {
      const delta = inner(weights);
      return { scores: weights.map((_, index) => (at(index) - delta) / denominator), sink: 0 };
    }
  }
}
