/** The arguments of a kernel: 32-bit words with names that host and emitted code share. */
import type { FunctionBuilder } from '../emit/function.ts';
import { instructions, type Local } from '../emit/instruction.ts';

const { i32 } = instructions;

/** Reads all words into locals at the start of a kernel. */
export function readWords<const Names extends readonly string[]>(f: FunctionBuilder, address: Local<'i32'>, names: Names): Readonly<Record<Names[number], Local<'i32'>>> {
  const entries = names.map((name, index) => [name, f.let(name, i32.load(address, index * 4))] as const);
  return Object.fromEntries(entries) as Record<Names[number], Local<'i32'>>;
}

/** The words in the order of their names. Addresses are below 2³². */
export function packWords<const Names extends readonly string[]>(names: Names, values: Readonly<Record<Names[number], number>>): readonly number[] {
  return names.map((name) => values[name as Names[number]]);
}

/** The bits of a float32, for a word that a kernel reads as f32. */
export function floatBits(value: number): number {
  return new Int32Array(Float32Array.of(value).buffer)[0] ?? 0;
}

/** Parameters of every kernel. */
export const kernelParameters = { task: 'i32', words: 'i32', scratch: 'i32' } as const;

/** Rows `first` … `end` of a task that has `each` of `rows` rows. */
export function taskRows(f: FunctionBuilder, task: Local<'i32'>, each: Local<'i32'>, rows: Local<'i32'>): { readonly first: Local<'i32'>; readonly end: Local<'i32'> } {
  const first = f.let('first', i32.mul(task, each));
  const end = f.let('end', i32.add(first, each));
  f.if(i32.gt_s(end, rows), () => {
    f.set(end, rows);
  });
  return { first, end };
}
