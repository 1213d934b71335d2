import type { Local, Value } from '@heed/runtime-wasm';
import { instructions, storeRow } from '@heed/runtime-wasm';
import { fillVectors, forVectors, readWords, taskRecord, tensorRow, type Emission } from '../emit/context.ts';
import { constantF32x4 } from '@heed/runtime-wasm';
import type { GradientScratch } from './scratch.ts';
import { transformsBackward } from './transform-backward.ts';

const { f32x4, i32, v128 } = instructions;

/**
 * rowGradients(task, call, scratch): rows `first` … `end` − 1 of one query head of a sequence: sums over the value heads that read it, taken back through the row transforms of queries and of keys.
 * Tasks are those of the value heads; the first of each group does the work.
 */
export function emitRowGradients(emission: Emission, places: GradientScratch): void {
  const { module, plan, layouts } = emission;
  module.function('rowGradients', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    const { record, sequence } = taskRecord(f, emission, task, call);
    const { queryHead, valueHead } = readWords(f, record, layouts.task, ['queryHead', 'valueHead']);
    const { first, end, length, valueHeads, group } = readWords(f, call, layouts.call, ['first', 'end', 'length', 'valueHeads', 'group']);
    const { queryLength, tensorBatch, queryStart, queryPosition } = readWords(f, sequence, layouts.sequence, ['queryLength', 'tensorBatch', 'queryStart', 'queryPosition']);
    f.if(i32.gt_s(end, queryLength), () => {
      f.set(end, queryLength);
    });
    const [row, member] = [f.local('row', 'i32'), f.local('member', 'i32')];
    f.if(i32.eqz(i32.rem_s(valueHead, group)), () => {
      f.for(row, { from: first, to: end }, () => {
        const place = f.let('place', i32.add(queryStart, row));
        for (const side of ['query', 'key'] as const) {
          const gradient: Local<'i32'> = f.let('rowGradient', i32.add(scratch, places.transforms));
          fillVectors(f, gradient, plan.rowFloats, constantF32x4(0));
          f.for(member, { to: group, atLeastOnce: true }, () => {
            const index: Value<'i32'> = i32.add(i32.mul(i32.add(i32.mul(tensorBatch, valueHeads), i32.add(valueHead, member)), length), place);
            const source = f.let('source', i32.add(i32.load(call, layouts.call.offset(`${side}Rows`)), i32.mul(index, plan.widthStride * 4)));
            forVectors(f, plan.widthStride, (bytes) => {
              const there = f.let('there', i32.add(gradient, bytes));
              f.do(v128.store(there, f32x4.add(v128.load(there), v128.load(i32.add(source, bytes)))));
            });
          });
          const result = transformsBackward(f, emission, places, side, { call, scratch, sequence, head: queryHead, index: row, place, tensorBatch, first: queryPosition, gradient });
          const dim = side === 'query' ? plan.queryDim : plan.keyDim;
          const target = tensorRow(f, emission, `${side}Out`, call, tensorBatch, queryHead, place);
          storeRow(f, 'f32', dim, result, target, f.let('channelBytes', i32.load(call, layouts.call.offset(`${side}Out.channel`))));
        }
      });
    });
  });
}
