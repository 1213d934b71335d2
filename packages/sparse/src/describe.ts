import type { BlockList, Tensor } from '@heed/core';
import type { BoundCall } from '@heed/core/compute';
import { bytesPerElement, elementCount, isHostTensor, toFloat64 } from '@heed/core';
import { planeTiles } from './listing.ts';

/** What a list asks for, in words and numbers. `tiles` is null for a list on a device, which nobody counted. */
export interface ListDescription {
  readonly sentence: string;
  readonly tiles: { readonly total: number; readonly empty: number; readonly full: number; readonly mixed: number } | null;
  /** Memory of the list itself. */
  readonly bytes: number;
}

export function describeList(list: BlockList, call: BoundCall): ListDescription {
  const parts = [list.counts, list.indices, list.full, list.queryRows].filter((part) => part !== undefined);
  const bytes = parts.reduce((sum, part) => sum + bytesOf(part), 0);
  const tiles = `tiles of ${list.blockQuery} queries × ${list.blockKey} keys`;
  const counted = countListed(list);
  if (counted === null) return { sentence: `a list of ${tiles} on the device, ${bytes} bytes`, tiles: null, bytes };
  const { listed, full } = counted;
  const [batch = 1, heads = 1] = list.counts.shape;
  // Lists of one entry stand for all sequences alike.
  const total = batch === 1 && call.sequences.length > 0 ? planeTiles({ ...call, sequences: call.sequences.slice(0, 1) }, list) * heads : planeTiles(call, list) * heads;
  return {
    sentence: `a list of ${listed} ${tiles} of ${total}${heads > 1 ? ` over ${heads} heads` : ''}, ${full} of them without mask code; ${bytes} bytes`,
    tiles: { total: Math.max(total, listed), empty: Math.max(0, total - listed), full, mixed: listed - full },
    bytes,
  };
}

function bytesOf(part: Tensor): number {
  return elementCount(part.shape) * bytesPerElement[part.dtype];
}

function countListed({ counts, indices, full }: BlockList): { readonly listed: number; readonly full: number } | null {
  if (!isHostTensor(counts) || (full !== undefined && !isHostTensor(full))) return null;
  const count = toFloat64(counts);
  const marks = full === undefined ? null : toFloat64(full);
  const capacity = indices.shape[3] ?? 0;
  let [listed, whole] = [0, 0];
  for (const [row, own] of count.entries()) {
    listed += own;
    for (let place = row * capacity; place < row * capacity + own; place++) whole += Number(marks?.[place] === 1);
  }
  return { listed, full: whole };
}
