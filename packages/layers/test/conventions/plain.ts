import { elementCount, tensor, toFloat64, type HostTensor, type Tensor, isHostTensor } from '@heed/core';

/** Attention in nested loops over numbers, written from the systems' own documents: what adapters are compared with. */
export interface PlainCall {
  readonly batch: number;
  readonly heads: number;
  readonly queryLength: number;
  readonly keyLength: number;
  readonly valueDim: number;
  readonly score: (batch: number, head: number, query: number, key: number) => number;
  /** After the mask of the system; false where a query must not look. */
  readonly allowed: (batch: number, head: number, query: number, key: number) => boolean;
  readonly value: (batch: number, head: number, key: number, channel: number) => number;
}

/** [batch, heads, queryLength, valueDim] with zeros for rows that see nothing, and the logSumExp. */
export function plainAttention(call: PlainCall): { readonly output: Float64Array; readonly logSumExp: Float64Array } {
  const { batch, heads, queryLength, keyLength, valueDim } = call;
  const output = new Float64Array(batch * heads * queryLength * valueDim);
  const logSumExp = new Float64Array(batch * heads * queryLength).fill(-Infinity);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < queryLength; i++) {
        const keys = Array.from({ length: keyLength }, (_, j) => j).filter((j) => call.allowed(b, h, i, j));
        const scores = keys.map((j) => call.score(b, h, i, j));
        const most = Math.max(...scores);
        if (keys.length === 0 || most === -Infinity) continue;
        const weights = scores.map((score) => Math.exp(score - most));
        const sum = weights.reduce((total, weight) => total + weight, 0);
        const row = (b * heads + h) * queryLength + i;
        logSumExp[row] = most + Math.log(sum);
        for (let e = 0; e < valueDim; e++) output[row * valueDim + e] = keys.reduce((total, j, at) => total + ((weights[at] ?? 0) / sum) * call.value(b, h, j, e), 0);
      }
    }
  }
  return { output, logSumExp };
}

/** Numbers in −1 … 1 that a seed fixes (a linear congruential generator, Numerical Recipes). */
export function numbers(shape: readonly number[], seed: number): HostTensor {
  let state = seed >>> 0;
  return tensor(Float32Array.from({ length: elementCount(shape) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32) * 2 - 1;
  }), shape);
}

/** Reads an element of a host tensor by its indices. */
export function at(source: HostTensor): (...indices: readonly number[]) => number {
  const values = toFloat64(source);
  return (...indices) => values[indices.reduce((place, index, axis) => place * (source.shape[axis] ?? 0) + index, 0)] ?? Number.NaN;
}

export function valuesOf(source: Tensor | undefined): Float64Array {
  if (source === undefined || !isHostTensor(source)) throw new TypeError('not on the host');
  return toFloat64(source);
}

export function dotOf(first: (channel: number) => number, second: (channel: number) => number, dim: number): number {
  return Array.from({ length: dim }, (_, channel) => first(channel) * second(channel)).reduce((sum, term) => sum + term, 0);
}

/** Worst distance of two rows of numbers; equal infinities are at distance 0. */
export function distance(got: Float64Array, want: Float64Array): number {
  if (got.length !== want.length) return Infinity;
  return got.reduce((worst, value, index) => (Object.is(value, want[index]) || value === want[index] ? worst : Math.max(worst, Math.abs(value - (want[index] ?? Number.NaN)))), 0);
}
