import { l2Norm } from '../transforms/l2-norm.ts';
import type { ScaleOptions, Scoring } from './stage.ts';
import { scoring } from './stage.ts';

export interface CosineOptions extends ScaleOptions {
  /** Least norm that a row is divided by. Default 1e-12. */
  readonly epsilon?: number;
}

/**
 * scale · q·k / (max(‖q‖, ε) max(‖k‖, ε)) (Graves 2014, equation 6). `scale` is 1 unless given; `modify(headScale())` gives each head a factor of its own
 * (Swin v2: exp of a learned number, at most 100).
 *
 * @throws AttentionError `invalid-argument` when epsilon is not positive
 */
export function cosine(options: CosineOptions = {}): Scoring {
  const { epsilon = 1e-12, scale = 1 } = options;
  return scoring('cosine', ({ queryElement, keyElement }) => queryElement.mul(keyElement), { scale }).transform(l2Norm({ epsilon }));
}
