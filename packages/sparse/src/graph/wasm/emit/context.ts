import type { AttentionRequest } from '@heed/core';
import { instructions, type FunctionBuilder, type FunctionReference, type Local, type ModuleBuilder, type Surroundings, type Value } from '@heed/runtime-wasm';
import type { Layouts } from '../plan/layouts.ts';
import type { Plan } from '../plan/plan.ts';

const { i32, v128 } = instructions;

/** What every emitter of one module shares. */
export interface Emission {
  readonly module: ModuleBuilder;
  readonly request: AttentionRequest;
  readonly plan: Plan;
  readonly layouts: Layouts;
}

export type Callee = FunctionReference;

/** Reads the call's record from inside a function. */
export function surroundings({ request, plan, layouts }: Emission, call: Local<'i32'>): Surroundings {
  return { plan, layouts, tables: request.variant.tables, call };
}

/** A word of a record. */
export function word(record: Local<'i32'>, offset: number): Value<'i32'> {
  return i32.load(record, offset);
}

/** The words of a record, each in a local of its name. */
export function readWords<Name extends string>(f: FunctionBuilder, record: Local<'i32'>, layout: { readonly offset: (name: string) => number }, names: readonly Name[]): Readonly<Record<Name, Local<'i32'>>> {
  return Object.fromEntries(names.map((name) => [name, f.let(name, i32.load(record, layout.offset(name)))])) as Record<Name, Local<'i32'>>;
}

/** What one row leaves for its end: softmax's origin and the sum around it, four lanes each, and 0 or NaN in four lanes. */
export const stateWords = { largest: 0, sum: 16, poison: 32, bytes: 48 } as const;

/** Numbers of the row at hand, four bytes each, one for each edge that counts: keys, places in the edge list, scores, weights. */
export const stripNames = ['keys', 'edges', 'scores', 'weights'] as const;

/** Edges of padding behind a row: one vector to round up to, and one more that loads may reach. */
export const stripPadding = 8;

/** Where each thread keeps what, in bytes from its scratch: rows under way, sums, the state, then the products of query tables and the strips. */
export interface Scratch {
  readonly work: number;
  readonly sums: number;
  readonly state: number;
  readonly end: number;
}

export function scratchOf(plan: Plan): Scratch {
  let place = 0;
  const take = (bytes: number): number => {
    const start = place;
    place += Math.ceil(bytes / 64) * 64;
    return start;
  };
  return { work: take(2 * plan.rowFloats * 4), sums: take(plan.valueFloats * 4), state: take(stateWords.bytes), end: place };
}

/** Bytes of scratch for rows of up to `columns` edges, with `tableRows` products with query tables. */
export function scratchBytes(plan: Plan, columns: number, tableRows: number): number {
  return scratchOf(plan).end + Math.ceil(tableRows / 4) * 16 + stripNames.length * stripBytes(columns);
}

/** Bytes of one strip. */
export function stripBytes(columns: number): number {
  return (Math.ceil(columns / 4) * 4 + stripPadding) * 4;
}

/** Address of a row of query or output, for the sequence and head at hand. */
export function rowAddress(f: FunctionBuilder, { layouts }: Pick<Emission, 'layouts'>, name: 'query' | 'output' | 'key' | 'value', call: Local<'i32'>, sequence: Local<'i32'>, head: Local<'i32'>, index: Local<'i32'>): Local<'i32'> {
  const at = (part: string): Value<'i32'> => word(call, layouts.call.offset(part === '' ? name : `${name}.${part}`));
  const batch = i32.mul(word(sequence, layouts.sequence.offset('tensorBatch')), at('batch'));
  return f.let(`${name}Row`, i32.add(i32.add(at(''), batch), i32.add(i32.mul(head, at('head')), i32.mul(index, at('row')))));
}

/** Repeats the last of `count` > 0 numbers behind them, so that whole vectors hold nothing that no edge has. */
export function padStrip(f: FunctionBuilder, strip: Local<'i32'>, count: Local<'i32'>): void {
  const end = f.let('stripEnd', i32.add(strip, i32.shl(count, 2)));
  f.do(v128.store(end, v128.load32_splat(i32.sub(end, 4))));
}

/** Whether the program writes stages instead of an output. */
export function isObserving(plan: Plan): boolean {
  return plan.observed.length > 0 || plan.observesMass;
}
