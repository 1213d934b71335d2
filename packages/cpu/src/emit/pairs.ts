import { pairExpressions } from '@heed/core/compute';
import type { FunctionBuilder, Local, Surroundings, Vector } from '@heed/runtime-wasm';
import { instructions, laneNumbers, minusInfinity, Place, queryTableRows } from '@heed/runtime-wasm';
import { readWords, surroundings, type Emission } from './context.ts';

const { i32, i32x4, v128 } = instructions;

/** Locals of a function that walks over the pairs of a tile, row by row. */
export interface PairRows {
  readonly call: Local<'i32'>;
  readonly sequence: Local<'i32'>;
  readonly head: Local<'i32'>;
  /** i32 indices of the rows. */
  readonly rows: Local<'i32'>;
  /** Products of the block's queries with the query tables, table after table: [row][rows of the table]. */
  readonly tableProducts: Local<'i32'>;
  /** Most rows of a block: what the products of one table leave room for. */
  readonly blockQuery: number;
}

/** Everything that an expression over pairs reads, given one row and four neighbouring keys. */
export class PairPlace {
  readonly place: Place;
  readonly #f: FunctionBuilder;
  readonly #keyIndex: Local<'v128'>;
  readonly #keyPosition: Local<'v128'>;
  readonly #keyPositions: Local<'i32'>;
  readonly #last: Local<'v128'>;
  readonly #lanes: Local<'v128'>;
  readonly #key: Local<'i32'>;

  /** Reads what belongs to row `row` of the block, and computes what no key changes. */
  constructor(f: FunctionBuilder, emission: Emission, given: PairRows, row: Local<'i32'>, key: Local<'i32'>) {
    const { request, layouts, plan } = emission;
    const { call, sequence, head, rows, tableProducts } = given;
    const at = surroundings(emission, call);
    const words = readWords(f, sequence, layouts.sequence, ['batch', 'queryLength', 'keyLength', 'queryPositions', 'keyPositions', 'lastKey', 'randomKeys']);
    const queryIndex = f.let('queryIndex', i32.load(i32.add(rows, i32.shl(row, 2))));
    const queryPosition = f.let('queryPosition', i32.load(i32.add(words.queryPositions, i32.shl(queryIndex, 2))));
    const keyHead = f.let('keyHead', i32.div_u(head, i32.load(call, layouts.call.offset('group'))));
    const randomKeys = f.let('headKeys', i32.add(words.randomKeys, i32.mul(head, plan.streams.length * 8)));
    this.#f = f;
    this.#key = key;
    this.#keyIndex = f.local('keyIndex', 'v128');
    this.#keyPosition = f.local('keyPosition', 'v128');
    this.#keyPositions = words.keyPositions;
    this.#last = f.let('lastKeys', i32x4.splat(words.lastKey));
    this.#lanes = f.let('keyLanes', laneNumbers());
    this.place = new Place(f, at, {
      inputs: {
        batch: words.batch, head, keyHead, queryIndex, queryPosition, queryLength: words.queryLength, keyLength: words.keyLength,
        keyIndex: this.#keyIndex, keyPosition: this.#keyPosition,
      },
      fixed: ['batch', 'head', 'keyHead', 'queryIndex', 'queryPosition', 'queryLength', 'keyLength'],
      lanes: { input: 'keyIndex', first: key, last: words.lastKey },
      queryTables: rowProducts(f, at, plan.queryTables, tableProducts, row, given.blockQuery),
      randomKeys,
    });
    this.place.hoist(...pairExpressions(request.variant));
  }

  /** Moves to the four keys from the local `key` on. Lanes past the last key repeat it. */
  enterKeys(): void {
    const f = this.#f;
    f.set(this.#keyIndex, i32x4.min_s(i32x4.add(i32x4.splat(this.#key), this.#lanes), this.#last));
    f.set(this.#keyPosition, v128.load(i32.add(this.#keyPositions, i32.shl(this.#key, 2))));
  }
}

function rowProducts(f: FunctionBuilder, at: Surroundings, names: readonly string[], base: Local<'i32'>, row: Local<'i32'>, blockQuery: number): Readonly<Record<string, Local<'i32'>>> {
  const products: Record<string, Local<'i32'>> = {};
  let table = base;
  for (const name of names) {
    const bytes = f.let('productBytes', i32.shl(queryTableRows(at, name), 2));
    products[name] = f.let('products', i32.add(table, i32.mul(row, bytes)));
    table = f.let('nextTable', i32.add(table, i32.mul(bytes, blockQuery)));
  }
  return products;
}

/** Bounds of the keys that may be seen at all: lanes outside [low, high) are not allowed, whatever the mask says. */
export interface KeyBounds {
  readonly low: Local<'v128'>;
  readonly high: Local<'v128'>;
  /** 0 … 3 and −∞: constants made once. */
  readonly lanes: Local<'v128'>;
  readonly none: Local<'v128'>;
}

/** Written where the function begins, before its loops. */
export function boundKeys(f: FunctionBuilder, low: Local<'i32'>, high: Local<'i32'>): KeyBounds {
  return { low: f.let('lowKey', i32x4.splat(low)), high: f.let('highKey', i32x4.splat(high)), lanes: f.let('laneNumbers', laneNumbers()), none: f.let('none', minusInfinity()) };
}

/** The final score of four pairs; −∞ where not allowed, when the tile is mixed. */
export function finalScore(f: FunctionBuilder, { request }: Emission, pairs: PairPlace, key: Local<'i32'>, raw: Vector, bounds: KeyBounds | null): Local<'v128'> {
  const score = f.let('score', raw);
  for (const { expression } of request.variant.scoring.modifiers) f.set(score, pairs.place.evaluate(expression, { score }));
  if (bounds !== null) f.set(score, v128.bitselect(score, bounds.none, allowedLanes(f, { request }, pairs, key, bounds)));
  return score;
}

export function allowedLanes(f: FunctionBuilder, { request }: Pick<Emission, 'request'>, pairs: PairPlace, key: Local<'i32'>, bounds: KeyBounds): Local<'v128'> {
  const lanes = f.let('lanes', i32x4.add(i32x4.splat(key), bounds.lanes));
  const inside = v128.and(i32x4.ge_s(lanes, bounds.low), i32x4.lt_s(lanes, bounds.high));
  const allowed = f.let('allowed', inside);
  f.set(allowed, v128.and(allowed, pairs.place.evaluate(request.variant.masking.allowed)));
  return allowed;
}
