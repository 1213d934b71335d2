import type { BoundCall, BoundSequence } from '@heed/core/compute';
import { classifyTiles } from '@heed/core/compute';
import type { Plan } from './plan.ts';
import { splitKeysOf } from './tiles.ts';

/** Most query rows of a sequence whose keys are split. */
const mostQueries = 16;

/** A query row of one head. */
export interface HeadRow {
  readonly head: number;
  /** Within the sequence. */
  readonly index: number;
}

/** Rows of one key head, with one part of their keys. */
export interface SplitTask {
  readonly sequence: number;
  readonly keyHead: number;
  readonly rows: readonly HeadRow[];
  readonly first: number;
  readonly end: number;
  readonly mixed: boolean;
}

/** A row and the tasks that hold its parts, `firstPart + p · partStep`. */
export interface MergeTask extends HeadRow {
  readonly sequence: number;
  readonly firstPart: number;
  readonly partStep: number;
  readonly partCount: number;
  /** Its place among the rows of those tasks. */
  readonly place: number;
}

export interface SplitSchedule {
  readonly splits: readonly SplitTask[];
  readonly merges: readonly MergeTask[];
}

/** True for a sequence of few queries over keys of two parts or more. It depends on the lengths of that sequence alone (L14). */
export function isSplit(call: BoundCall, plan: Plan, { queryLength, keyLength }: BoundSequence): boolean {
  return plan.path === 'online' && call.blocks === null && queryLength > 0 && queryLength <= mostQueries && keyLength >= 2 * splitKeysOf(plan.tile);
}

/** The parts of every row of the sequences that are split; parts that the mask empties are not among them. */
export function splitSchedule(call: BoundCall, plan: Plan): SplitSchedule {
  const splits: SplitTask[] = [];
  const merges: MergeTask[] = [];
  const splitKeys = splitKeysOf(plan.tile);
  const classes = classifyTiles(call, { blockQuery: mostQueries, blockKey: splitKeys });
  const [entries, planes, queryTiles, keyTiles] = classes.shape;
  for (const [index, sequence] of call.sequences.entries()) {
    if (!isSplit(call, plan, sequence)) continue;
    const entry = entries === 1 ? 0 : index;
    // The class of a part for several heads: mixed where they differ.
    const classOf = (heads: readonly number[], tile: number): number => {
      const found = heads.map((head) => classes.classes[((entry * planes + (planes === 1 ? 0 : head)) * queryTiles) * keyTiles + tile] ?? 0);
      return found.every((one) => one === found[0]) ? (found[0] ?? 0) : 1;
    };
    const group = call.heads / call.keyHeads;
    for (let keyHead = 0; keyHead < call.keyHeads; keyHead += 1) {
      const rows: HeadRow[] = [];
      for (let head = keyHead * group; head < (keyHead + 1) * group; head += 1) for (let row = 0; row < sequence.queryLength; row += 1) rows.push({ head, index: row });
      const batches: (readonly HeadRow[])[] = [];
      for (let at = 0; at < rows.length; at += plan.tile.walkerRows) batches.push(rows.slice(at, at + plan.tile.walkerRows));
      // Parts of one range of keys stand side by side: whoever reads its keys next finds them in the caches.
      const parts: { readonly first: number; readonly end: number; readonly classes: readonly number[] }[] = [];
      for (let first = 0, tile = 0; first < sequence.keyLength; first += splitKeys, tile += 1) {
        const own = batches.map((batch) => classOf([...new Set(batch.map(({ head }) => head))], tile));
        if (own.some((one) => one !== 0)) parts.push({ first, end: Math.min(first + splitKeys, sequence.keyLength), classes: own });
      }
      const firstPart = splits.length;
      for (const { first, end, classes: own } of parts) {
        for (const [place, batch] of batches.entries()) splits.push({ sequence: index, keyHead, rows: batch, first, end, mixed: own[place] !== 2 || end - first < splitKeys });
      }
      for (const [batch, members] of batches.entries()) {
        for (const [place, row] of members.entries()) merges.push({ sequence: index, ...row, firstPart: firstPart + batch, partStep: batches.length, partCount: parts.length, place });
      }
    }
  }
  return { splits, merges };
}
