import type { Integers } from '../backend.ts';
import type { ErrorCode } from '../errors.ts';
import { AttentionError } from '../errors.ts';
import { show } from '../show.ts';

/** Range of the integers that expressions compute with. */
export const smallestInteger: number = -(2 ** 31);
export const largestInteger: number = 2 ** 31 - 1;

/**
 * Checks a list of integers that the host gives with a call.
 *
 * @param what  how messages call it
 * @param count how many are expected; null: any number
 * @param low   least allowed
 * @param high  most allowed
 */
export function checkIntegers(what: string, candidate: unknown, count: number | null, low: number, high: number, code: ErrorCode): Integers {
  if (!isList(candidate)) throw new AttentionError(code, `${what} is ${show(candidate)}.`, 'Expected an array of integers or an Int32Array.');
  if (count !== null && candidate.length !== count) {
    throw new AttentionError(code, `${what} has ${candidate.length} entries.`, `Expected ${count}, one for each sequence.`);
  }
  for (let index = 0; index < candidate.length; index++) {
    const value: unknown = candidate[index];
    if (!Number.isInteger(value) || (value as number) < low || (value as number) > high) {
      throw new AttentionError(code, `${what}[${index}] is ${show(value)}.`, `Expected an integer from ${low} to ${high}.`);
    }
  }
  return candidate as Integers;
}

function isList(value: unknown): value is readonly unknown[] | Int32Array {
  return Array.isArray(value) || value instanceof Int32Array;
}
