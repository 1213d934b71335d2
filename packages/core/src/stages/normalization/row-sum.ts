import { join } from '../../expression/declarations.ts';
import { write } from '../../expression/scope.ts';
import { AttentionError } from '../../errors.ts';
import type { Normalization } from './stage.ts';
import { normalizeBy } from './stage.ts';

export interface RowSumOptions {
  /** Added to the sum; the uniform `rowSum.epsilon`. Default 1e-6 (Katharopoulos 2020, released code). */
  readonly epsilon?: number;
}

/**
 * s / (Σ s + ε): the denominator of linear attention (Katharopoulos 2020, equation 4). For scores that are not negative; signed ones may sum to 0.
 * @throws AttentionError `invalid-argument` when epsilon is negative
 */
export function rowSum(options: RowSumOptions = {}): Normalization {
  const { epsilon = 1e-6 } = options;
  if (typeof epsilon !== 'number' || !(epsilon >= 0)) throw new AttentionError('invalid-argument', `rowSum got epsilon ${String(epsilon)}.`, 'Expected 0 or more.');
  const score = write('normalize', 'rowSum', (scope) => scope.score);
  const least = write('normalize', 'rowSum', ({ uniform }) => uniform('epsilon', epsilon, 'f32', [0, Infinity]));
  const formula = { ...join(score, least).declarations, expression: score.expression };
  return normalizeBy('rowSum', formula, (expression) => ({ kind: 'rowSum', score: expression, epsilon: least.expression }));
}
