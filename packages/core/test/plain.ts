import { expect } from 'vitest';
import type { AttentionInputs, AttentionOutputs, AttentionVariant, HostTensor } from '../src/index.ts';
import { tensor, toFloat64 } from '../src/index.ts';
import { ReferenceKernel } from '../src/reference/attention/kernel.ts';

/** Numbers of −1 … 1 that look random, the same for the same seed. */
export function numbers(seed: number, count: number): Float64Array {
  let state = Math.imul(seed, 2654435761) | 0;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 0) / 2 ** 31 - 1;
  });
}

export function random(seed: number, shape: readonly number[]): HostTensor {
  return tensor(numbers(seed, shape.reduce((a, b) => a * b, 1)), shape);
}

/** Rows 4 wide, values 3 wide, two query heads that share one key head; queries and keys differ in number. */
export const sizes = { batch: 2, heads: 2, keyHeads: 1, queryLength: 4, keyLength: 5, dim: 4, valueDim: 3 } as const;

export const query: HostTensor = random(11, [sizes.batch, sizes.heads, sizes.queryLength, sizes.dim]);
export const key: HostTensor = random(12, [sizes.batch, sizes.keyHeads, sizes.keyLength, sizes.dim]);
export const value: HostTensor = random(13, [sizes.batch, sizes.keyHeads, sizes.keyLength, sizes.valueDim]);

export type Vector = readonly number[];

/** One pair: query i of a head, at position p = i + 1, and key j, at position r = j. */
export interface Pair {
  readonly b: number;
  readonly h: number;
  readonly i: number;
  readonly j: number;
  readonly p: number;
  readonly r: number;
}

/** Formulas as a paper has them. */
export interface Formulas {
  /** Default q·k / √4. */
  readonly score?: (q: Vector, k: Vector, at: Pair) => number;
  /** Default: every pair. */
  readonly allowed?: (at: Pair) => boolean;
  /** Weights of the allowed keys of a row. Default e^s / Σ e^s. */
  readonly weights?: (scores: Vector, at: Omit<Pair, 'j' | 'r'>, allowed: readonly Pair[]) => Vector;
  /** One channel. Default Σ w v. */
  readonly aggregate?: (weights: Vector, values: Vector, at: Omit<Pair, 'j' | 'r'>, channel: number) => number;
}

export const dot = (q: Vector, k: Vector): number => q.reduce((sum, x, c) => sum + x * k[c]!, 0);
export const total = (xs: Vector): number => xs.reduce((sum, x) => sum + x, 0);
export const softmaxOf = (scores: Vector): Vector => scores.map((s) => Math.exp(s) / total(scores.map(Math.exp)));

/** Output of {@link query}, {@link key} and {@link value} by nested loops, for queries that stand at positions 1, 2, …. */
export function plain(formulas: Formulas): number[] {
  const { score = (q: Vector, k: Vector): number => dot(q, k) / 2, allowed = (): boolean => true, weights = softmaxOf, aggregate = dot } = formulas;
  const [queries, keys, values] = [toFloat64(query), toFloat64(key), toFloat64(value)];
  const row = (data: Float64Array, at: number, width: number): Vector => [...data.subarray(at * width, (at + 1) * width)];
  const output: number[] = [];
  for (let b = 0; b < sizes.batch; b++) {
    for (let h = 0; h < sizes.heads; h++) {
      for (let i = 0; i < sizes.queryLength; i++) {
        const at = { b, h, i, p: i + 1 };
        const q = row(queries, (b * sizes.heads + h) * sizes.queryLength + i, sizes.dim);
        const pairs = Array.from({ length: sizes.keyLength }, (_, j) => ({ ...at, j, r: j })).filter(allowed);
        const w = weights(pairs.map((pair) => score(q, row(keys, b * sizes.keyLength + pair.j, sizes.dim), pair)), at, pairs);
        const v = pairs.map(({ j }) => row(values, b * sizes.keyLength + j, sizes.valueDim));
        for (let channel = 0; channel < sizes.valueDim; channel++) output.push(pairs.length === 0 ? 0 : aggregate(w, v.map((each) => each[channel]!), at, channel));
      }
    }
  }
  return output;
}

export type Tables = Readonly<Record<string, HostTensor>>;

/** What the reference computes of the same tensors. */
export async function run(variant: AttentionVariant, inputs: Partial<AttentionInputs> = {}): Promise<AttentionOutputs<HostTensor>> {
  const kernel = new ReferenceKernel({ variant, queryDim: sizes.dim, keyDim: sizes.dim, valueDim: sizes.valueDim, dtypes: { query: 'f64', key: 'f64', value: 'f64' } }, () => false);
  return kernel.run({ query, key, value, queryOffset: 1, ...inputs });
}

export function expectClose(got: HostTensor | undefined, want: ArrayLike<number>, tolerance = 1e-12): void {
  expect(got).toBeDefined();
  if (got === undefined) return;
  const found = toFloat64(got);
  expect(found.length).toBe(want.length);
  for (let index = 0; index < want.length; index++) {
    const expected = want[index]!;
    if (!Number.isFinite(expected)) expect(found[index], `[${index}]`).toBe(expected);
    else expect(Math.abs(found[index]! - expected), `[${index}] is ${found[index]}, expected ${expected}`).toBeLessThanOrEqual(tolerance * (1 + Math.abs(expected)));
  }
}

/** The reference computes what the formulas say. */
export async function expectPlain(variant: AttentionVariant, formulas: Formulas, tables: Tables = {}): Promise<void> {
  const { output } = await run(variant, { tables });
  expectClose(output, plain(formulas));
}
