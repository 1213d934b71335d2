import { AttentionError } from '@heed/core';
import { checkNames, type Names } from '@heed/core/compute';

/**
 * Options that nothing reads are refused, with the nearest name (L20).
 * @throws AttentionError `invalid-argument`
 */
export function checkOptionNames<T extends object>(what: string, given: T, names: Names<T>): void {
  if (typeof (given as unknown) !== 'object') throw new AttentionError('invalid-argument', `Got a ${typeof given} for ${what}.`, 'Pass an object.');
  checkNames(what, given, names);
}
