import type { AttentionRequest, ObservedStage } from '@heed/core';
import { queryTableRowsWord, tableStrideWord, tableWord, turnWord, uniformWord, words, type Words } from '@heed/runtime-wasm';
import type { Plan } from './plan.ts';

/** What the host tells the kernels, as records of 32-bit words. */
export interface Layouts {
  /** One for each call. */
  readonly call: Words;
  /** One for each sequence. */
  readonly sequence: Words;
  /** One for each task: rows first … end − 1 of the heads that share a key head. */
  readonly task: Words;
  /** One for each head whose rows are looked at. */
  readonly observation: Words;
  /** One for each run of keys and values to be prepared. */
  readonly packing: Words;
}

/** Address and byte strides of a rank-4 tensor. */
const strided = (name: string): readonly string[] => [name, `${name}.batch`, `${name}.head`, `${name}.row`, `${name}.channel`];

/** Rows of keys or values as gathered: address of the sequence's first, bytes to the next head and row. */
const gathered = (name: string): readonly string[] => [name, `${name}.head`, `${name}.row`];

export function layoutsOf({ variant }: AttentionRequest, plan: Plan): Layouts {
  const tables = Object.entries(variant.tables).flatMap(([name, { axes }]) => [tableWord(name), ...axes.map((_, axis) => tableStrideWord(name, axis))]);
  const { queryTransforms, keyTransforms } = variant.scoring;
  return {
    call: words([
      ...strided('query'), ...strided('key'), ...strided('value'), ...strided('output'),
      'logSumExp', 'logSumExp.batch', 'logSumExp.head', 'logSumExp.row',
      'heads', 'keyHeads', 'group', 'queryRows', 'count', 'denominator', 'keysTransformed', 'keysInPlace', 'valuesInPlace', 'queryInPlace', 'outputInPlace', 'head', 'keptKeys', 'keptWeights', 'keptCounts', 'starts', 'edges', 'columns', 'tableRows', 'tasks', 'packings',
      'scale', 'epsilon', 'observed.row', ...plan.observed.map(stageWord),
      ...Object.keys(variant.uniforms).map(uniformWord), ...tables, ...plan.queryTables.map(queryTableRowsWord),
    ]),
    sequence: words([
      'batch', 'tensorBatch', 'queryLength', 'keyLength', 'keyCount', 'copiesEdges', 'queryPositions', 'keyPositions', ...gathered('keys'), ...gathered('values'), 'sinks', 'randomKeys',
      ...queryTransforms.map((_, index) => turnWord('query', index)), ...keyTransforms.map((_, index) => turnWord('key', index)),
    ]),
    task: words(['sequence', 'keyHead', 'first', 'end']),
    observation: words(['sequence', 'head', 'rows', 'rowCount', 'observed', 'mass']),
    packing: words(['sequence', 'keyHead', 'first', 'end']),
  };
}

/** Address of what is seen of a stage. */
export const stageWord = (stage: ObservedStage): string => `stage ${stage}`;
