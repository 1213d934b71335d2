import { write } from '../../expression/scope.ts';
import { AttentionError } from '../../errors.ts';
import type { Normalization } from './stage.ts';
import { normalizeBy } from './stage.ts';

/**
 * [(α − 1) s − τ]₊^(1/(α−1)) with τ such that the row sums to 1 (Peters 2019, equation 5): weights far below the largest are exactly 0. α is part of the structure.
 * As α falls to 1 it becomes softmax; 1.5 is the usual one.
 *
 * @throws AttentionError `invalid-argument` unless alpha is finite and above 1
 */
export function entmax(alpha: number): Normalization {
  if (typeof alpha !== 'number' || !(alpha > 1) || alpha === Infinity) {
    throw new AttentionError('invalid-argument', `entmax got alpha ${String(alpha)}.`, 'Expected a finite number above 1; softmax() is the limit at 1.');
  }
  return normalizeBy('entmax', write('normalize', 'entmax', ({ score }) => score), (score) => ({ kind: 'threshold', score, alpha }));
}

/** [s − τ]₊ with τ such that the row sums to 1 (Martins 2016, equation 2): entmax with α = 2. */
export function sparsemax(): Normalization {
  return normalizeBy('sparsemax', write('normalize', 'sparsemax', ({ score }) => score), (score) => ({ kind: 'threshold', score, alpha: 2 }));
}
