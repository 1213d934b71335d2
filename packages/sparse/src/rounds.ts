import type { BlockList, HostTensor } from '@heed/core';
import type { BoundCall } from '@heed/core/compute';
import { isContiguous, isHostTensor, tensor } from '@heed/core';

/** More rounds than this read and merge more than they save. */
const mostRounds = 8;

/**
 * A list whose gathered rows stand in several tiles, as lists in which each row stands once: round r holds the r-th tile of every row, and rows of one round that see the same blocks stand
 * together. A dense backend computes tiles of many rows well, and rows with a tile set of their own badly; so rounds are computed one by one and merged (L13).
 *
 * @returns null where the dense backend does as well with the list as it is: no gathered rows, each row once, the same rows in all tiles that share one, or more rounds than pay
 */
export function roundsOf(list: BlockList, { heads, sequences, blocks }: Pick<BoundCall, 'heads' | 'sequences' | 'blocks'>): readonly BlockList[] | null {
  const { counts, indices, full, queryRows } = list;
  if (blocks !== list || queryRows === undefined || heads === 0 || sequences.length === 0) return null;
  const parts = [counts, indices, queryRows, ...(full === undefined ? [] : [full])];
  if (!parts.every((part): part is HostTensor => isHostTensor(part) && isContiguous(part))) return null;
  const rowCount = sequences.reduce((most, { queryRows: rows }) => Math.max(most, rows), 0);
  if (!overlaps(list as GatheredList, rowCount)) return null;
  const planes = planesOf(list as GatheredList, rowCount);
  const rounds = planes.reduce((most, plane) => Math.max(most, plane.length), 0);
  if (rounds < 2 || rounds > mostRounds) return null;
  return Array.from({ length: rounds }, (_, round) => assemble(list as GatheredList, planes.map((plane) => plane[round] ?? [])));
}

type GatheredList = BlockList & { readonly counts: HostTensor; readonly indices: HostTensor; readonly queryRows: HostTensor; readonly full?: HostTensor };

/** True when tiles share some of their rows and not others. Tiles of the same rows one after another are a long tile in pieces. */
function overlaps({ counts, queryRows, blockQuery }: GatheredList, rowCount: number): boolean {
  const [batch = 0, heads = 0, tiles = 0] = counts.shape;
  const row = queryRows.view();
  // The plane in which a row was last seen.
  const seen = new Int32Array(rowCount).fill(-1);
  for (let tile = 0; tile < batch * heads * tiles; tile++) {
    const plane = Math.floor(tile / tiles);
    const start = tile * blockQuery;
    let isPiece = tile % tiles > 0;
    for (let place = start; isPiece && place < start + blockQuery; place++) isPiece = row[place] === row[place - blockQuery];
    if (isPiece) continue;
    for (let place = start; place < start + blockQuery; place++) {
      const own = row[place] ?? -1;
      if (own < 0 || own >= rowCount) continue;
      if (seen[own] === plane) return true;
      seen[own] = plane;
    }
  }
  return false;
}

/** Rows that see the blocks of one tile of the list. */
interface Group {
  /** Number of a tile that lists the blocks, through all planes. */
  readonly tile: number;
  readonly rows: number[];
}

/** Groups by plane and round. */
function planesOf({ counts, indices, queryRows, blockQuery }: GatheredList, rowCount: number): readonly (readonly (readonly Group[])[])[] {
  const [batch = 0, heads = 0, tiles = 0] = counts.shape;
  const capacity = indices.shape[3] ?? 0;
  const [count, index, row] = [counts.view(), indices.view(), queryRows.view()];
  const seen = new Int32Array(rowCount);
  return Array.from({ length: batch * heads }, (_, plane) => {
    seen.fill(0);
    const rounds: Group[][] = [];
    const known: Map<number, Group[]>[] = [];
    const sameBlocks = (a: number, b: number): boolean => {
      for (let place = 0; place < (count[a] ?? 0); place++) if (index[a * capacity + place] !== index[b * capacity + place]) return false;
      return count[a] === count[b];
    };
    for (let tile = plane * tiles; tile < (plane + 1) * tiles; tile++) {
      if (count[tile] === 0) continue;
      const first = index[tile * capacity] ?? 0;
      for (let place = tile * blockQuery; place < (tile + 1) * blockQuery; place++) {
        const own = row[place] ?? -1;
        if (own < 0 || own >= rowCount) continue;
        const round = seen[own] ?? 0;
        seen[own] = round + 1;
        if (round >= mostRounds) return Array.from({ length: mostRounds + 1 }, () => []);
        const groups = (known[round] ??= new Map());
        const candidates = groups.get(first) ?? [];
        let group = candidates.find((candidate) => candidate.tile === tile || sameBlocks(candidate.tile, tile));
        if (group === undefined) {
          group = { tile, rows: [] };
          candidates.push(group);
          groups.set(first, candidates);
          (rounds[round] ??= []).push(group);
        }
        group.rows.push(own);
      }
    }
    return rounds;
  });
}

/** One round of every plane as a list. */
function assemble(list: GatheredList, planes: readonly (readonly Group[])[]): BlockList {
  const { blockQuery, blockKey, counts, indices, full } = list;
  const [batch = 0, heads = 0] = counts.shape;
  const capacity = indices.shape[3] ?? 0;
  const tiles = Math.max(1, ...planes.map((groups) => groups.reduce((sum, { rows }) => sum + Math.ceil(rows.length / blockQuery), 0)));
  const lead = [batch, heads, tiles] as const;
  const own = { counts: new Int32Array(planes.length * tiles), indices: new Int32Array(planes.length * tiles * capacity), rows: new Int32Array(planes.length * tiles * blockQuery).fill(-1) };
  const ownFull = full === undefined ? null : new Uint8Array(planes.length * tiles * capacity);
  const [count, index, marks] = [counts.view(), indices.view(), full?.view()];
  for (const [plane, groups] of planes.entries()) {
    let tile = plane * tiles;
    for (const group of groups) {
      const from = group.tile * capacity;
      for (let start = 0; start < group.rows.length; start += blockQuery, tile++) {
        own.counts[tile] = count[group.tile] ?? 0;
        own.indices.set(index.subarray(from, from + capacity), tile * capacity);
        if (ownFull !== null && marks !== undefined) ownFull.set(marks.subarray(from, from + capacity), tile * capacity);
        own.rows.set(group.rows.slice(start, start + blockQuery), tile * blockQuery);
      }
    }
  }
  return {
    blockQuery,
    blockKey,
    counts: tensor(own.counts, lead),
    indices: tensor(own.indices, [...lead, capacity]),
    ...(ownFull === null ? {} : { full: tensor(ownFull, [...lead, capacity]) }),
    queryRows: tensor(own.rows, [...lead, blockQuery]),
  };
}
