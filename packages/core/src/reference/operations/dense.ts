import { AttentionError } from '../../errors.ts';

/** What every operation computes on: float64 numbers, row-major. */
export interface Dense {
  readonly data: Float64Array;
  readonly shape: readonly number[];
}

/** The last axis as rows: how many there are and how long each is. */
export function rowsOf({ data, shape }: Dense): { readonly count: number; readonly size: number } {
  const size = shape.at(-1) ?? 0;
  return { count: size === 0 ? shape.slice(0, -1).reduce((product, axis) => product * axis, 1) : data.length / size, size };
}

/** @throws AttentionError `invalid-shape` unless the ranks agree */
export function checkRank(what: string, { shape }: Dense, rank: number, axes: string): void {
  if (shape.length !== rank) throw new AttentionError('invalid-shape', `${what} has shape [${shape.join(', ')}].`, `Expected ${axes}.`);
}

/** @throws AttentionError `invalid-shape` unless the shapes agree */
export function checkShape(what: string, { shape }: Dense, expected: readonly number[]): void {
  if (shape.length !== expected.length || shape.some((size, axis) => size !== expected[axis])) {
    throw new AttentionError('invalid-shape', `${what} has shape [${shape.join(', ')}].`, `Expected [${expected.join(', ')}].`);
  }
}
