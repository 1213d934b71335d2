import type { BoundCall, BoundSequence } from '../../bind.ts';
import type { BlockList } from '../../block-list.ts';
import type { EdgeList } from '../../edge-list.ts';
import { evaluate } from '../../expression/evaluate.ts';
import { onHost } from '../../place.ts';
import type { Place } from '../../place.ts';
import { toFloat64 } from '../../tensor.ts';
import type { Tensor } from '../../tensor.ts';

/** Which keys each query may see: within the lengths, allowed by the mask, listed by the blocks and joined by an edge. */
export interface Visibility {
  /** Which edge joins a query row and a key row; null in a call without edges. */
  readonly edgeOf: ((query: number, key: number) => number) | null;
  /** The place stands at the sequence, head and query row; it is moved along the keys. Ascending. */
  keysOf(sequence: BoundSequence, head: number, query: number, place: Place): readonly number[];
}

/** Reads block lists and edge lists once. @throws AttentionError `foreign-tensor` */
export function visibilityOf(call: BoundCall): Visibility {
  const { allowed } = call.request.variant.masking;
  const listed = call.blocks === null ? null : listedTiles(call.blocks);
  const joined = call.edges === null ? null : joinedKeys(call.edges);
  return {
    edgeOf: joined === null ? null : (query, key) => joined(query).get(key) ?? -1,
    keysOf: (sequence, head, query, place) => {
      if (query >= sequence.queryLength) return [];
      const keys: number[] = [];
      const isListed = listed?.(sequence.batch, head, query);
      const neighbours = joined?.(query);
      for (let key = 0; key < sequence.keyLength; key++) {
        if (isListed !== undefined && !isListed(key)) continue;
        if (neighbours !== undefined && !neighbours.has(key)) continue;
        place.enterKey(key);
        if (evaluate(allowed, place) === 1) keys.push(key);
      }
      return keys;
    },
  };
}

/** Whether a key's tile is listed for any tile that holds the query row. */
function listedTiles(blocks: BlockList): (batch: number, head: number, query: number) => (key: number) => boolean {
  const counts = integers('blocks.counts', blocks.counts);
  const indices = integers('blocks.indices', blocks.indices);
  const rows = blocks.queryRows === undefined ? null : integers('blocks.queryRows', blocks.queryRows);
  const [batches = 1, heads = 1, tiles = 0, capacity = 0] = blocks.indices.shape;
  const holds = (flat: number, tile: number, query: number): boolean => {
    if (rows === null) return Math.floor(query / blocks.blockQuery) === tile;
    return rows.subarray(flat * blocks.blockQuery, (flat + 1) * blocks.blockQuery).includes(query);
  };
  return (batch, head, query) => {
    const keyTiles = new Set<number>();
    for (let tile = 0; tile < tiles; tile++) {
      const flat = ((batches === 1 ? 0 : batch) * heads + (heads === 1 ? 0 : head)) * tiles + tile;
      if (!holds(flat, tile, query)) continue;
      for (let entry = 0; entry < (counts[flat] ?? 0); entry++) keyTiles.add(indices[flat * capacity + entry] ?? -1);
    }
    return (key) => keyTiles.has(Math.floor(key / blocks.blockKey));
  };
}

/** The keys of each query's edges, each with its place in the list. */
function joinedKeys(edges: EdgeList): (query: number) => ReadonlyMap<number, number> {
  const starts = integers('edges.starts', edges.starts);
  const keys = integers('edges.keys', edges.keys);
  const rows = Array.from({ length: Math.max(0, starts.length - 1) }, (_, query) => {
    const row = new Map<number, number>();
    for (let edge = starts[query] ?? 0; edge < (starts[query + 1] ?? 0); edge++) row.set(keys[edge] ?? -1, edge);
    return row;
  });
  const none: ReadonlyMap<number, number> = new Map();
  return (query) => rows[query] ?? none;
}

function integers(name: string, tensor: Tensor): Float64Array {
  return toFloat64(onHost(name, tensor));
}
