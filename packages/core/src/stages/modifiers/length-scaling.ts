import { atLeast, given, requireInteger } from '../arguments.ts';
import type { LengthMeasure } from '../visible-length.ts';
import { visibleLength } from '../visible-length.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

export interface LengthScalingOptions {
  /** Number of keys that scores were trained with, 2 or more; the uniform `lengthScaling.trained`. */
  readonly trained: number;
  /** Default 'position'. */
  readonly measure?: LengthMeasure;
  /** Leaves rows of at most `trained` keys alone: the factor is at least 1. Default false. */
  readonly onlyLonger?: boolean;
}

/**
 * score · ln n / ln trained (Su 2021, "Attention scaled by the logarithm of the length"; Chiang 2022).
 * @throws AttentionError `invalid-argument`
 */
export function lengthScaling(options: LengthScalingOptions): Modifier {
  const { trained, measure = 'position', onlyLonger = false } = given(options);
  requireInteger('lengthScaling', 'trained', trained, 2);
  return modifier('lengthScaling', (scope) => {
    const factor = visibleLength(scope, measure).log().div(scope.uniform('trained', trained, 'f32', atLeast(2)).log());
    return scope.score.mul(onlyLonger ? factor.max(1) : factor);
  });
}
