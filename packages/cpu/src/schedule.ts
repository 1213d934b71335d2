import type { BlockList, Tensor, TypedArray } from '@heed/core';
import type { BoundCall, BoundSequence, TileClasses } from '@heed/core/compute';
import { AttentionError, isContiguous, isHostTensor, toFloat64 } from '@heed/core';
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

/**
 * Every block of a call. Those that read the same keys stand together, since the keys then stay in the second cache; long ones first, within them and among them,
 * so that threads end at about the same time. Rows of padding walk over nothing.
 */
export function scheduleOf(call: BoundCall, plan: Plan): readonly BlockTask[] {
  const tasks = call.blocks === null ? maskedTasks(call, plan) : listedTasks(call, call.blocks, plan);
  const groups = new Map<number, Costly[]>();
  // Heads share tiles, so a cost is mostly known.
  const known = new Map<readonly KeyTile[], { readonly rows: number; readonly cost: number }>();
  for (const task of tasks) {
    const keys = task.sequence * call.keyHeads + Math.floor((task.head * call.keyHeads) / call.heads);
    const members = groups.get(keys) ?? [];
    if (members.length === 0) groups.set(keys, members);
    const rows = task.rows.length;
    const found = known.get(task.tiles);
    const cost = found?.rows === rows ? found.cost : costOf(task);
    if (found === undefined) known.set(task.tiles, { rows, cost });
    members.push({ task, cost });
  }
  const longest = ([first]: readonly Costly[]): number => first?.cost ?? 0;
  return [...groups.values()]
    .map((members) => members.sort((a, b) => b.cost - a.cost))
    .sort((a, b) => longest(b) - longest(a))
    .flatMap((members) => members.map(({ task }) => task));
}

interface Costly {
  readonly task: BlockTask;
  readonly cost: number;
}

/** A part of the keys of one key head, for the query rows of all heads that read it. */
export interface PartTask extends BlockTask {
  /** Number of the part among those of its key head, and how many there are. */
  readonly part: number;
  readonly parts: number;
}

/**
 * Parts of a call with few queries, in the order of their workspaces, for a plan as `partsPlanOf` makes it; null where blocks of queries are better. How keys are split depends on their number alone.
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
  const listed = readList(list);
  // Heads and sequences that share a list share rows and tiles as well, which are then written once.
  const known = new Map<string, readonly Pick<BlockTask, 'rows' | 'tiles'>[]>();
  for (const [index, sequence] of call.sequences.entries()) {
    for (let head = 0; head < call.heads; head += 1) {
      const plane = listed.planeOf(index, head);
      const key = `${plane} ${sequence.queryLength} ${sequence.keyLength}`;
      const blocks = known.get(key) ?? rowGroups(listed, plane, sequence.queryLength).flatMap(({ rows, tiles }) => {
        const own = tilesOfList(listed, tiles, sequence.keyLength, plan);
        return chunksOf(rows, plan.blockQuery).map((chunk) => ({ rows: chunk, tiles: own }));
      });
      known.set(key, blocks);
      for (const { rows, tiles } of blocks) tasks.push({ sequence: index, head, rows, tiles });
    }
    tasks.push(...paddingTasks(call, plan, index, sequence));
  }
  return tasks;
}

/** A list as the host reads it: dense arrays, and which of its planes a sequence and head use. */
interface ReadList {
  readonly blockQuery: number;
  readonly blockKey: number;
  /** Query tiles of a plane, and places of a tile. */
  readonly tiles: number;
  readonly capacity: number;
  readonly counts: TypedArray;
  readonly indices: TypedArray;
  readonly full: TypedArray | null;
  readonly rows: TypedArray | null;
  readonly planeOf: (batch: number, head: number) => number;
}

function readList({ blockQuery, blockKey, counts, indices, full, queryRows }: BlockList): ReadList {
  const [batches = 1, heads = 1, tiles = 0] = counts.shape;
  return {
    blockQuery,
    blockKey,
    tiles,
    capacity: indices.shape[3] ?? 0,
    counts: readIntegers('counts', counts),
    indices: readIntegers('indices', indices),
    full: full === undefined ? null : readIntegers('full', full),
    rows: queryRows === undefined ? null : readIntegers('queryRows', queryRows),
    planeOf: (batch, head) => (batches === 1 ? 0 : batch) * heads + (heads === 1 ? 0 : head),
  };
}

/** Rows with the tiles of a list that they stand in, numbered through all planes. */
interface RowGroup {
  readonly rows: readonly number[];
  readonly tiles: readonly number[];
}

