import type { RowNormOptions } from './row-norm.ts';
import { rowNorm } from './row-norm.ts';
import type { RowNorm } from './transform.ts';

/**
 * row / max(‖row‖, ε), then times `weight` if there is one. ε is 1e-12 unless given.
 * @throws AttentionError `invalid-argument` when epsilon is not positive
 */
export function l2Norm(options: RowNormOptions = {}): RowNorm {
  return rowNorm('l2', 'l2Norm', options.epsilon ?? 1e-12, options);
}
