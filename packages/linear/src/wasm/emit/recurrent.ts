import { call as callTo, instructions } from '@heed/runtime-wasm';
import { readWords, taskRecord, type Callee, type Emission } from './context.ts';
import { statePlaces } from './state.ts';
import { emitToken } from './token.ts';

const { i32 } = instructions;

export interface RecurrentParts {
  readonly load: Callee;
  readonly store: Callee;
  readonly token: Callee;
  readonly takeState: Callee;
  readonly keepState: Callee;
}

/** recurrent(task, call, scratch): tokens `first` … `end` − 1 of the task's sequence, one after another. */
export function emitRecurrent(emission: Emission, { load, store, token, takeState, keepState }: RecurrentParts): void {
  const { module, plan, scratch: places, layouts } = emission;
  /** Whole vectors of the state can be read and written where they stand. */
  const inPlace = plan.valueDim % 4 === 0 && (plan.epsilon === null || plan.width % 4 === 0);
  const tokenInPlace = inPlace ? emitToken(emission, 'tokenInPlace', plan.valueDim * 4) : token;
  module.function('recurrent', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    const { record, sequence } = taskRecord(f, emission, task, call);
    const { columns } = readWords(f, record, layouts.task, ['columns']);
    const { first, end } = readWords(f, call, layouts.call, ['first', 'end']);
    const { queryLength } = readWords(f, sequence, layouts.sequence, ['queryLength']);
    f.if(i32.gt_s(end, queryLength), () => {
      f.set(end, queryLength);
    });
    const [row, rows, index] = [f.local('row', 'i32'), f.local('rows', 'i32'), f.local('index', 'i32')];
    const eachChunk = (body: () => void): void => {
      f.for(row, { from: first, to: end, step: plan.rows }, () => {
        f.set(rows, i32.sub(end, row));
        f.if(i32.gt_s(rows, plan.rows), () => {
          f.set(rows, plan.rows);
        });
        f.do(callTo(load, task, call, scratch, row, rows, row, rows, rows));
        f.for(index, { to: rows, atLeastOnce: true }, body);
        f.do(callTo(store, task, call, scratch, row, rows));
      });
    };
    const inScratch = (): void => {
      f.do(callTo(takeState, task, call, scratch));
      const memory = f.let('scratchMemory', i32.add(scratch, places.memory));
      const padded = f.let('padded', i32.and(i32.add(columns, plan.epsilon === null ? 3 : 4), -4));
      eachChunk(() => {
        f.do(callTo(token, scratch, index, memory, memory, padded, 0, 0));
      });
      f.do(callTo(keepState, task, call, scratch));
    };
    if (!inPlace) {
      inScratch();
      return;
    }
    f.if(i32.lt_s(first, end), () => {
      const { from, memory, normalizerFrom, normalizer } = statePlaces(f, emission, record, call);
      eachChunk(() => {
        f.do(callTo(tokenInPlace, scratch, index, from, memory, columns, normalizerFrom, normalizer));
        f.set(from, memory);
        f.set(normalizerFrom, normalizer);
      });
    }, inScratch);
  });
}