/** Rows that see the same tiles of the list. A row that stands in several tiles sees the blocks of all of them; one in none, nothing. */
function rowGroups(list: ReadList, plane: number, queryLength: number): readonly RowGroup[] {
  const { blockQuery } = list;
  const numbers = range(plane * list.tiles, (plane + 1) * list.tiles);
  if (list.rows === null) return numbers.map((tile, index) => ({ rows: range(index * blockQuery, Math.min((index + 1) * blockQuery, queryLength)), tiles: [tile] }));
  const groups = gatheredGroups(list, list.rows, numbers, queryLength);
  const standing = new Int32Array(queryLength);
  for (const { rows } of groups) for (const row of rows) standing[row] = (standing[row] ?? 0) + 1;
  if (standing.every((count) => count <= 1)) return [...groups, { rows: range(0, queryLength).filter((row) => standing[row] === 0), tiles: [] }];
  const groupsOfRow = Array.from({ length: queryLength }, (): number[] => []);
  for (const [index, { rows }] of groups.entries()) for (const row of rows) groupsOfRow[row]?.push(index);
  const together = new Map<string, { readonly rows: number[]; readonly tiles: readonly number[] }>();
  for (const [row, own] of groupsOfRow.entries()) {
    const key = own.join();
    const group = together.get(key);
    if (group === undefined) together.set(key, { rows: [row], tiles: own.flatMap((index) => groups[index]?.tiles ?? []) });
    else group.rows.push(row);
  }
  return [...together.values()];
}

/** The rows of each tile; tiles of the same rows one after another are one group. */
function gatheredGroups({ blockQuery }: ReadList, rows: TypedArray, tiles: readonly number[], queryLength: number): readonly RowGroup[] {
  const groups: { readonly rows: readonly number[]; readonly tiles: number[] }[] = [];
  for (const tile of tiles) {
    const start = tile * blockQuery;
    // A long tile in pieces repeats the numbers of the piece before it.
    const last = groups.at(-1);
    if (last !== undefined && repeats(rows, start, blockQuery)) {
      last.tiles.push(tile);
      continue;
    }
    const own: number[] = [];
    for (let place = start; place < start + blockQuery; place += 1) {
      const row = rows[place] ?? -1;
      if (row >= 0 && row < queryLength) own.push(row);
    }
    groups.push({ rows: own, tiles: [tile] });
  }
  return groups;
}

/** Whether the numbers from `start` are those before it. */
function repeats(numbers: TypedArray, start: number, count: number): boolean {
  for (let place = start; place < start + count; place += 1) if (numbers[place] !== numbers[place - count]) return false;
  return true;
}

/** What rows of these tiles of the list walk over: blocks side by side that are alike become one run of keys. */
function tilesOfList({ blockKey, capacity, counts, indices, full }: ReadList, tiles: readonly number[], keyLength: number, plan: Plan): readonly KeyTile[] {
  // Twice the block, and 1 more where it is full.
  const blocks: number[] = [];
  let ascending = true;
  for (const tile of tiles) {
    const start = tile * capacity;
    for (let place = start; place < start + (counts[tile] ?? 0); place += 1) {
      const block = 2 * (indices[place] ?? 0) + (full?.[place] === 1 ? 1 : 0);
      ascending &&= block >= (blocks.at(-1) ?? 0);
      blocks.push(block);
    }
  }
  if (!ascending) blocks.sort((a, b) => a - b);
  const found: KeyTile[] = [];
  for (let at = 0; at < blocks.length;) {
    const first = blocks[at] ?? 0;
    let end = at + 1;
    while (blocks[end] === first + 2 * (end - at)) end += 1;
    const block = first >> 1;
    found.push(...tilesOfRun(block * blockKey, Math.min((block + end - at) * blockKey, keyLength), first % 2 === 1, plan));
    at = end;
  }
  return found;
}

/** Keys from … to − 1 in tiles that begin and end with whole steps. */
function tilesOfRun(from: number, to: number, full: boolean, plan: Plan): readonly KeyTile[] {
  const tiles: KeyTile[] = [];
  for (let first = Math.floor(from / plan.stepKey) * plan.stepKey; first < to; first += plan.blockKey) {
    const end = Math.min(first + plan.blockKey, Math.ceil(to / plan.stepKey) * plan.stepKey);
    const [low, high] = [Math.max(first, from), Math.min(end, to)];
    tiles.push({ first, end, low, high, mixed: !full || low > first || high < end, rowFrom: 0, rowTo: plan.blockQuery });
  }
  return tiles;
}

/** Elements of a part of a list, dense. */
function readIntegers(name: string, tensor: Tensor): TypedArray {
  if (!isHostTensor(tensor)) throw new AttentionError('foreign-tensor', `blocks.${name} lives where the host cannot see it.`, 'Read it to the host first.');
  return isContiguous(tensor) ? tensor.view() : toFloat64(tensor);
}

function chunksOf(rows: readonly number[], size: number): readonly (readonly number[])[] {
  const chunks: (readonly number[])[] = [];
  for (let start = 0; start < rows.length; start += size) chunks.push(rows.slice(start, start + size));
  return chunks;
}

function range(from: number, to: number): readonly number[] {
  const numbers: number[] = [];
  for (let number = from; number < to; number += 1) numbers.push(number);
  return numbers;
}
