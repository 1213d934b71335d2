import type { Refusal } from '@heed/core';

/** What differs between the runtimes that compute plans. */
export interface Limits {
  /** The widest rows, before and after their transforms. */
  readonly maxDim: number;
  /** Whether gradients of fast-weight requests are computed. */
  readonly gradients: boolean;
}

const storages: readonly string[] = ['f32', 'f16', 'bf16'];

/** Refusals of storage types and of widths. */
export function commonRefusals(dtypes: Readonly<Record<string, string>>, dims: Readonly<Record<string, number>>, { maxDim }: Limits): Refusal[] {
  const refusals: Refusal[] = [];
  for (const [role, dtype] of Object.entries(dtypes)) if (!storages.includes(dtype)) refusals.push({ stage: 'dtype', reason: `${role} is ${dtype}`, remedy: `Use one of ${storages.join(', ')}.` });
  for (const [role, dim] of Object.entries(dims)) if (dim > maxDim) refusals.push({ stage: 'dims', reason: `${role} is ${dim}`, remedy: `Use at most ${maxDim}.` });
  return refusals;
}
