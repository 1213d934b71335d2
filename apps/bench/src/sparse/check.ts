import { float32Attention } from '@heed/conformance';
import { toFloat64, type HostTensor } from '@heed/core';
import type { Verdict } from '../measure.ts';
import { dim, heads, type PreparedSparse, type SparseInputs } from './workloads.ts';

/** Rows that are compared, of the first and the last head. */
const rows = 16;

/** Some rows of the output against softmax over the pattern's own keys in float64. */
export function checkRows({ host }: SparseInputs, { keysOf }: PreparedSparse, output: HostTensor, length: number): Verdict {
  const [query, key, value, got] = [toFloat64(host.query), toFloat64(host.key), toFloat64(host.value), toFloat64(output)];
  let [maxAbsError, maxRelError, worstShare, compared] = [0, 0, 0, 0];
  let largest = 0;
  const bound = float32Attention.bound({ length, dim, dtype: 'f32', score: 8, magnitude: 4 });
  for (const head of [0, heads - 1]) {
    for (let sample = 0; sample < rows; sample++) {
      const row = Math.floor((sample * (length - 1)) / (rows - 1));
      const keys = keysOf(head, row);
      const scores = keys.map((one) => dot(query, (head * length + row) * dim, key, (head * length + one) * dim) / Math.sqrt(dim));
      const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
      const weights = scores.map((score) => Math.exp(score - most));
      const total = weights.reduce((a, b) => a + b, 0);
      for (let channel = 0; channel < dim; channel++) {
        const want = keys.reduce((sum, one, place) => sum + ((weights[place] ?? 0) / total) * (value[(head * length + one) * dim + channel] ?? 0), 0);
        const error = Math.abs(want - (got[(head * length + row) * dim + channel] ?? Number.NaN));
        largest = Math.max(largest, Math.abs(want));
        maxAbsError = Math.max(maxAbsError, error);
        maxRelError = Math.max(maxRelError, error / Math.max(Math.abs(want), 1e-30));
        worstShare = Math.max(worstShare, Number.isNaN(error) ? Infinity : error / (bound.absolute + bound.relative * Math.abs(want)));
        compared += 1;
      }
    }
  }
  return { passed: worstShare <= 1, maxAbsError, maxRelError, bound, worstShare, compared, elements: heads * length * dim };
}

function dot(a: Float64Array, from: number, b: Float64Array, at: number): number {
  let sum = 0;
  for (let channel = 0; channel < dim; channel++) sum += (a[from + channel] ?? 0) * (b[at + channel] ?? 0);
  return sum;
}
