import type { BlockList, HostTensor, Tensor } from '@heed/core';
import type { BoundCall, BoundSequence, TileClasses } from '@heed/core/compute';
import { AttentionError, isHostTensor } from '@heed/core';
import { classifyTiles } from '@heed/core/compute';
import type { Plan } from './plan.ts';

/** A run of keys: panels first … end, of which the mask may allow low … high − 1; mixed where it decides pair by pair. */
export interface KeyTile {
  readonly first: number;
  readonly end: number;
  readonly low: number;
  readonly high: number;
  readonly mixed: boolean;
  /** Rows of the block that see any of it: rowFrom … rowTo − 1, as far as the block has them. */
  readonly rowFrom: number;
  readonly rowTo: number;
}

/** Query rows of one head of one sequence, with the keys that they walk over. */
export interface BlockTask {
  readonly sequence: number;
  readonly head: number;
  /** Indices within the sequence. */
  readonly rows: readonly number[];
  readonly tiles: readonly KeyTile[];
}

/** Every block of a call, long ones first. Rows of padding walk over nothing. */
export function scheduleOf(call: BoundCall, plan: Plan): readonly BlockTask[] {
  const tasks = call.blocks === null ? maskedTasks(call, plan) : listedTasks(call, call.blocks, plan);
  return tasks.map((task) => ({ task, cost: costOf(task) })).sort((a, b) => b.cost - a.cost).map(({ task }) => task);
}

/** A part of the keys of one key head, for the query rows of all heads that read it. */
export interface PartTask extends BlockTask {
  /** Number of the part among those of its key head, and how many there are. */
  readonly part: number;
  readonly parts: number;
}

/**
 * Parts of a call with few queries, in the order of their workspaces; null where blocks of queries are better. How keys are split depends on their number alone.
 */
export function partsOfCall(call: BoundCall, plan: Plan): readonly PartTask[] | null {
  const group = call.heads / call.keyHeads;
  const few = call.sequences.every(({ queryRows }) => queryRows * group <= plan.partRows);
  if (!plan.readsInPlace || !few || call.blocks !== null) return null;
  const tasks: PartTask[] = [];
  const classes = classifyTiles(call, { blockQuery: plan.partRows, blockKey: plan.stepKey });
  for (const [index, sequence] of call.sequences.entries()) {
    if (sequence.queryRows === 0) continue;
    // Rows of padding would need a list of their own.
    if (sequence.queryLength < sequence.queryRows) return null;
    const tiles = keyTiles(classes, classes.shape[0] === 1 ? 0 : index, 0, 0, sequence, plan);
    const parts = Math.max(1, Math.ceil(sequence.keyLength / plan.partKeys));
    const rows = range(0, sequence.queryRows);
    const lists = Array.from({ length: parts }, (_, part) => tiles.filter(({ first }) => Math.floor(first / plan.partKeys) === part));
    for (let keyHead = 0; keyHead < call.keyHeads; keyHead += 1) {
      lists.forEach((own, part) => tasks.push({ sequence: index, head: keyHead, rows, tiles: own, part, parts }));
    }
  }
  return tasks;
}

/** Pairs that are computed for a task. */
export function costOf({ rows, tiles }: BlockTask): number {
  return rows.length + tiles.reduce((sum, { first, end, rowFrom, rowTo }) => sum + (Math.min(rowTo, rows.length) - rowFrom) * (end - first), 0);
}

function maskedTasks(call: BoundCall, plan: Plan): BlockTask[] {
  const { blockQuery, stepQuery } = plan;
  const classes = classifyTiles(call, { blockQuery: stepQuery, blockKey: plan.stepKey });
  const tasks: BlockTask[] = [];
  const lists = new Map<string, readonly KeyTile[]>();
  for (const [index, sequence] of call.sequences.entries()) {
    const blocks = blocksOf(0, sequence.queryLength, blockQuery);
    for (let head = 0; head < call.heads; head += 1) {
      for (const [tile, rows] of blocks.entries()) {
        const [entries, heads] = classes.shape;
        const key = `${entries === 1 ? 0 : index} ${heads === 1 ? 0 : head} ${tile}`;
        const tiles = lists.get(key) ?? keyTiles(classes, entries === 1 ? 0 : index, heads === 1 ? 0 : head, tile * (blockQuery / stepQuery), sequence, plan);
        lists.set(key, tiles);
        tasks.push({ sequence: index, head, rows, tiles });
      }
    }
    tasks.push(...paddingTasks(call, plan, index, sequence));
  }
  return tasks;
}

