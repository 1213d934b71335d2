import type { RowNormOptions } from './row-norm.ts';
import { rowNorm } from './row-norm.ts';
import type { RowNorm } from './transform.ts';

export interface LayerNormOptions extends RowNormOptions {
  /** Name of a table that is added last, one number for each channel. Default: none. */
  readonly bias?: string;
}

/**
 * (row − mean) / √(variance + ε) (Ba 2016), then times `weight` and plus `bias` if there are any. ε is 1e-5 unless given.
 * @throws AttentionError `invalid-argument` when epsilon is not positive
 */
export function layerNorm(options: LayerNormOptions = {}): RowNorm {
  return rowNorm('layer', 'layerNorm', options.epsilon ?? 1e-5, options);
}
