import { toFloat64 } from '@heed/core';
import type { HostInputs } from './inputs.ts';
import type { LinearWorkload } from './workloads.ts';

/**
 * The rules of the claims as a person would write them in JavaScript: one head after another, one token after another, typed arrays, no library. Returns the outputs [heads, length, dim].
 * Supports elu + 1 with row sums, a decay by head, and the gated delta rule with unit keys.
 */
export function plainRecurrence({ variant, heads, length, dim }: LinearWorkload, inputs: HostInputs): Float64Array {
  const [query, key, value] = [toFloat64(inputs.query), toFloat64(inputs.key), toFloat64(inputs.value)];
  const logDecay = inputs.logDecay === undefined ? null : toFloat64(inputs.logDecay as HostInputs['query']);
  const strength = inputs.writeStrength === undefined ? null : toFloat64(inputs.writeStrength as HostInputs['query']);
  const isElu = variant.rowSum !== null;
  const removes = strength !== null;
  const scale = isElu ? 1 : 1 / Math.sqrt(dim);
  const output = new Float64Array(heads * length * dim);
  const state = new Float64Array(dim * dim);
  const sums = new Float64Array(dim);
  const [q, k, difference] = [new Float64Array(dim), new Float64Array(dim), new Float64Array(dim)];
  for (let head = 0; head < heads; head++) {
    state.fill(0);
    sums.fill(0);
    for (let token = 0; token < length; token++) {
      const at = (head * length + token) * dim;
      let squares = 0;
      for (let channel = 0; channel < dim; channel++) {
        const [x, y] = [query[at + channel] ?? 0, key[at + channel] ?? 0];
        q[channel] = isElu ? (x > 0 ? x + 1 : Math.exp(x)) : x;
        k[channel] = isElu ? (y > 0 ? y + 1 : Math.exp(y)) : y;
        squares += y * y;
      }
      const decay = logDecay === null ? 1 : Math.exp(logDecay[logDecay.length === heads ? head : head * length + token] ?? 0);
      const beta = strength?.[head * length + token] ?? 1;
      const norm = removes ? Math.sqrt(squares) : 1;
      for (let column = 0; column < dim; column++) difference[column] = value[at + column] ?? 0;
      if (removes) {
        for (let row = 0; row < dim; row++) {
          const unit = (k[row] ?? 0) / norm;
          k[row] = unit;
          const start = row * dim;
          for (let column = 0; column < dim; column++) difference[column] = (difference[column] ?? 0) - unit * decay * (state[start + column] ?? 0);
        }
      }
      let denominator = 1e-6;
      for (let row = 0; row < dim; row++) {
        const [write, read, start] = [beta * (k[row] ?? 0), scale * (q[row] ?? 0), row * dim];
        if (isElu) {
          sums[row] = (sums[row] ?? 0) + write;
          denominator += read * (sums[row] ?? 0);
        }
        for (let column = 0; column < dim; column++) {
          const now = decay * (state[start + column] ?? 0) + write * (difference[column] ?? 0);
          state[start + column] = now;
          output[at + column] = (output[at + column] ?? 0) + read * now;
        }
      }
      if (isElu) for (let column = 0; column < dim; column++) output[at + column] = (output[at + column] ?? 0) / denominator;
    }
  }
  return output;
}
