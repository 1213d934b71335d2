import type { TableDeclaration } from '@heed/core';
import { tableStrideWord, tableWord, turnWord, uniformWord, words, type Words } from '@heed/runtime-wasm';
import type { WasmPlan } from './machine-plan.ts';

/** Inputs beside query, key and value, as float32. */
export const ruleInputs = ['logDecay', 'writeStrength', 'removalKey', 'removalWeight'] as const;
export type RuleInput = (typeof ruleInputs)[number];

/** Address and byte strides of a tensor [batch, head, row, channel]; 0 along an axis that repeats. */
const strided = (name: string): readonly string[] => [name, `${name}.batch`, `${name}.head`, `${name}.row`, `${name}.channel`];

/** What the host tells the kernels, as records of 32-bit words. */
export interface Layouts {
  /** One for each phase. */
  readonly call: Words;
  /** One for each sequence. */
  readonly sequence: Words;
  /** One for each part of a head of a sequence. */
  readonly task: Words;
}

/** @param uniforms of the variant, by name */
export function layoutsOf(plan: WasmPlan, uniforms: readonly string[], tables: Readonly<Record<string, TableDeclaration>>): Layouts {
  const tableWords = Object.entries(tables).flatMap(([name, { axes }]) => [tableWord(name), ...axes.map((_, axis) => tableStrideWord(name, axis))]);
  const turns = [...plan.queryTransforms.map((_, index) => turnWord('query', index)), ...plan.keyTransforms.map((_, index) => turnWord('key', index))];
  return {
    call: words([
      ...strided('query'), ...strided('key'), ...strided('value'), ...strided('output'), ...ruleInputs.flatMap(strided),
      // Where G and z begin (0: zeros) and where they are kept, [sequences, value heads, width, valueDim] and [… , width].
      'memory.from', 'memory', 'normalizer.from', 'normalizer',
      'scale', 'epsilon', 'sequences', 'tasks', 'first', 'end', 'isFirst', ...uniforms.map(uniformWord), ...tableWords,
    ]),
    // shift: row i reads keys up to i + shift; the keys before that are taken in beforehand.
    sequence: words(['batch', 'tensorBatch', 'queryStart', 'queryRows', 'queryLength', 'keyStart', 'keyLength', 'prefix', 'emptyRows', 'shift', 'queryPosition', 'keyPosition', ...turns]),
    task: words(['sequence', 'queryHead', 'keyHead', 'valueHead', 'lane', 'firstColumn', 'columns']),
  };
}