function paddingTasks(call: BoundCall, { blockQuery }: Plan, index: number, sequence: BoundSequence): readonly BlockTask[] {
  const tasks: BlockTask[] = [];
  const blocks = blocksOf(sequence.queryLength, sequence.queryRows, blockQuery);
  const tiles: readonly KeyTile[] = [];
  for (let head = 0; head < call.heads; head += 1) for (const rows of blocks) tasks.push({ sequence: index, head, rows, tiles });
  return tasks;
}

/** Rows from … to − 1 in blocks; heads share the lists. */
function blocksOf(from: number, to: number, blockQuery: number): readonly (readonly number[])[] {
  const blocks: (readonly number[])[] = [];
  for (let start = from; start < to; start += blockQuery) blocks.push(range(start, Math.min(start + blockQuery, to)));
  return blocks;
}

/** What a block sees of one step of keys: `mixed` where the mask decides pair by pair, for some of the rows; rowFrom = rowTo where it sees nothing. */
type Sight = Pick<KeyTile, 'mixed' | 'rowFrom' | 'rowTo'>;

/** Steps in a row that are seen alike become one tile, up to the largest. `queryStep` is the first of the block's, in the rows that classes are of. */
function keyTiles(classes: TileClasses, entry: number, head: number, queryStep: number, sequence: BoundSequence, plan: Plan): readonly KeyTile[] {
  const tiles: KeyTile[] = [];
  const count = Math.ceil(sequence.keyLength / plan.stepKey);
  const sights = sightsOf(classes, entry, head, queryStep, plan);
  // A step that the keys end in needs bounds; it stands alone, so that the steps before it do not.
  const sightOf = (step: number): Sight => {
    const sight = sights(step);
    return (step + 1) * plan.stepKey > sequence.keyLength ? { ...sight, mixed: true } : sight;
  };
  for (let [step, sight] = [0, sightOf(0)]; step < count;) {
    let last = step + 1;
    let next = sightOf(last);
    while (last < count && seenAlike(next, sight) && (last - step) * plan.stepKey < plan.blockKey) {
      last += 1;
      next = sightOf(last);
    }
    if (sight.rowFrom < sight.rowTo) tiles.push(tileOf(step * plan.stepKey, last * plan.stepKey, sequence.keyLength, sight));
    [step, sight] = [last, next];
  }
  return tiles;
}

function sightsOf({ shape, classes, blockQuery }: TileClasses, entry: number, head: number, queryStep: number, plan: Plan): (step: number) => Sight {
  const [, heads, querySteps, steps] = shape;
  const base = ((entry * heads + head) * querySteps + queryStep) * steps;
  const rows = Math.min(Math.max(1, plan.blockQuery / blockQuery), querySteps - queryStep);
  return (step) => {
    let [from, to, mixed] = [0, 0, false];
    for (let row = 0; row < rows; row += 1) {
      const found = classes[base + row * steps + step] ?? 0;
      if (found === 0) continue;
      if (to === 0) from = row;
      // Rows between that see nothing are for the mask to decide.
      mixed ||= found === 1 || (to > 0 && to < row);
      to = row + 1;
    }
    return { mixed, rowFrom: from * blockQuery, rowTo: to * blockQuery };
  };
}

function seenAlike(a: Sight, b: Sight): boolean {
  return a.mixed === b.mixed && a.rowFrom === b.rowFrom && a.rowTo === b.rowTo;
}

function tileOf(first: number, end: number, keyLength: number, { mixed, rowFrom, rowTo }: Sight): KeyTile {
  const high = Math.min(end, keyLength);
  return { first, end, low: first, high, mixed: mixed || high < end, rowFrom, rowTo };
}

