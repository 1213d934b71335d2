import type { FunctionBuilder, Local } from '@heed/runtime-wasm';
import { call as callTo, instructions } from '@heed/runtime-wasm';
import { emitChunk } from './chunk.ts';
import { readWords, taskRecord, type Callee, type Emission } from './context.ts';
import { emitBlank } from './store.ts';

const { i32 } = instructions;

export interface ChunkedParts {
  readonly load: Callee;
  readonly store: Callee;
  readonly takeState: Callee;
  readonly keepState: Callee;
}

/**
 * chunked(task, call, scratch): rows `first` … `end` − 1 of the task's sequence, chunk by chunk.
 * absorb(task, call, scratch), for pairs: keys `first` … `end` − 1 into the state, as far as they stand before the first row's own.
 */
export function emitChunked(emission: Emission, { load, store, takeState, keepState }: ChunkedParts): void {
  const { module, plan, layouts } = emission;
  const blank = emitBlank(emission);
  const chunk = emitChunk(emission);
  module.function('chunked', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    const { record, sequence } = taskRecord(f, emission, task, call);
    const { columns } = readWords(f, record, layouts.task, ['columns']);
    const { first, end } = readWords(f, call, layouts.call, ['first', 'end']);
    const { emptyRows, queryLength, queryRows, shift, keyLength } = readWords(f, sequence, layouts.sequence, ['emptyRows', 'queryLength', 'queryRows', 'shift', 'keyLength']);
    const [from, to] = [f.let('from', first), f.let('to', end)];
    if (plan.reading === 'pairs') {
      f.comment('rows that see nothing, and padding');
      atMost(f, to, emptyRows);
      f.do(callTo(blank, task, call, scratch, from, to));
      atLeast(f, from, queryLength);
      f.set(to, end);
      atMost(f, to, queryRows);
      f.do(callTo(blank, task, call, scratch, from, to));
      f.set(from, first);
      f.set(to, end);
      atLeast(f, from, emptyRows);
    }
    atMost(f, to, queryLength);
    f.do(callTo(takeState, task, call, scratch));
    eachChunk(f, from, to, plan.chunk ?? 1, (row, rows) => {
      const keyRow = f.let('keyRow', i32.add(row, shift));
      const keys = f.local('keys', 'i32');
      f.set(keys, plan.causal ? i32.sub(keyLength, keyRow) : 0);
      atLeast(f, keys, 0);
      atMost(f, keys, rows);
      const filled = tiled(f, rows, plan.tile.columns);
      f.do(callTo(load, task, call, scratch, row, rows, keyRow, keys, filled));
      f.do(callTo(chunk, scratch, filled, columns, 1));
      f.do(callTo(store, task, call, scratch, row, rows));
    });
    f.do(callTo(keepState, task, call, scratch));
  });
  if (plan.reading !== 'pairs') return;
  module.function('absorb', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    const { record, sequence } = taskRecord(f, emission, task, call);
    const { columns } = readWords(f, record, layouts.task, ['columns']);
    const { first, end } = readWords(f, call, layouts.call, ['first', 'end']);
    const { prefix } = readWords(f, sequence, layouts.sequence, ['prefix']);
    atMost(f, end, prefix);
    f.do(callTo(takeState, task, call, scratch));
    eachChunk(f, first, end, plan.chunk ?? 1, (row, rows) => {
      const filled = tiled(f, rows, plan.tile.columns);
      f.do(callTo(load, task, call, scratch, row, 0, row, rows, filled));
      f.do(callTo(chunk, scratch, filled, columns, 0));
    });
    f.do(callTo(keepState, task, call, scratch));
  });
}

function eachChunk(f: FunctionBuilder, from: Local<'i32'>, to: Local<'i32'>, chunk: number, body: (row: Local<'i32'>, rows: Local<'i32'>) => void): void {
  const [row, rows] = [f.local('row', 'i32'), f.local('rows', 'i32')];
  f.for(row, { from, to, step: chunk }, () => {
    f.set(rows, i32.sub(to, row));
    atMost(f, rows, chunk);
    body(row, rows);
  });
}

function tiled(f: FunctionBuilder, rows: Local<'i32'>, tile: number): Local<'i32'> {
  return f.let('filled', i32.and(i32.add(rows, tile - 1), -tile));
}

function atMost(f: FunctionBuilder, local: Local<'i32'>, bound: Local<'i32'> | number): void {
  f.if(i32.gt_s(local, bound), () => {
    f.set(local, bound);
  });
}

function atLeast(f: FunctionBuilder, local: Local<'i32'>, bound: Local<'i32'> | number): void {
  f.if(i32.lt_s(local, bound), () => {
    f.set(local, bound);
  });
}
