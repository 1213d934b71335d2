import type { AttentionRequest, ObservedStage } from '@heed/core';
import type { Words } from '@heed/runtime-wasm';
import { queryTableRowsWord, tableStrideWord, tableWord, turnWord, uniformWord, words } from '@heed/runtime-wasm';
import type { Plan } from './plan.ts';

/** Address and byte strides of a rank-4 tensor. */
const strided = (name: string): readonly string[] => [name, `${name}.batch`, `${name}.head`, `${name}.row`, `${name}.channel`];

/** What the host tells the kernels, as records of 32-bit words. */
export interface Layouts {
  /** One for each call. */
  readonly call: Words;
  /** One for each sequence. */
  readonly sequence: Words;
  /** One for each task of the main phase. */
  readonly task: Words;
  /** One for each part of keys and values to be packed. */
  readonly packing: Words;
  /** One for each run of keys that a task walks over. */
  readonly tile: Words;
}

export function layoutsOf(request: AttentionRequest, plan: Plan): Layouts {
  const { variant } = request;
  const tables = Object.entries(variant.tables).flatMap(([name, { axes }]) => [tableWord(name), ...axes.map((_, axis) => tableStrideWord(name, axis))]);
  const turns = [...variant.scoring.queryTransforms.map((_, index) => turnWord('query', index)), ...variant.scoring.keyTransforms.map((_, index) => turnWord('key', index))];
  return {
    call: words([
      ...strided('query'), ...strided('key'), ...strided('value'), ...strided('output'),
      'logSumExp', 'logSumExp.batch', 'logSumExp.head', 'logSumExp.row',
      'heads', 'keyHeads', 'queryRows', 'count', 'denominator', 'group', 'keysTransformed', 'workspace', 'tasks', 'merges', 'packings', 'scale', 'epsilon', 'columns', 'observed.row', ...plan.observed.map(stageWord),
      ...Object.keys(variant.uniforms).map(uniformWord), ...tables, ...plan.queryTables.map(queryTableRowsWord),
    ]),
    sequence: words([
      'batch', 'tensorBatch', 'queryStart', 'keyStart', 'queryLength', 'keyLength', 'lastKey', 'queryPositions', 'keyPositions',
      'keys', 'keys.head', 'values', 'values.head', 'sinks', 'randomKeys', ...turns,
    ]),
    task: words(['sequence', 'head', 'rows', 'rowCount', 'tiles', 'tileCount', 'next', 'observed', 'mass', 'workspace', 'splits']),
    packing: words(['sequence', 'keyHead', 'first', 'end']),
    tile: words(['first', 'end', 'low', 'high', 'mixed', 'rowFrom', 'rowTo']),
  };
}

/** Address of what is seen of a stage. */
export const stageWord = (stage: ObservedStage): string => `stage ${stage}`;
