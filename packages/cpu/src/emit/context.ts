import type { AttentionRequest } from '@heed/core';
import type { FunctionBuilder, FunctionReference, Local, ModuleBuilder, Surroundings, Value } from '@heed/runtime-wasm';
import { instructions } from '@heed/runtime-wasm';
import type { Layouts } from '../layouts.ts';
import type { Plan } from '../plan.ts';
import { roundUp } from '../plan.ts';

const { i32 } = instructions;

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

/** Bytes of one query row in scratch. */
export const queryRowBytes = (plan: Plan): number => roundUp(plan.scoreDim, 4) * 4;
/** Bytes from one row of a score tile to the next. */
export const scoreRowBytes = (plan: Plan): number => plan.scoreStride * 4;
export const valueRowBytes = (plan: Plan): number => plan.valueStride * 4;
/** Bytes of a panel of keys: [scoreDim][tile.columns]. */
export const panelBytes = (plan: Plan): number => plan.scoreDim * plan.tile.columns * 4;

/**
 * Running statistics of one row, each four lanes: the largest score (the same in all), the sum, the count of keys, and 0 or NaN;
 * then what lives for one tile: two vectors side by side, and the number that scores are taken from.
 */
export const stateWords = { largest: 0, sum: 16, count: 32, poison: 48, work: 64, origin: 96, bytes: 128 } as const;

/** Where each thread keeps what, in bytes from its scratch. What is sized at run time stands behind `end`. */
export interface Scratch {
  readonly rows: number;
  readonly queries: number;
  readonly scores: number;
  /** Weights apart from the scores, where both are needed. */
  readonly weights: number;
  readonly values: number;
  readonly states: number;
  readonly factors: number;
  readonly sums: number;
  readonly end: number;
}

export function scratchOf(plan: Plan): Scratch {
  let place = 0;
  const take = (bytes: number): number => {
    const start = place;
    place += roundUp(bytes, 64);
    return start;
  };
  const { blockQuery, blockKey } = plan;
  return {
    rows: take(2 * plan.rowFloats * 4),
    queries: take(blockQuery * queryRowBytes(plan)),
    scores: take(blockQuery * scoreRowBytes(plan)),
    weights: take(blockQuery * scoreRowBytes(plan)),
    values: take(blockKey * valueRowBytes(plan)),
    states: take(blockQuery * stateWords.bytes),
    factors: take(blockQuery * 4),
    sums: take(blockQuery * valueRowBytes(plan)),
    end: place,
  };
}

/** A word of a record. */
export function word(record: Local<'i32'>, offset: number): Value<'i32'> {
  return i32.load(record, offset);
}

/** The words of a record, each in a local of its name. */
export function readWords<Name extends string>(f: FunctionBuilder, record: Local<'i32'>, layout: { readonly offset: (name: string) => number }, names: readonly Name[]): Readonly<Record<Name, Local<'i32'>>> {
  return Object.fromEntries(names.map((name) => [name, f.let(name, i32.load(record, layout.offset(name)))])) as Record<Name, Local<'i32'>>;
}
