import { write } from '../../expression/scope.ts';
import { given, positive, requirePositive, requireSeed } from '../arguments.ts';
import type { Normalization } from './stage.ts';
import { normalizeBy } from './stage.ts';

export interface GumbelOptions {
  /** A 32-bit integer, the uniform `gumbel.seed`; another seed, other noise (L14). */
  readonly seed: number;
  /** Default 1; the uniform `gumbel.temperature`. */
  readonly temperature?: number;
  /** Draws one key for each row instead: 1 at the largest noisy score, with the probabilities of softmax (Gumbel 1954). Default false. */
  readonly hard?: boolean;
}

/**
 * softmax((s + g) / temperature) with g = −ln(−ln u), u in (0, 1) (Jang 2017, Maddison 2017).
 * @throws AttentionError `invalid-argument`
 */
export function gumbel(options: GumbelOptions): Normalization {
  const { seed, temperature = 1, hard = false } = given(options);
  requireSeed('gumbel', seed);
  requirePositive('gumbel', 'temperature', temperature);
  const formula = write('normalize', 'gumbel', ({ score, random, uniform }) => {
    const noise = random(uniform('seed', seed, 'i32'), 1).log().neg().log().neg();
    return hard ? score.add(noise) : score.add(noise).div(uniform('temperature', temperature, 'f32', positive));
  });
  return normalizeBy('gumbel', formula, (score) => (hard ? { kind: 'hardMax', score } : { kind: 'softmax', score, sink: null }));
}
