import type { Aggregation } from './stage.ts';
import { reduceBy } from './stage.ts';

/** Σ_j w_ij v_j. */
export function weightedSum(): Aggregation {
  return reduceBy('weightedSum', 'sum');
}
