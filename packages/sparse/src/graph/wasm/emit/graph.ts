import { call as callTo, constantF32x4, instructions } from '@heed/runtime-wasm';
import { readWords, stateWords, word, type Emission } from './context.ts';
import { enterRow, gatherRows, scratchPlaces, weighRow, type Parts } from './row.ts';

const { i32, v128 } = instructions;

/**
 * graph: a task is a run of nodes, and the heads that share a key head. For each node and head:
 *   its edges → scores with the gathered keys → weights → the sum of gathered values → output.
 */
export function emitGraph(emission: Emission, parts: Parts): void {
  const { module, layouts } = emission;
  module.function('graph', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    const record = f.let('taskRecord', i32.add(word(call, layouts.call.offset('tasks')), i32.mul(task, layouts.task.bytes)));
    const { sequence, keyHead, first, end } = readWords(f, record, layouts.task, ['sequence', 'keyHead', 'first', 'end']);
    const { group } = readWords(f, call, layouts.call, ['group']);
    const places = scratchPlaces(f, emission, call, scratch);
    const [row, member] = [f.local('row', 'i32'), f.local('member', 'i32')];
    const firstHead = f.let('firstHead', i32.mul(keyHead, group));
    f.do(v128.store(places.state, constantF32x4(0), stateWords.poison));
    f.for(row, { from: first, to: end }, () => {
      const { from, to } = enterRow(f, emission, call, sequence, row);
      f.for(member, { to: group, atLeastOnce: true }, () => {
        const head = f.let('head', i32.add(firstHead, member));
        const at = { call, sequence, keyHead, head, row, from, to, places };
        const { count, sink } = weighRow(f, emission, parts, at, (weights, weighed) => {
          if (parts.reweigh !== null) f.do(callTo(parts.reweigh, call, sequence, head, row, places.keys, places.edges, places.products, weights, weighed));
          gatherRows(f, emission, 'values', parts.values, at, (callee, rows, rowBytes) => {
            f.do(callTo(callee, weights, rows, rowBytes, places.keys, weighed, places.sums));
          });
        });
        f.do(callTo(parts.finish, call, sequence, head, row, count, places.state, sink, places.sums));
      });
    });
  });
}
