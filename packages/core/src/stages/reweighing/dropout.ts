import { AttentionError } from '../../errors.ts';
import type { Formula } from '../../expression/scope.ts';
import { given, requireSeed } from '../arguments.ts';
import { reweighing } from './reweighing.ts';

export interface DropoutOptions {
  /** Share of the weights that become 0, from 0 to less than 1; the uniform `dropout.probability`. */
  readonly probability: number;
  /** A 32-bit integer, the uniform `dropout.seed`; another seed, other weights (L14). */
  readonly seed: number;
}

/**
 * weight / (1 − p) with probability 1 − p, else 0, so that its mean stays (Srivastava 2014). After the normalization: rows no longer sum to 1.
 * @throws AttentionError `invalid-argument`
 */
export function dropout(options: DropoutOptions): Formula {
  const { probability, seed } = given(options);
  requireSeed('dropout', seed);
  if (typeof probability !== 'number' || !(probability >= 0 && probability < 1)) {
    throw new AttentionError('invalid-argument', `dropout got probability ${String(probability)}.`, 'Expected a number from 0 to less than 1.');
  }
  return reweighing('dropout', ({ weight, random, uniform }) => {
    const share = uniform('probability', probability, 'f32', [0, 1 - 2 ** -24]);
    const kept = random(uniform('seed', seed, 'i32'), 2).ge(share);
    return kept.select(weight.div(share.neg().add(1)), 0);
  });
}
