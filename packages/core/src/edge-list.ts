import type { Tensor } from './tensor.ts';

/**
 * A mask as a directed graph (L17), in compressed rows by query: query i receives from the keys `keys[starts[i] … starts[i + 1] − 1]`.
 * Each edge stands once; the order of a row's edges does not matter.
 */
export interface EdgeList {
  /** i32 [queryLength + 1], ascending from 0. */
  readonly starts: Tensor;
  /** i32 [edges]. */
  readonly keys: Tensor;
}
