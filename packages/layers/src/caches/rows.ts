import { AttentionError, type DType, type Tensor } from '@heed/core';
import type { CacheRows, CacheShape } from './cache.ts';

/** What a cache checks rows against. */
export interface RowsExpected extends CacheShape {
  readonly batch: number;
  readonly nextPositions: readonly number[];
}

/**
 * Checks rows before anything changes.
 * @returns how many rows each sequence gets
 * @throws AttentionError `invalid-shape`, `invalid-dtype`, `invalid-lengths`, `invalid-positions`
 */
export function checkRows({ batch, keyHeads, keyDim, valueDim, dtype = 'f32', valueStart, nextPositions }: RowsExpected, { key, value, lengths, position }: CacheRows): readonly number[] {
  const length = key.shape[2] ?? 0;
  checkTensor('key', key, [batch, keyHeads, length, keyDim], dtype);
  if (valueStart === undefined) {
    if (value === undefined) throw new AttentionError('invalid-argument', 'append got no values.', 'Pass { key, value }.');
    checkTensor('value', value, [batch, keyHeads, length, valueDim], dtype);
  } else if (value !== undefined) throw new AttentionError('invalid-argument', 'append got values, and this cache takes them from the keys.', 'Pass { key } alone.');
  const counts = lengths === undefined ? nextPositions.map(() => length) : Array.from(lengths);
  if (counts.length !== batch || counts.some((count) => !Number.isSafeInteger(count) || count < 0 || count > length)) {
    throw new AttentionError('invalid-lengths', `append got lengths [${counts.join(', ')}] for ${batch} sequences of ${length} rows.`, `Expected ${batch} integers from 0 to ${length}.`);
  }
  checkPositions(nextPositions, position);
  return counts;
}

function checkTensor(name: string, { shape, dtype: found }: Tensor, expected: readonly number[], dtype: DType): void {
  if (shape.length !== 4 || shape.some((size, axis) => size !== expected[axis])) {
    throw new AttentionError('invalid-shape', `append got ${name} [${shape.join(', ')}].`, `Expected [${expected.join(', ')}].`);
  }
  if (found !== dtype) throw new AttentionError('invalid-dtype', `append got ${name} of ${found}.`, `This cache holds ${dtype}.`);
}

/** @throws AttentionError `invalid-positions` */
export function checkPositions(next: readonly number[], given: CacheRows['position']): void {
  if (given === undefined) return;
  if (typeof given !== 'number' && given.length !== next.length) throw new AttentionError('invalid-positions', `Got ${given.length} positions for ${next.length} sequences.`, 'Pass one number, or one for each sequence.');
  next.forEach((expected, sequence) => {
    const position = typeof given === 'number' ? given : (given[sequence] ?? Number.NaN);
    if (position === expected) return;
    const what = position < expected ? 'holds already' : 'has not come to';
    throw new AttentionError('invalid-positions', `Rows of sequence ${sequence} start at position ${position}, which the cache ${what}.`, `The next position is ${expected}: append there, or roll back first.`);
  });
}

/**
 * Tokens to forget of each sequence.
 * @throws AttentionError `invalid-argument` for more than are held
 */
export function checkRollback(held: readonly number[], count: number | readonly number[]): readonly number[] {
  const counts = held.map((_, sequence) => (typeof count === 'number' ? count : (count[sequence] ?? Number.NaN)));
  counts.forEach((one, sequence) => {
    const most = held[sequence] ?? 0;
    if (!Number.isSafeInteger(one) || one < 0 || one > most) throw new AttentionError('invalid-argument', `rollback got ${one} for sequence ${sequence}.`, `It can forget 0 to ${most} tokens.`);
  });
  return counts;
}

/** A number for each sequence, from one for all. */
export function forEach(batch: number, given: number | readonly number[], what: string): readonly number[] {
  const values = typeof given === 'number' ? Array.from({ length: batch }, () => given) : [...given];
  if (values.length !== batch || values.some((value) => !Number.isSafeInteger(value))) throw new AttentionError('invalid-argument', `${what} is [${values.join(', ')}] for ${batch} sequences.`, 'Pass one integer, or one for each sequence.');
  return values;
}

/** True when every number is the same. */
export function allEqual(numbers: readonly number[]): boolean {
  return numbers.every((one) => one === numbers[0]);
}
