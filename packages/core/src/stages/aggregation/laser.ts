import type { Aggregation } from './stage.ts';
import { reduceBy } from './stage.ts';

/** ln Σ_j w_ij e^(v_j), channel by channel (Duvvuri & Dhillon 2024): gradients reach values that have little weight. */
export function laser(): Aggregation {
  return reduceBy('laser', 'logSumExp');
}
