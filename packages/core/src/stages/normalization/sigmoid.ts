import { write } from '../../expression/scope.ts';
import { AttentionError } from '../../errors.ts';
import { requirePositive } from '../arguments.ts';
import type { LengthMeasure } from '../visible-length.ts';
import { visibleLength } from '../visible-length.ts';
import type { Normalization } from './stage.ts';
import { normalizeBy } from './stage.ts';

export interface SigmoidOptions {
  /** n of the bias −ln n: a number, or what is counted at each call. Default 'keys'. A number or 'position' makes prefill and decoding agree. */
  readonly length?: LengthMeasure | number;
  /** The bias itself, instead of −ln n; the uniform `sigmoid.bias`. */
  readonly bias?: number;
}

/**
 * σ(s + b) with b = −ln n (Ramapuram 2024, equation 3): each weight depends on its own score alone, and rows do not sum to 1.
 * @throws AttentionError `invalid-argument` for both options at once, or a length that is not positive
 */
export function sigmoid(options: SigmoidOptions = {}): Normalization {
  const { bias, length = 'keys' } = options;
  if (bias !== undefined && options.length !== undefined) throw new AttentionError('invalid-argument', `sigmoid got bias ${bias} and length ${length}.`, 'Give one of them.');
  if (typeof length === 'number') requirePositive('sigmoid', 'length', length);
  const formula = write('normalize', 'sigmoid', (scope) => {
    const shifted = typeof length === 'number' || bias !== undefined
      ? scope.score.add(scope.uniform('bias', bias ?? -Math.log(Number(length))))
      : scope.score.sub(visibleLength(scope, length).log());
    return shifted.sigmoid();
  });
  return normalizeBy('sigmoid', formula, (score) => ({ kind: 'elementwise', score }));
}
