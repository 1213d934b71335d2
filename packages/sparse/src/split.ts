import { tensor, toFloat64 } from '@heed/core';
import type { HostBlockList } from '@heed/core/compute';

/** Places for every listed tile that a list may have, before its long tiles are split. */
const mostPlaces = 3;

/**
 * The list, with memory in proportion to what it lists: where few query tiles list far more than the rest, whose places then stand empty, long ones stand in the list in pieces of the same query
 * rows, one after another, which a dense backend joins again. A list without such tiles is returned as it is.
 *
 * @param queryRows rows of queries that the list covers
 */
export function splitLongTiles(list: HostBlockList, queryRows: number): HostBlockList {
  const [batch = 0, heads = 0, tiles = 0, capacity = 0] = list.indices.shape;
  const count = Int32Array.from(toFloat64(list.counts));
  const listed = count.reduce((sum, own) => sum + own, 0);
  const rows = batch * heads * tiles;
  if (rows * capacity <= mostPlaces * listed) return list;
  const places = Math.max(1, Math.ceil(listed / rows));
  const piecesOf = (row: number): number => Math.max(1, Math.ceil((count[row] ?? 0) / places));
  const planes = Array.from({ length: batch * heads }, (_, plane) => Array.from({ length: tiles }, (_unused, tile) => piecesOf(plane * tiles + tile)).reduce((sum, own) => sum + own, 0));
  const most = Math.max(1, ...planes);
  const { blockQuery } = list;
  const made = { counts: new Int32Array(batch * heads * most), indices: new Int32Array(batch * heads * most * places), full: new Uint8Array(batch * heads * most * places), rows: new Int32Array(batch * heads * most * blockQuery).fill(-1) };
  const [index, full] = [list.indices.view(), list.full.view()];
  for (let plane = 0; plane < batch * heads; plane++) {
    let piece = plane * most;
    for (let tile = 0; tile < tiles; tile++) {
      const row = plane * tiles + tile;
      for (let part = 0; part < piecesOf(row); part++, piece++) {
        const own = Math.min(places, (count[row] ?? 0) - part * places);
        const from = row * capacity + part * places;
        made.counts[piece] = own;
        made.indices.set(index.subarray(from, from + own), piece * places);
        made.full.set(full.subarray(from, from + own), piece * places);
        for (let place = 0; place < blockQuery && tile * blockQuery + place < queryRows; place++) made.rows[piece * blockQuery + place] = tile * blockQuery + place;
      }
    }
  }
  const lead = [batch, heads, most] as const;
  return {
    blockQuery,
    blockKey: list.blockKey,
    counts: tensor(made.counts, lead),
    indices: tensor(made.indices, [...lead, places]),
    full: tensor(made.full, [...lead, places]),
    queryRows: tensor(made.rows, [...lead, blockQuery]),
  };
}
