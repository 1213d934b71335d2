import type { Tensor } from '@heed/core';
import { contiguousStrides } from '@heed/core';
import type { BoundFastWeights } from '@heed/core/compute';

/** A row of queries or keys: where it stands in its tensor, and what transforms read of it. */
export interface RowPlace {
  readonly tensorBatch: number;
  readonly row: number;
  readonly batch: number;
  readonly index: number;
  readonly position: number;
}

/** Where an input of the rule is read at a step: its number of step 0, counted in the tensor, and what a step adds. */
export interface InputPlace {
  readonly at: number;
  readonly step: number;
}

/** Rows of queries, and of keys, of every sequence; positions are taken modulo the period. */
export function rowPlaces({ sequences }: BoundFastWeights, period: number | null): readonly RowPlace[] {
  return sequences.flatMap(({ index: batch, tensorBatch, start, length, offset }) =>
    Array.from({ length }, (_, index): RowPlace => {
      const position = offset + index;
      return { tensorBatch, row: start + index, batch, index, position: period === null ? position : position - period * Math.floor(position / period) };
    }),
  );
}

/** In the dense tensor; axes of size 1 repeat. */
export function inputPlace(tensor: Tensor | undefined, batch: number, head: number, row: number): InputPlace {
  if (tensor === undefined) return { at: 0, step: 0 };
  const steps = contiguousStrides(tensor.shape).map((stride, axis) => (tensor.shape[axis] === 1 ? 0 : stride));
  const [batchStep = 0, headStep = 0, rowStep = 0] = steps;
  return { at: batch * batchStep + head * headStep + row * rowStep, step: rowStep };
}
