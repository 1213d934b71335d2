import type { BlockList, HostTensor, Tensor } from '@heed/core';
import { AttentionError, isHostTensor } from '@heed/core';
import type { BoundCall, BoundSequence, TileClasses } from '@heed/core/compute';
import { classifyTiles } from '@heed/core/compute';
import type { Plan } from './plan.ts';
import { isSplit } from './splits.ts';
import { blockKeyOf, blockQueryOf } from './tiles.ts';

/** Keys first … end − 1, none of which the mask surely forbids; mixed where it decides pair by pair. A run that is not mixed is whole tiles. */
export interface KeyRun {
  readonly first: number;
  readonly end: number;
  readonly mixed: boolean;
}

/** Query rows of one head of one sequence, at most a block, with the keys that they walk over. */
export interface BlockTask {
  readonly sequence: number;
  readonly head: number;
  /** Indices within the sequence. */
  readonly rows: readonly number[];
  readonly runs: readonly KeyRun[];
}

/** Every block of a call, but of the sequences whose keys are split. Rows of padding walk over nothing. */
export function scheduleOf(call: BoundCall, plan: Plan): readonly BlockTask[] {
  return call.blocks === null ? maskedTasks(call, plan) : listedTasks(call, call.blocks, plan);
}

/** Tiles of keys that a task computes. */
export function tilesOf({ runs }: BlockTask, { tile }: Plan): number {
  return runs.reduce((sum, { first, end }) => sum + Math.ceil((end - first) / blockKeyOf(tile)), 0);
}

/** Blocks of the observed rows only, each over all the keys that count: scores exist there whatever the mask says. */
export function observedTasks(call: BoundCall, plan: Plan, chosen: { readonly heads: readonly number[]; readonly rows: readonly number[] }): readonly BlockTask[] {
  const seen = new Map<string, readonly KeyRun[]>();
  for (const task of scheduleOf(call, plan)) for (const row of task.rows) seen.set(`${task.sequence} ${task.head} ${row}`, task.runs);
  const tasks: BlockTask[] = [];
  for (const [index, sequence] of call.sequences.entries()) {
    const own = chosen.rows.map((row) => row - sequence.queryStart).filter((row) => row >= 0 && row < sequence.queryLength);
    for (const head of chosen.heads) {
      // Rows of one list of keys stand together.
      const together = new Map<readonly KeyRun[], number[]>();
      for (const row of own) {
        const runs = seen.get(`${index} ${head} ${row}`) ?? [];
        together.set(runs, [...(together.get(runs) ?? []), row]);
      }
      for (const [runs, rows] of together) for (const part of blocksOf(rows, blockQueryOf(plan.tile))) tasks.push({ sequence: index, head, rows: part, runs });
    }
  }
  return tasks;
}

/** The runs with the gaps between them filled, for stages that exist at every pair. */
export function withGaps(runs: readonly KeyRun[], keyLength: number): readonly KeyRun[] {
  return runs.length === 1 && runs[0]?.first === 0 && runs[0].end === keyLength ? runs : keyLength === 0 ? [] : [{ first: 0, end: keyLength, mixed: true }];
}

function maskedTasks(call: BoundCall, plan: Plan): readonly BlockTask[] {
  const blockQuery = blockQueryOf(plan.tile);
  const classes = classifyTiles(call, { blockQuery, blockKey: blockKeyOf(plan.tile) });
  const tasks: BlockTask[] = [];
  const known = new Map<string, readonly KeyRun[]>();
  for (const [index, sequence] of call.sequences.entries()) {
    const blocks = isSplit(call, plan, sequence) ? [] : blocksOf(range(0, sequence.queryLength), blockQuery);
    for (let head = 0; head < call.heads; head += 1) {
      for (const [tile, rows] of blocks.entries()) {
        const [entries, heads] = classes.shape;
        const entry = entries === 1 ? 0 : index;
        const own = heads === 1 ? 0 : head;
        const key = `${entry} ${own} ${tile}`;
        const runs = known.get(key) ?? runsOf(classes, entry, own, tile, sequence);
        known.set(key, runs);
        tasks.push({ sequence: index, head, rows, runs });
      }
    }
    tasks.push(...paddingTasks(call, plan, index, sequence));
  }
  return tasks;
}

function paddingTasks(call: BoundCall, { tile }: Plan, index: number, sequence: BoundSequence): readonly BlockTask[] {
  const tasks: BlockTask[] = [];
  const blocks = blocksOf(range(sequence.queryLength, sequence.queryRows), blockQueryOf(tile));
  for (let head = 0; head < call.heads; head += 1) for (const rows of blocks) tasks.push({ sequence: index, head, rows, runs: [] });
  return tasks;
}

/** Tiles of one class in a row become one run. */
function runsOf({ shape, classes, blockKey }: TileClasses, entry: number, head: number, queryTile: number, { keyLength }: BoundSequence): readonly KeyRun[] {
  const [, heads, queryTiles, tiles] = shape;
  const base = ((entry * heads + head) * queryTiles + queryTile) * tiles;
  const runs: KeyRun[] = [];
  const count = Math.ceil(keyLength / blockKey);
  for (let tile = 0; tile < count; ) {
    const found = classes[base + tile] ?? 0;
    let last = tile + 1;
    while (last < count && (classes[base + last] ?? 0) === found) last += 1;
    if (found !== 0) runs.push({ first: tile * blockKey, end: Math.min(last * blockKey, keyLength), mixed: found === 1 });
    tile = last;
  }
  return joined(runs, blockKey);
}

