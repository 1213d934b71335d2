import type { RunOptions } from '../backend.ts';
import { AttentionError } from '../errors.ts';
import { show } from '../show.ts';
import type { Names } from './names.ts';
import { checkNames } from './names.ts';

const optionNames: Names<RunOptions> = { signal: true, into: true };

/**
 * The options of a call, but for the tensors of `into`, which need the call's sizes.
 * @throws AttentionError `invalid-argument` for other names, or a signal that cannot be listened to
 */
export function checkOptions(given: unknown): void {
  if (typeof given !== 'object' || given === null) throw new AttentionError('invalid-argument', `Got ${show(given)} for the options.`, 'Pass { signal, into }, or nothing.');
  checkNames('the options', given, optionNames);
  const signal: unknown = 'signal' in given ? given.signal : undefined;
  if (signal !== undefined && !isSignal(signal)) throw new AttentionError('invalid-argument', `signal is ${show(signal)}.`, 'Pass an AbortSignal: new AbortController().signal.');
}

function isSignal(given: unknown): boolean {
  if (typeof given !== 'object' || given === null) return false;
  return ['addEventListener', 'removeEventListener'].every((method) => typeof Reflect.get(given, method) === 'function') && typeof Reflect.get(given, 'aborted') === 'boolean';
}
