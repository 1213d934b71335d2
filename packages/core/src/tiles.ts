import type { BoundCall, BoundSequence, BoundTable } from './bind.ts';
import type { BlockList, HostBlockList, TileClass } from './block-list.ts';
import { AttentionError } from './errors.ts';
import type { BoundEnvironment, Interval } from './expression/bound.ts';
import { bound, everything } from './expression/bound.ts';
import type { Expression, InputName } from './expression/node.ts';
import { readsInput } from './expression/node.ts';
import { positionInterval } from './validate/ranges.ts';
import { TileRuns } from './tile-runs.ts';
import { tableInterval } from './validate/table-interval.ts';

/** Rows in a query tile and keys in a key tile. */
export type TileSizes = Pick<BlockList, 'blockQuery' | 'blockKey'>;

/** Each tile's class, as numbers. A shared axis has size 1. */
export interface TileClasses extends TileSizes {
  /** [batch | 1, heads | 1, queryTiles, keyTiles] */
  readonly shape: readonly [batch: number, heads: number, queryTiles: number, keyTiles: number];
  /** Dense; {@link tileClasses} says what the numbers mean. */
  readonly classes: Uint8Array;
}

/** Class of the numbers 0, 1 and 2. */
export const tileClasses: readonly TileClass[] = ['empty', 'mixed', 'full'];
const empty = 0;
const mixed = 1;
const full = 2;

/**
 * The class of every tile of a call's mask, by interval arithmetic: no pair is visited one by one, and no mask is built.
 * 'empty' and 'full' are proven; 'mixed' may be too careful. Padding counts as not allowed; rows past a sequence's end do not count.
 * Larger regions are decided first and split only where they are undecided, so that a causal mask of n × n tiles takes about 4 n steps.
 *
 * @returns one entry of batch when all sequences see alike, and one head when the mask does not depend on it
 * @throws AttentionError `invalid-argument` for tile sizes that are no positive integers
 */
export function classifyTiles(call: BoundCall, sizes: TileSizes): TileClasses {
  const { shape, planes } = planesOf(call, sizes);
  const [batch, heads, queryTiles, keyTiles] = shape;
  const classes = new Uint8Array(batch * heads * queryTiles * keyTiles);
  for (const [index, plane] of planes.entries()) {
    const start = index * queryTiles * keyTiles;
    plane.classify({ queryFrom: 0, queryTo: queryTiles, keyFrom: 0, keyTo: keyTiles }, ({ queryFrom, queryTo, keyFrom, keyTo }, found) => {
      for (let tile = queryFrom; tile < queryTo; tile++) classes.fill(found, start + tile * keyTiles + keyFrom, start + tile * keyTiles + keyTo);
    });
  }
  return { ...sizes, shape, classes };
}

/**
 * The tiles of a call's mask that are not empty, those that are full marked so: what {@link classifyTiles} finds, without a place for each tile that is not listed,
 * so that time and memory follow the listed ones. Gives the mask's own result when used beside it.
 *
 * @returns one entry of batch when all sequences see alike, and one head when the mask does not depend on it
 * @throws AttentionError `invalid-argument` for tile sizes that are no positive integers
 */
export function listTiles(call: BoundCall, sizes: TileSizes): HostBlockList {
  const { shape, planes } = planesOf(call, sizes);
  const [batch, heads, queryTiles, keyTiles] = shape;
  const runs = new TileRuns();
  for (const [index, plane] of planes.entries()) {
    const start = index * queryTiles;
    plane.classify({ queryFrom: 0, queryTo: queryTiles, keyFrom: 0, keyTo: keyTiles }, ({ queryFrom, queryTo, keyFrom, keyTo }, found) => {
      if (found !== empty) for (let tile = queryFrom; tile < queryTo; tile++) runs.push(start + tile, keyFrom, keyTo, found);
    });
  }
  return runs.list(sizes, [batch, heads, queryTiles]);
}

/** The planes to classify, in the order of their places. */
function planesOf(call: BoundCall, sizes: TileSizes): { readonly shape: TileClasses['shape']; readonly planes: readonly Plane[] } {
  for (const size of [sizes.blockQuery, sizes.blockKey]) {
    if (!Number.isSafeInteger(size) || size < 1) throw new AttentionError('invalid-argument', `Got tiles of ${sizes.blockQuery} × ${sizes.blockKey}.`, 'Expected integers of 1 or more.');
  }
  const { allowed } = call.request.variant.masking;
  const { sequences } = call;
  const [first] = sequences;
  const shared = first !== undefined && !readsInput(allowed, 'batch') && sequences.every((sequence) => seesAlike(first, sequence));
  const own = shared ? [first] : sequences;
  const heads = readsInput(allowed, 'head', 'keyHead') ? call.heads : 1;
  const queryTiles = Math.ceil(sequences.reduce((most, { queryRows }) => Math.max(most, queryRows), 0) / sizes.blockQuery);
  const keyTiles = Math.ceil(sequences.reduce((most, { keyRows }) => Math.max(most, keyRows), 0) / sizes.blockKey);
  const tables = new TableBounds(call.tables);
  const planes = own.flatMap((sequence) => Array.from({ length: heads }, (_, head) => new Plane(call, sequence, head, sizes, tables)));
  return { shape: [own.length, heads, queryTiles, keyTiles], planes };
}

function seesAlike(a: BoundSequence, b: BoundSequence): boolean {
  const names = ['queryRows', 'keyRows', 'queryLength', 'keyLength', 'totalKeyLength', 'queryOffset', 'keyOffset'] as const;
  return names.every((name) => a[name] === b[name]) && samePositions(a.queryPositions, b.queryPositions) && samePositions(a.keyPositions, b.keyPositions);
}

