import type { BlockList, HostTensor } from '@heed/core';
import { AttentionError, tensor } from '@heed/core';
import { checkSelection, type Selection } from './selection.ts';

export interface GatherOptions {
  /** Query rows of a tile. Default 64. */
  readonly blockQuery?: number;
  /**
   * Position of row 0 of each sequence, or of all: then runs that end before a row's position are marked as full, so that no causal mask is looked at there. For masks that allow every key
   * before the query. Default: no run is known to be full.
   */
  readonly causalOffset?: number | readonly number[];
}

/** A block list whose query rows are gathered. */
export interface GatheredBlockList extends BlockList {
  readonly counts: HostTensor;
  readonly indices: HostTensor;
  readonly full: HostTensor;
  readonly queryRows: HostTensor;
}

/**
 * A selection as a block list of gathered query groups: for each run of keys, the rows that chose it, in tiles of `blockQuery` rows. A row stands in as many tiles as it chose runs and is
 * merged over them (L13), so a tile has many rows even where every row chose for itself. Use it with the selector's causal mask: what the list allows, the mask may still forbid.
 *
 * Memory is one number for each chosen run of each row, and a few for each tile.
 *
 * @throws AttentionError `invalid-argument` for a selection that no selector makes
 */
export function gatherQueries(selection: Selection, { blockQuery = 64, causalOffset }: GatherOptions = {}): GatheredBlockList {
  if (!Number.isSafeInteger(blockQuery) || blockQuery < 1) throw new AttentionError('invalid-argument', `blockQuery is ${blockQuery}.`, 'Expected an integer of 1 or more.');
  const { unit } = selection;
  const chosen = checkSelection(selection);
  const [batch = 0, heads = 0, rows = 0, capacity = 0] = selection.indices.shape;
  const planes = batch * heads;
  const runs = chosen.reduce((most, index) => Math.max(most, index + 1), 0);
  // Two groups of rows for each run: those that the mask looks at, and those that see all of it.
  const groups = 2 * runs;
  const groupOf = new Int32Array(chosen.length).fill(-1);
  const sizes = new Int32Array(planes * groups);
  for (let at = 0; at < chosen.length; at++) {
    const index = chosen[at] ?? -1;
    if (index < 0) continue;
    const row = Math.floor(at / capacity);
    const plane = Math.floor(row / rows);
    const offset = typeof causalOffset === 'object' ? causalOffset[Math.floor(plane / heads)] : causalOffset;
    const isFull = offset !== undefined && (index + 1) * unit <= offset + (row % rows) + 1;
    const group = plane * groups + 2 * index + Number(isFull);
    groupOf[at] = group;
    sizes[group] = (sizes[group] ?? 0) + 1;
  }
  const firstTile = new Int32Array(sizes.length);
  let tiles = 1;
  for (let plane = 0; plane < planes; plane++) {
    let next = 0;
    for (let group = plane * groups; group < (plane + 1) * groups; group++) {
      firstTile[group] = next;
      next += Math.ceil((sizes[group] ?? 0) / blockQuery);
    }
    tiles = Math.max(tiles, next);
  }
  const made = { counts: new Int32Array(planes * tiles), indices: new Int32Array(planes * tiles), full: new Uint8Array(planes * tiles), rows: new Int32Array(planes * tiles * blockQuery).fill(-1) };
  const placed = new Int32Array(sizes.length);
  for (let at = 0; at < groupOf.length; at++) {
    const group = groupOf[at] ?? -1;
    if (group < 0) continue;
    const row = Math.floor(at / capacity);
    const place = placed[group] ?? 0;
    const tile = Math.floor(row / rows) * tiles + (firstTile[group] ?? 0) + Math.floor(place / blockQuery);
    made.counts[tile] = 1;
    made.indices[tile] = chosen[at] ?? 0;
    made.full[tile] = group % 2;
    made.rows[tile * blockQuery + (place % blockQuery)] = row % rows;
    placed[group] = place + 1;
  }
  const lead = [batch, heads, tiles] as const;
  return {
    blockQuery,
    blockKey: unit,
    counts: tensor(made.counts, lead),
    indices: tensor(made.indices, [...lead, 1]),
    full: tensor(made.full, [...lead, 1]),
    queryRows: tensor(made.rows, [...lead, blockQuery]),
  };
}

/**
 * A selection as a block list of one row a tile, each with its own runs: for decoding, where a step has few rows, and for many runs of a row, of which some lie side by side.
 * @throws AttentionError `invalid-argument` for a selection that no selector makes
 */
export function listRows(selection: Selection): BlockList {
  const chosen = checkSelection(selection);
  const [batch = 0, heads = 0, rows = 0, capacity = 0] = selection.indices.shape;
  const counts = new Int32Array(batch * heads * rows);
  for (const [row] of counts.entries()) {
    const own = chosen.subarray(row * capacity, (row + 1) * capacity).indexOf(-1);
    counts[row] = own < 0 ? capacity : own;
  }
  const lead = [batch, heads, rows] as const;
  const places = Math.max(1, capacity);
  return { blockQuery: 1, blockKey: selection.unit, counts: tensor(counts, lead), indices: tensor(capacity === 0 ? new Int32Array(counts.length) : chosen, [...lead, places]) };
}