function listedTasks(call: BoundCall, list: BlockList, plan: Plan): BlockTask[] {
  const tasks: BlockTask[] = [];
  const lists = readLists(list);
  for (const [index, sequence] of call.sequences.entries()) {
    for (let head = 0; head < call.heads; head += 1) {
      for (const { rows, blocks } of lists.groups(index, head, sequence)) {
        const tiles = blocks.flatMap(({ block, full }) => tilesOfBlock(block * list.blockKey, Math.min((block + 1) * list.blockKey, sequence.keyLength), full, plan));
        for (let start = 0; start < rows.length; start += plan.blockQuery) {
          tasks.push({ sequence: index, head, rows: rows.slice(start, start + plan.blockQuery), tiles });
        }
      }
    }
    tasks.push(...paddingTasks(call, plan, index, sequence));
  }
  return tasks;
}

/** Keys from … to − 1 in tiles that begin and end with whole steps. */
function tilesOfBlock(from: number, to: number, full: boolean, plan: Plan): readonly KeyTile[] {
  const tiles: KeyTile[] = [];
  for (let first = Math.floor(from / plan.stepKey) * plan.stepKey; first < to; first += plan.blockKey) {
    const end = Math.min(first + plan.blockKey, Math.ceil(to / plan.stepKey) * plan.stepKey);
    const [low, high] = [Math.max(first, from), Math.min(end, to)];
    tiles.push({ first, end, low, high, mixed: !full || low > first || high < end, rowFrom: 0, rowTo: plan.blockQuery });
  }
  return tiles;
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
function readLists(list: BlockList): { readonly groups: (batch: number, head: number, sequence: BoundSequence) => readonly RowGroup[] } {
  const counts = readIntegers('counts', list.counts);
  const indices = readIntegers('indices', list.indices);
  const full = list.full === undefined ? null : readIntegers('full', list.full);
  const rows = list.queryRows === undefined ? null : readIntegers('queryRows', list.queryRows);
  const [batches = 1, heads = 1, tiles = 0] = list.counts.shape;
  const groups = (batch: number, head: number, sequence: BoundSequence): readonly RowGroup[] => {
    const [b, h] = [batches === 1 ? 0 : batch, heads === 1 ? 0 : head];
    const blocksOf = (tile: number): readonly ListedBlock[] =>
      range(0, counts([b, h, tile])).map((place) => ({ block: indices([b, h, tile, place]), full: full !== null && full([b, h, tile, place]) === 1 }));
    if (rows === null) {
      return range(0, tiles).map((tile) => ({ rows: range(tile * list.blockQuery, Math.min((tile + 1) * list.blockQuery, sequence.queryLength)), blocks: blocksOf(tile) }));
    }
    const tilesOfRow = new Map<number, number[]>();
    for (let row = 0; row < sequence.queryLength; row += 1) tilesOfRow.set(row, []);
    for (let tile = 0; tile < tiles; tile += 1) {
      for (let place = 0; place < list.blockQuery; place += 1) tilesOfRow.get(rows([b, h, tile, place]))?.push(tile);
    }
    const together = new Map<string, number[]>();
    for (const [row, own] of tilesOfRow) {
      const key = own.join();
      together.set(key, [...(together.get(key) ?? []), row]);
    }
    return [...together].map(([key, members]) => {
      const own = key === '' ? [] : key.split(',').flatMap((tile) => blocksOf(Number(tile)));
      return { rows: members, blocks: own.sort((x, y) => x.block - y.block) };
    });
  };
  return { groups };
}

function readIntegers(name: string, tensor: Tensor): (indices: readonly number[]) => number {
  if (!isHostTensor(tensor)) throw new AttentionError('foreign-tensor', `blocks.${name} lives where the host cannot see it.`, 'Read it to the host first.');
  const host: HostTensor = tensor;
  const view = host.view();
  return (indices) => view[indices.reduce((sum, index, axis) => sum + index * (host.strides[axis] ?? 0), 0)] ?? 0;
}

function range(from: number, to: number): readonly number[] {
  const numbers: number[] = [];
  for (let number = from; number < to; number += 1) numbers.push(number);
  return numbers;
}
