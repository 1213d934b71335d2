import type { TableDeclaration } from '@heed/core';
import type { FunctionBuilder, FunctionReference, Local, ModuleBuilder, Surroundings, Value } from '@heed/runtime-wasm';
import { instructions } from '@heed/runtime-wasm';
import type { Layouts } from '../plan/layouts.ts';
import type { WasmPlan } from '../plan/machine-plan.ts';
import type { Scratch } from '../plan/scratch.ts';

const { i32, v128 } = instructions;

export type Callee = FunctionReference;
export type Vector = Value<'v128'>;

/** What every emitter of one module shares. */
export interface Emission {
  readonly module: ModuleBuilder;
  readonly plan: WasmPlan;
  readonly layouts: Layouts;
  readonly scratch: Scratch;
  readonly tables: Readonly<Record<string, TableDeclaration>>;
}

/** Reads the call's record from inside a function. */
export function surroundings({ plan, layouts, tables }: Emission, call: Local<'i32'>): Surroundings {
  return { plan: { machine: plan.machine, streams: [], rowFloats: plan.rowFloats }, layouts, tables, call };
}

/** The words of a record, each in a local of its name. */
export function readWords<Name extends string>(f: FunctionBuilder, record: Local<'i32'>, layout: { readonly offset: (name: string) => number }, names: readonly Name[]): Readonly<Record<Name, Local<'i32'>>> {
  return Object.fromEntries(names.map((name) => [name, f.let(name, i32.load(record, layout.offset(name)))])) as Record<Name, Local<'i32'>>;
}

/** The record of a task, and that of its sequence. */
export function taskRecord(f: FunctionBuilder, { layouts }: Emission, task: Local<'i32'>, call: Local<'i32'>): { readonly record: Local<'i32'>; readonly sequence: Local<'i32'> } {
  const record = f.let('record', i32.add(i32.load(call, layouts.call.offset('tasks')), i32.mul(task, layouts.task.bytes)));
  const sequence = f.let('sequence', i32.add(i32.load(call, layouts.call.offset('sequences')), i32.mul(i32.load(record, layouts.task.offset('sequence')), layouts.sequence.bytes)));
  return { record, sequence };
}

/** Row `index` of a scratch matrix whose rows are `floats` long. */
export function rowOf(scratch: Local<'i32'>, matrix: number, index: Value<'i32'>, floats: number): Value<'i32'> {
  return i32.add(i32.add(scratch, matrix), i32.mul(index, floats * 4));
}

/** Address of row `index` of head `head` in a strided tensor. */
export function tensorRow(f: FunctionBuilder, { layouts }: Emission, name: string, call: Local<'i32'>, batch: Value<'i32'>, head: Value<'i32'>, index: Value<'i32'>): Local<'i32'> {
  const at = (part: string): Value<'i32'> => i32.load(call, layouts.call.offset(`${name}.${part}`));
  return f.let(`${name}Row`, i32.add(i32.add(i32.load(call, layouts.call.offset(name)), i32.mul(batch, at('batch'))), i32.add(i32.mul(head, at('head')), i32.mul(index, at('row')))));
}

/** Runs over `floats` numbers four at a time; the count is at least 4 and a multiple of it. `body` gets the bytes from the start. */
export function forVectors(f: FunctionBuilder, floats: number | Local<'i32'>, body: (bytes: Local<'i32'>) => void): void {
  const bytes = f.local('bytes', 'i32');
  const end = typeof floats === 'number' ? floats * 4 : f.let('vectorsEnd', i32.shl(floats, 2));
  f.for(bytes, { to: end, step: 16, atLeastOnce: true }, () => {
    body(bytes);
  });
}

/** target[n] ← value, over whole vectors. */
export function fillVectors(f: FunctionBuilder, target: Local<'i32'>, floats: number | Local<'i32'>, value: Vector): void {
  forVectors(f, floats, (bytes) => {
    f.do(v128.store(i32.add(target, bytes), value));
  });
}
