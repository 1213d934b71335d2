import { call as callTo, constantF32x4, instructions, type FunctionBuilder, type Local } from '@heed/runtime-wasm';
import { readWords, stateWords, word, type Emission } from './context.ts';
import { enterRow, gatherValues, scratchPlaces, weighRow, type Parts, type Places } from './row.ts';

const { i32, v128 } = instructions;

export interface TaskLocals {
  readonly sequence: Local<'i32'>;
  readonly keyHead: Local<'i32'>;
  readonly first: Local<'i32'>;
  readonly end: Local<'i32'>;
  readonly places: Places;
}

/** The record of a task, and its thread's scratch. */
export function enterTask(f: FunctionBuilder, emission: Emission, { task, call, scratch }: Readonly<Record<'task' | 'call' | 'scratch', Local<'i32'>>>): TaskLocals {
  const { layouts } = emission;
  const record = f.let('taskRecord', i32.add(word(call, layouts.call.offset('tasks')), i32.mul(task, layouts.task.bytes)));
  const words = readWords(f, record, layouts.task, ['sequence', 'keyHead', 'first', 'end']);
  const places = scratchPlaces(f, emission, call, scratch);
  f.do(v128.store(places.state, constantF32x4(0), stateWords.poison));
  return { ...words, places };
}

/**
 * graph: a task is a run of nodes, and the heads that share a key head. For each node and head:
 *   its edges → scores with the gathered keys → weights → the sum of gathered values → output.
 */
export function emitGraph(emission: Emission, parts: Parts): void {
  const { module, layouts } = emission;
  module.function('graph', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    const { sequence, keyHead, first, end, places } = enterTask(f, emission, { task, call, scratch });
    const { group } = readWords(f, call, layouts.call, ['group']);
    const [row, member, weightsAt] = [f.local('row', 'i32'), f.local('member', 'i32'), f.local('weightsAt', 'i32')];
    const firstHead = f.let('firstHead', i32.mul(keyHead, group));
    f.for(row, { from: first, to: end }, () => {
      const { from, to } = enterRow(f, emission, call, sequence, row);
      f.for(member, { to: group, atLeastOnce: true }, () => {
        const head = f.let('head', i32.add(firstHead, member));
        const at = { call, sequence, keyHead, head, row, from, to, places };
        const count = weighRow(f, emission, parts, at, (weights, weighed) => {
          if (parts.reweigh !== null) f.do(callTo(parts.reweigh, call, sequence, head, row, places.keys, places.edges, places.products, weights, weighed));
          f.set(weightsAt, weights);
        });
        gatherValues(f, emission, parts, at, { weights: weightsAt, keys: places.keys, count });
      });
    });
  });
}
