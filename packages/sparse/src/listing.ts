import type { BoundCall, HostBlockList, TileSizes } from '@heed/core/compute';
import { AttentionError, readsInput, walk } from '@heed/core';
import { listTiles } from '@heed/core/compute';
import { splitLongTiles } from './split.ts';

/** When a mask becomes a block list, and of which tiles. */
export interface ListingOptions {
  /** Query rows of a tile. Default 32. */
  readonly blockQuery?: number;
  /** Keys of a tile. Default 16. */
  readonly blockKey?: number;
  /**
   * Tiles of the whole plane from which a list is made; below, the dense backend looks at the mask itself, which it does well for short calls. Default 2¹⁸, which is 16,384 queries and
   * as many keys; 0 makes a list of every mask.
   */
  readonly leastTiles?: number;
}

export type Listing = Required<ListingOptions>;

/** @throws AttentionError `invalid-argument` */
export function listingOf({ blockQuery = 32, blockKey = 16, leastTiles = 2 ** 18 }: ListingOptions): Listing {
  for (const [name, size, least] of [['blockQuery', blockQuery, 1], ['blockKey', blockKey, 1], ['leastTiles', leastTiles, 0]] as const) {
    if (!Number.isSafeInteger(size) || size < least) throw new AttentionError('invalid-argument', `${name} is ${size}.`, `Expected an integer of ${least} or more.`);
  }
  return { blockQuery, blockKey, leastTiles };
}

/** The list of a call's mask, where the plan is to have one; null where the dense backend is to look at the mask itself. It keeps the last list for calls alike. */
export class Lister {
  readonly #listing: Listing;
  #last: { readonly numbers: string; readonly list: HostBlockList } | null = null;

  constructor(listing: Listing) {
    this.#listing = listing;
  }

  listOf(call: BoundCall): HostBlockList | null {
    const { allowed } = call.request.variant.masking;
    if (call.blocks !== null || call.edges !== null || call.inputs.pages !== undefined || call.request.observe !== undefined || !isSelective(call)) return null;
    if (planeTiles(call, this.#listing) < this.#listing.leastTiles) return null;
    const numbers = [...walk(allowed)].some(({ kind }) => kind === 'table') ? null : numbersOf(call);
    if (numbers !== null && this.#last?.numbers === numbers) return this.#last.list;
    const list = splitLongTiles(listTiles(call, this.#listing), call.sequences.reduce((most, { queryRows }) => Math.max(most, queryRows), 0));
    if (numbers !== null) this.#last = { numbers, list };
    return list;
  }
}

/** Few rows share the keys among them better than a list says; a mask that allows everything needs none. */
function isSelective({ request, sequences }: BoundCall): boolean {
  return request.variant.masking.allowed.kind !== 'constant' && sequences.some(({ queryRows }) => queryRows > 1);
}

/** Tiles of the plane of every sequence, listed or not. */
export function planeTiles({ sequences }: BoundCall, { blockQuery, blockKey }: TileSizes): number {
  return sequences.reduce((sum, { queryRows, keyRows }) => sum + Math.ceil(queryRows / blockQuery) * Math.ceil(keyRows / blockKey), 0);
}

/** Everything that a mask without tables reads of a call; null where explicit positions stand in tensors. */
function numbersOf({ heads, keyHeads, sequences, uniforms, request }: BoundCall): string | null {
  if (sequences.some(({ queryPositions, keyPositions }) => queryPositions !== null || keyPositions !== null)) return null;
  const reads = readsInput(request.variant.masking.allowed, 'head', 'keyHead') ? [heads, keyHeads] : [];
  return JSON.stringify([reads, sequences.map(({ batch, queryRows, keyRows, queryLength, keyLength, totalKeyLength, queryOffset, keyOffset }) => [batch, queryRows, keyRows, queryLength, keyLength, totalKeyLength, queryOffset, keyOffset]), uniforms]);
}
