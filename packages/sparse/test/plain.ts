import type { HostTensor, Runtime, Tensor } from '@heed/core';
import { tensor, toFloat64 } from '@heed/core';

/** Numbers of N(0, 1) from a seed (mulberry32 and Box-Muller): inputs of tests, the same at every run. */
export function normals(seed: number): () => number {
  let state = seed | 0;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** A tensor of N(0, 1). */
export function random(next: () => number, shape: readonly number[]): HostTensor {
  return tensor(Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, next), shape);
}

/** Elements of a tensor of rank 4, in float64. */
export function reader4(source: HostTensor): (b: number, h: number, row: number, channel: number) => number {
  const [, heads = 0, rows = 0, dim = 0] = source.shape;
  const values = toFloat64(source);
  return (b, h, row, channel) => values[((b * heads + h) * rows + row) * dim + channel] ?? Number.NaN;
}

export interface PlainCall {
  readonly query: HostTensor;
  readonly key: HostTensor;
  readonly value: HostTensor;
  /** Default 1/√dim. */
  readonly scale?: number;
  readonly allowed: (b: number, h: number, query: number, key: number) => boolean;
  /** Of a score, after scaling. */
  readonly modify?: (score: number, b: number, h: number, query: number, key: number) => number;
}

/** Softmax attention pair by pair in float64, as a paper writes it: a row that sees nothing is 0. Independent of heed's own code. */
export function plainAttention({ query, key, value, scale, allowed, modify = (score) => score }: PlainCall): Float64Array {
  const [batch = 0, heads = 0, length = 0, dim = 0] = query.shape;
  const [, keyHeads = 0, keyLength = 0] = key.shape;
  const valueDim = value.shape[3] ?? 0;
  const [q, k, v] = [reader4(query), reader4(key), reader4(value)];
  const output = new Float64Array(batch * heads * length * valueDim);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const keyHead = Math.floor((h * keyHeads) / heads);
      for (let i = 0; i < length; i++) {
        const seen = Array.from({ length: keyLength }, (_, j) => j).filter((j) => allowed(b, h, i, j));
        const scores = seen.map((j) => {
          let sum = 0;
          for (let c = 0; c < dim; c++) sum += q(b, h, i, c) * k(b, keyHead, j, c);
          return modify(sum * (scale ?? 1 / Math.sqrt(dim)), b, h, i, j);
        });
        const most = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - most));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        for (let c = 0; c < valueDim; c++) {
          output[((b * heads + h) * length + i) * valueDim + c] = seen.reduce((sum, j, place) => sum + ((weights[place] ?? 0) / total) * v(b, keyHead, j, c), 0);
        }
      }
    }
  }
  return output;
}

/** The largest difference, in units of 2e-5 + 1e-4 · |want|: at most 1 is right (LAWS, tolerances of float32 softmax). */
export function worstShare(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) return Infinity;
  let worst = 0;
  for (let at = 0; at < want.length; at++) {
    const [a, b] = [got[at] ?? Number.NaN, want[at] ?? Number.NaN];
    const share = Math.abs(a - b) / (2e-5 + 1e-4 * Math.abs(b));
    worst = Math.max(worst, Number.isNaN(share) ? Infinity : share);
  }
  return worst;
}

/** A tensor's elements, wherever it lives. */
export async function numbers(runtime: Runtime, source: Tensor): Promise<Float64Array> {
  return toFloat64(source.runtime === null ? (source as HostTensor) : await runtime.read(source));
}
