import { AttentionError } from '../errors.ts';
import type { UniformRange } from '../expression/declarations.ts';

/** Range of a uniform that is finite and above 0 in float32. */
export const positive: UniformRange = [2 ** -126, (2 - 2 ** -23) * 2 ** 127];

/** Range of a uniform that counts positions, as {@link requireInteger} has it. */
export function atLeast(least: number): UniformRange {
  return [least, 2 ** 30];
}

/** The options of a member. A caller without types may leave them out; what is missing then fails the check of its own. */
export function given<T extends object>(options: T | undefined): T {
  return options ?? ({} as T);
}

/** @throws AttentionError `invalid-argument` unless `value` is an integer from `least` to 2³⁰, so that sums of two positions stay within i32 */
export function requireInteger(member: string, name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least || value > 2 ** 30) {
    throw new AttentionError('invalid-argument', `${member} got ${name} ${String(value)}.`, `Expected an integer of ${least} or more, at most 2^30.`);
  }
}

/** @throws AttentionError `invalid-argument` unless `value` is a finite number above 0 */
export function requirePositive(member: string, name: string, value: number): void {
  if (typeof value !== 'number' || !(value > 0) || value === Infinity) {
    throw new AttentionError('invalid-argument', `${member} got ${name} ${String(value)}.`, 'Expected a finite number above 0.');
  }
}

/** @throws AttentionError `invalid-argument` unless `seed` is a 32-bit integer */
export function requireSeed(member: string, seed: number): void {
  if (typeof seed !== 'number' || (seed | 0) !== seed) throw new AttentionError('invalid-argument', `${member} got seed ${String(seed)}.`, 'Expected a 32-bit integer.');
}
