import type { Term } from '../../expression/build.ts';
import type { Scope } from '../../expression/scope.ts';
import { positive, requirePositive } from '../arguments.ts';
import type { LengthMeasure } from '../visible-length.ts';
import { visibleLength } from '../visible-length.ts';
import type { Normalization } from './stage.ts';
import { normalization } from './stage.ts';

export interface ReluOptions {
  /** n that weights are divided by: a number (the uniform `<name>.length`), or what is counted at each call. Default 'keys'. A number or 'position' makes prefill and decoding agree. */
  readonly length?: LengthMeasure | number;
}

/**
 * max(s, 0) / n (Wortsman 2023).
 * @throws AttentionError `invalid-argument` when the length is not positive
 */
export function relu(options: ReluOptions = {}): Normalization {
  return perLength('relu', options, (scope) => scope.score.max(0));
}

/**
 * max(s, 0)² / n (Hua 2022); n divides the square.
 * @throws AttentionError `invalid-argument` when the length is not positive
 */
export function reluSquared(options: ReluOptions = {}): Normalization {
  return perLength('reluSquared', options, (scope) => scope.score.max(0).mul(scope.score.max(0)));
}

function perLength(name: string, options: ReluOptions, weight: (scope: Scope<'normalize'>) => Term<'f32'>): Normalization {
  const { length = 'keys' } = options;
  if (typeof length === 'number') requirePositive(name, 'length', length);
  return normalization(name, (scope) => weight(scope).div(typeof length === 'number' ? scope.uniform('length', length, 'f32', positive) : visibleLength(scope, length)));
}
