import type { RowNormOptions } from './row-norm.ts';
import { rowNorm } from './row-norm.ts';
import type { RowNorm } from './transform.ts';

export interface RmsNormOptions extends RowNormOptions {
  /** Multiplies by 1 + weight, for models that store the weight less 1 (Gemma, Qwen3-Next). Default false. */
  readonly onePlusWeight?: boolean;
}

/**
 * row / √(mean(row²) + ε) (Zhang 2019), then times `weight` if there is one. ε is 1e-6 unless given. For queries and keys before `rope` (Qwen3), give each its
 * own weight: `transformQuery(rmsNorm({ weight: 'queryNorm' }))`.
 *
 * @throws AttentionError `invalid-argument` when epsilon is not positive
 */
export function rmsNorm(options: RmsNormOptions = {}): RowNorm {
  return rowNorm('rms', 'rmsNorm', options.epsilon ?? 1e-6, options);
}
