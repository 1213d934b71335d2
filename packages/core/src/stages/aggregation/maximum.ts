import type { Aggregation } from './stage.ts';
import { reduceBy } from './stage.ts';

/** max_j w_ij v_j, channel by channel over the allowed keys: max pooling over the edges of a graph (Qi 2017; Xu 2019). With `none` or equal weights it is plain max pooling. */
export function maximum(): Aggregation {
  return reduceBy('maximum', 'max');
}