/** Neighbouring runs of one class as one; what is left of a full run after its whole tiles goes with the mixed ones, whose code looks where keys end. */
function joined(runs: readonly KeyRun[], blockKey: number): readonly KeyRun[] {
  const result: KeyRun[] = [];
  const add = (first: number, end: number, mixed: boolean): void => {
    const last = result.at(-1);
    if (first >= end) return;
    if (last?.end === first && last.mixed === mixed) result.splice(-1, 1, { ...last, end });
    else result.push({ first, end, mixed });
  };
  for (let at = 0; at < runs.length; ) {
    const { first = 0, mixed = true } = runs[at] ?? {};
    let next = at + 1;
    while (next < runs.length && runs[next]?.mixed === mixed && runs[next]?.first === runs[next - 1]?.end) next += 1;
    const end = runs[next - 1]?.end ?? first;
    const whole = mixed ? end : end - ((end - first) % blockKey);
    add(first, whole, mixed);
    add(whole, end, true);
    at = next;
  }
  return result;
}

function listedTasks(call: BoundCall, list: BlockList, plan: Plan): readonly BlockTask[] {
  const tasks: BlockTask[] = [];
  const groups = listedGroups(list);
  for (const [index, sequence] of call.sequences.entries()) {
    for (let head = 0; head < call.heads; head += 1) {
      for (const { rows, blocks } of groups(index, head, sequence)) {
        const runs = blocks
          .map(({ block, full }) => ({ first: block * list.blockKey, end: Math.min((block + 1) * list.blockKey, sequence.keyLength), mixed: !full }))
          .filter(({ first, end }) => first < end);
        const own = joined(runs, blockKeyOf(plan.tile));
        for (const part of blocksOf(rows, blockQueryOf(plan.tile))) tasks.push({ sequence: index, head, rows: part, runs: own });
      }
    }
    tasks.push(...paddingTasks(call, plan, index, sequence));
  }
  return tasks;
}

interface ListedBlock {
  readonly block: number;
  readonly full: boolean;
}

interface RowGroup {
  readonly rows: readonly number[];
  readonly blocks: readonly ListedBlock[];
}

/** Rows that see the same listed blocks, together. A row that stands in several tiles sees the blocks of all of them. */
function listedGroups(list: BlockList): (batch: number, head: number, sequence: BoundSequence) => readonly RowGroup[] {
  const counts = readIntegers('counts', list.counts);
  const indices = readIntegers('indices', list.indices);
  const full = list.full === undefined ? null : readIntegers('full', list.full);
  const rows = list.queryRows === undefined ? null : readIntegers('queryRows', list.queryRows);
  const [batches = 1, heads = 1, tiles = 0] = list.counts.shape;
  return (batch, head, sequence) => {
    const [b, h] = [batches === 1 ? 0 : batch, heads === 1 ? 0 : head];
    const blocksOfTile = (tile: number): readonly ListedBlock[] =>
      range(0, counts([b, h, tile])).map((place) => ({ block: indices([b, h, tile, place]), full: full !== null && full([b, h, tile, place]) === 1 }));
    const tilesOfRow = new Map<number, number[]>(range(0, sequence.queryLength).map((row) => [row, []]));
    for (let tile = 0; tile < tiles; tile += 1) {
      for (let place = 0; place < list.blockQuery; place += 1) tilesOfRow.get(rows === null ? tile * list.blockQuery + place : rows([b, h, tile, place]))?.push(tile);
    }
    const together = new Map<string, number[]>();
    for (const [row, own] of tilesOfRow) {
      const key = own.join();
      const members = together.get(key);
      if (members === undefined) together.set(key, [row]);
      else members.push(row);
    }
    return [...together].map(([key, members]) => {
      const blocks = key === '' ? [] : key.split(',').flatMap((tile) => blocksOfTile(Number(tile)));
      return { rows: members, blocks: blocks.sort((x, y) => x.block - y.block) };
    });
  };
}

function readIntegers(name: string, tensor: Tensor): (indices: readonly number[]) => number {
  if (!isHostTensor(tensor)) throw new AttentionError('foreign-tensor', `blocks.${name} lives where the host cannot see it.`, 'Read it to the host first.');
  const host: HostTensor = tensor;
  const view = host.view();
  return (indices) => view[indices.reduce((sum, index, axis) => sum + index * (host.strides[axis] ?? 0), 0)] ?? 0;
}

function blocksOf(rows: readonly number[], size: number): readonly (readonly number[])[] {
  const blocks: (readonly number[])[] = [];
  for (let start = 0; start < rows.length; start += size) blocks.push(rows.slice(start, start + size));
  return blocks;
}

function range(from: number, to: number): readonly number[] {
  const numbers: number[] = [];
  for (let number = from; number < to; number += 1) numbers.push(number);
  return numbers;
}
