import { AttentionError } from './errors.ts';
import type { HostTensor, Tensor } from './tensor.ts';
import { isHostTensor, tensor, toFloat64, zeros } from './tensor.ts';
import { checkEdgeList } from './validate/edge-list.ts';

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

/** An edge list that the host can see. */
export interface HostEdgeList extends EdgeList {
  readonly starts: HostTensor;
  readonly keys: HostTensor;
}

/** From key to query, as messages flow. */
export type Edge = readonly [query: number, key: number];

/** Rows of both sides. */
export interface GraphSizes {
  readonly queryLength: number;
  readonly keyLength: number;
}

/**
 * The edges [query, key], in any order. The list has each row ascending, so that one graph is one list, with the same bits in every sum over it (L14).
 *
 * @throws AttentionError `invalid-edges` for one that leaves the graph, `duplicate-edge`
 */
export function edgeList(edges: Iterable<Edge>, sizes: GraphSizes): HostEdgeList {
  const { queryLength, keyLength } = sizes;
  for (const size of [queryLength, keyLength]) {
    if (!Number.isSafeInteger(size) || size < 0) throw new AttentionError('invalid-edges', `Got ${queryLength} queries and ${keyLength} keys.`, 'Expected integers of 0 or more.');
  }
  const rows = Array.from({ length: queryLength }, (): number[] => []);
  for (const [query, key] of edges) {
    const row = rows[query];
    if (row === undefined || !Number.isInteger(key) || key < 0 || key >= keyLength) {
      throw new AttentionError('invalid-edges', `Got the edge [query ${query}, key ${key}].`, `Expected queries 0 … ${queryLength - 1} and keys 0 … ${keyLength - 1}.`);
    }
    row.push(key);
  }
  const list = fromRows(rows.map((row) => row.sort((a, b) => a - b)));
  checkEdgeList(list, { queryRows: queryLength, keyRows: keyLength });
  return list;
}

function fromRows(rows: readonly (readonly number[])[]): HostEdgeList {
  const starts = new Int32Array(rows.length + 1);
  for (const [query, row] of rows.entries()) starts[query + 1] = (starts[query] ?? 0) + row.length;
  const keys = Int32Array.from(rows.flat());
  return { starts: tensor(starts, [starts.length]), keys: tensor(keys, [keys.length]) };
}

/**
 * The allowed pairs of a dense mask as edges.
 *
 * @param mask u8 [queryLength, keyLength], 1 = may attend
 * @throws AttentionError `invalid-edges`
 */
export function edgeListFromMask(mask: HostTensor): HostEdgeList {
  const [queryLength = 0, keyLength = 0] = mask.shape;
  if (mask.shape.length !== 2 || mask.dtype !== 'u8') throw new AttentionError('invalid-edges', `The mask is ${mask.dtype} [${mask.shape.join(', ')}].`, 'Expected u8 [queryLength, keyLength].');
  const pairs = toFloat64(mask);
  return fromRows(Array.from({ length: queryLength }, (_, query) => {
    const row = pairs.subarray(query * keyLength, (query + 1) * keyLength);
    return Array.from(row.keys()).filter((key) => row[key] !== 0);
  }));
}

/**
 * Edges as a dense mask u8 [queryLength, keyLength]: for tests and for looking at.
 *
 * @throws AttentionError `invalid-edges`, `duplicate-edge`
 */
export function edgesToMask(list: EdgeList, keyLength: number): HostTensor {
  const { starts, keys } = list;
  const queryLength = Math.max(0, (starts.shape[0] ?? 0) - 1);
  checkEdgeList(list, { queryRows: queryLength, keyRows: keyLength });
  if (!isHostTensor(starts) || !isHostTensor(keys)) throw new AttentionError('invalid-edges', 'The edge list lives on a device.', 'Read its tensors to the host first.');
  const start = toFloat64(starts);
  const key = toFloat64(keys);
  const mask = zeros([queryLength, keyLength], 'u8');
  const pairs = mask.view();
  for (let query = 0; query < queryLength; query++) {
    for (let edge = start[query] ?? 0; edge < (start[query + 1] ?? 0); edge++) pairs[query * keyLength + (key[edge] ?? 0)] = 1;
  }
  return mask;
}