function samePositions(a: Int32Array | null, b: Int32Array | null): boolean {
  return a === b || (a !== null && b !== null && a.length === b.length && a.every((position, row) => position === b[row]));
}

/** Tiles from … to − 1 on both sides. */
interface Region {
  readonly queryFrom: number;
  readonly queryTo: number;
  readonly keyFrom: number;
  readonly keyTo: number;
}

/** The tiles of one head of one sequence. */
class Plane {
  readonly #allowed: Expression;
  readonly #sequence: BoundSequence;
  readonly #sizes: TileSizes;
  /** What the mask reads; the four that change from region to region are set before each look. */
  readonly #inputs: Partial<Record<InputName, Interval>>;
  readonly #environment: BoundEnvironment;

  constructor(call: BoundCall, sequence: BoundSequence, head: number, sizes: TileSizes, tables: TableBounds) {
    this.#allowed = call.request.variant.masking.allowed;
    this.#sequence = sequence;
    this.#sizes = sizes;
    this.#inputs = {
      batch: point(sequence.batch),
      head: point(head),
      keyHead: point(Math.floor((head * call.keyHeads) / call.heads)),
      queryLength: point(sequence.queryLength),
      keyLength: point(sequence.totalKeyLength),
    };
    this.#environment = {
      input: (name) => this.#inputs[name] ?? everything,
      uniform: (name) => call.uniforms[name] ?? Number.NaN,
      table: (name, indices) => tables.at(name, indices),
    };
  }

  /** Hands every tile over, in regions of one class: those of one query tile by ascending keys. */
  classify(region: Region, hand: (region: Region, found: number) => void): void {
    const { queryFrom, queryTo, keyFrom, keyTo } = region;
    if (queryFrom >= queryTo || keyFrom >= keyTo) return;
    const found = this.#look(region);
    const queries = queryTo - queryFrom;
    const keys = keyTo - keyFrom;
    if (found !== mixed || (queries === 1 && keys === 1)) {
      hand(region, found);
    } else if (queries >= keys) {
      const middle = queryFrom + (queries >> 1);
      this.classify({ ...region, queryTo: middle }, hand);
      this.classify({ ...region, queryFrom: middle }, hand);
    } else {
      const middle = keyFrom + (keys >> 1);
      this.classify({ ...region, keyTo: middle }, hand);
      this.classify({ ...region, keyFrom: middle }, hand);
    }
  }

  /** The class that holds for every tile of the region; mixed when undecided. */
  #look({ queryFrom, queryTo, keyFrom, keyTo }: Region): number {
    const { blockQuery, blockKey } = this.#sizes;
    const { queryRows, queryLength, queryOffset, queryPositions, keyRows, keyLength, keyOffset, keyPositions } = this.#sequence;
    const queryStart = queryFrom * blockQuery;
    const keyStart = keyFrom * blockKey;
    const queryEnd = Math.min(queryTo * blockQuery, queryLength);
    const keyEnd = Math.min(keyTo * blockKey, keyLength);
    if (queryStart >= queryEnd || keyStart >= keyEnd) return empty;
    this.#inputs.queryIndex = { low: queryStart, high: queryEnd - 1 };
    this.#inputs.keyIndex = { low: keyStart, high: keyEnd - 1 };
    this.#inputs.queryPosition = positionInterval(queryPositions, queryOffset, queryStart, queryEnd);
    this.#inputs.keyPosition = positionInterval(keyPositions, keyOffset, keyStart, keyEnd);
    const { low, high } = bound(this.#allowed, this.#environment);
    if (high === 0) return empty;
    return low === 1 && isWhole(queryEnd, queryTo, blockQuery, queryRows) && isWhole(keyEnd, keyTo, blockKey, keyRows) ? full : mixed;
  }
}

/** True when a region that counts up to row `end` leaves out no row of its tiles, and none of its tiles lies past the last row. */
function isWhole(end: number, tileTo: number, block: number, rows: number): boolean {
  return end === Math.min(tileTo * block, rows) && (tileTo - 1) * block < rows;
}

function point(value: number): Interval {
  return { low: value, high: value };
}

/** Least and greatest elements of parts of tables, each part looked at once. */
class TableBounds {
  readonly #tables: Readonly<Record<string, BoundTable>>;
  readonly #known = new Map<string, Known>();

  constructor(tables: Readonly<Record<string, BoundTable>>) {
    this.#tables = tables;
  }

  at(name: string, indices: readonly Interval[]): Interval {
    const table = this.#tables[name];
    if (table === undefined) return everything;
    let known = this.#known.get(name);
    if (known === undefined) this.#known.set(name, (known = new Known()));
    for (const { low, high } of indices) known = known.next(low).next(high);
    return (known.interval ??= tableInterval(table, indices));
  }
}

/** What is known of indices that begin alike. */
class Known {
  interval: Interval | undefined;
  readonly #next = new Map<number, Known>();

  next(index: number): Known {
    const known = this.#next.get(index) ?? new Known();
    this.#next.set(index, known);
    return known;
  }
}

/** How many tiles there are of each class, over the batch and heads of the list: what `explain` reports. */
export function countTiles({ classes }: TileClasses): { readonly total: number; readonly empty: number; readonly full: number; readonly mixed: number } {
  const counts = [0, 0, 0];
  for (const found of classes) counts[found] = (counts[found] ?? 0) + 1;
  return { total: classes.length, empty: counts[empty] ?? 0, mixed: counts[mixed] ?? 0, full: counts[full] ?? 0 };
}
