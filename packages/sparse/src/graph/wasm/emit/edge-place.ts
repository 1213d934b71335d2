import type { Expression, InputName } from '@heed/core';
import { constantI32x4, instructions, laneNumbers, Place, queryTableRows, type FunctionBuilder, type Local } from '@heed/runtime-wasm';
import { readWords, surroundings, type Emission } from './context.ts';

const { i32, i32x4, v128 } = instructions;

/** Locals of a function that walks over the edges of one row. */
export interface RowLocals {
  readonly call: Local<'i32'>;
  readonly sequence: Local<'i32'>;
  readonly head: Local<'i32'>;
  readonly row: Local<'i32'>;
  /** Keys of the row's edges, and their places in the edge list. */
  readonly keys: Local<'i32'>;
  readonly edges: Local<'i32'>;
  /** Products of the row's query with the query tables, table after table. */
  readonly products: Local<'i32'>;
}

export const rowParameters = { call: 'i32', sequence: 'i32', head: 'i32', row: 'i32', keys: 'i32', edges: 'i32', products: 'i32' } as const;

const fixed: readonly InputName[] = ['batch', 'head', 'keyHead', 'queryIndex', 'queryPosition', 'queryLength', 'keyLength'];

/** Everything that an expression over pairs reads, at four edges of one row. */
export class EdgePlace {
  readonly place: Place;
  readonly #f: FunctionBuilder;
  readonly #emission: Emission;
  readonly #row: RowLocals;
  readonly #keyIndex: Local<'v128'>;
  readonly #keyPosition: Local<'v128'>;
  readonly #edgeIndex: Local<'v128'>;
  readonly #keyPositions: Local<'i32'>;

  /** Reads what belongs to the row, and computes what no edge changes. */
  constructor(f: FunctionBuilder, emission: Emission, row: RowLocals, expressions: readonly Expression[]) {
    const { layouts, plan } = emission;
    const { call, sequence, head } = row;
    const at = surroundings(emission, call);
    const words = readWords(f, sequence, layouts.sequence, ['batch', 'queryLength', 'keyLength', 'queryPositions', 'keyPositions', 'randomKeys']);
    this.#f = f;
    this.#emission = emission;
    this.#row = row;
    this.#keyPositions = words.keyPositions;
    this.#keyIndex = f.local('keyIndex', 'v128');
    this.#keyPosition = f.local('keyPosition', 'v128');
    this.#edgeIndex = f.local('edgeIndex', 'v128');
    const queryTables: Record<string, Local<'i32'>> = {};
    let products = row.products;
    for (const name of plan.queryTables) {
      queryTables[name] = products;
      products = f.let('nextProducts', i32.add(products, i32.shl(queryTableRows(at, name), 2)));
    }
    this.place = new Place(f, at, {
      inputs: {
        batch: words.batch,
        head,
        keyHead: f.let('keyHead', i32.div_u(head, i32.load(call, layouts.call.offset('group')))),
        queryIndex: row.row,
        queryPosition: f.let('queryPosition', i32.load(i32.add(words.queryPositions, i32.shl(row.row, 2)))),
        queryLength: words.queryLength,
        keyLength: words.keyLength,
        keyIndex: this.#keyIndex,
        keyPosition: this.#keyPosition,
        edgeIndex: this.#edgeIndex,
      },
      fixed,
      queryTables,
      randomKeys: f.let('headKeys', i32.add(words.randomKeys, i32.mul(head, plan.streams.length * 8))),
    });
    this.place.hoist(...expressions);
  }

  /** Moves to the four edges from byte `offset` of the row's strips on. */
  enter(offset: Local<'i32'>): void {
    const { keys, edges } = this.#row;
    this.#f.set(this.#keyIndex, v128.load(i32.add(keys, offset)));
    if (this.#emission.plan.readsEdgeIndex) this.#f.set(this.#edgeIndex, v128.load(i32.add(edges, offset)));
    this.#fetchPositions();
  }

  /** Moves to four edges of the list itself; lanes behind `last` repeat the first. Returns the lanes that exist. */
  enterList(edge: Local<'i32'>, last: Local<'i32'>, list: Local<'i32'>): Local<'v128'> {
    const f = this.#f;
    const lanes = f.let('edgeLanes', i32x4.add(i32x4.splat(edge), laneNumbers()));
    const inside = f.let('inside', i32x4.le_s(lanes, i32x4.splat(last)));
    const first = i32.add(list, i32.shl(edge, 2));
    f.set(this.#keyIndex, v128.bitselect(v128.load(first), v128.load32_splat(first), inside));
    f.set(this.#edgeIndex, v128.bitselect(lanes, i32x4.splat(edge), inside));
    this.#fetchPositions();
    return inside;
  }

  get keyIndex(): Local<'v128'> {
    return this.#keyIndex;
  }

  #fetchPositions(): void {
    if (!this.#emission.plan.readsKeyPosition) return;
    const f = this.#f;
    f.set(this.#keyPosition, constantI32x4(0));
    for (const lane of [0, 1, 2, 3]) {
      const address = i32.add(this.#keyPositions, i32.shl(i32x4.extract_lane(this.#keyIndex, lane), 2));
      f.set(this.#keyPosition, v128.load32_lane(address, this.#keyPosition, lane));
    }
  }
}
