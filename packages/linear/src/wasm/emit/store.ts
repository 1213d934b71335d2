import type { FunctionBuilder, Local } from '@heed/runtime-wasm';
import { constantF32x4, instructions, storageBytes, storeFloat, storeFloats } from '@heed/runtime-wasm';
import type { FloatStorage } from '@heed/runtime-wasm';
import { roundUp } from '../plan/machine-plan.ts';
import { fillVectors, forVectors, readWords, rowOf, taskRecord, tensorRow, type Callee, type Emission } from './context.ts';

const { f32, f32x4, i32, v128 } = instructions;

/**
 * store(task, call, scratch, row, rows): the output rows of a chunk, scaled, divided by their row sums where the plan has them, in the output's dtype.
 */
export function emitStore(emission: Emission): Callee {
  const { module, plan, scratch: places, layouts } = emission;
  return module.function('store', { parameters: { task: 'i32', call: 'i32', scratch: 'i32', row: 'i32', rows: 'i32' } }, (f, { task, call, scratch, row, rows }) => {
    const { record, sequence } = taskRecord(f, emission, task, call);
    const { valueHead, firstColumn, columns } = readWords(f, record, layouts.task, ['valueHead', 'firstColumn', 'columns']);
    const { tensorBatch, queryStart } = readWords(f, sequence, layouts.sequence, ['tensorBatch', 'queryStart']);
    const scale = f.let('scale', f32.load(call, layouts.call.offset('scale')));
    const factor = f.let('factor', f32x4.splat(scale));
    const channelBytes = f.let('channelBytes', i32.load(call, layouts.call.offset('output.channel')));
    const index = f.local('index', 'i32');
    f.for(index, { to: rows }, () => {
      const source = f.let('source', rowOf(scratch, places.output, index, plan.valueStride));
      if (plan.epsilon !== null) {
        const sum = f.let('sum', f32.load(i32.add(source, i32.shl(columns, 2))));
        f.set(factor, f32x4.splat(f32.div(scale, f32.add(f32.mul(scale, sum), f32.load(call, layouts.call.offset('epsilon'))))));
      }
      forVectors(f, roundUp(plan.valueDim, 4), (bytes) => {
        const place = f.let('place', i32.add(source, bytes));
        f.do(v128.store(place, f32x4.mul(v128.load(place), factor)));
      });
      const target = tensorRow(f, emission, 'output', call, tensorBatch, valueHead, f.let('outputRow', i32.add(queryStart, i32.add(row, index))));
      storeColumns(f, plan.dtypes.output, columns, source, f.let('firstOutput', i32.add(target, i32.mul(firstColumn, channelBytes))), channelBytes);
    });
  });
}

/** Writes `count` float32 numbers as elements of a dtype, `channelBytes` apart. */
export function storeColumns(f: FunctionBuilder, dtype: FloatStorage, count: Local<'i32'>, source: Local<'i32'>, target: Local<'i32'>, channelBytes: Local<'i32'>): void {
  const [channel, place, whole] = [f.local('channel', 'i32'), f.local('place', 'i32'), f.local('whole', 'i32')];
  f.set(whole, 0);
  f.if(i32.eq(channelBytes, storageBytes[dtype]), () => {
    f.set(whole, i32.and(count, -4));
    f.for(channel, { to: whole, step: 4 }, () => {
      f.set(place, i32.add(target, i32.mul(channel, storageBytes[dtype])));
      storeFloats(f, dtype, place, v128.load(i32.add(source, i32.shl(channel, 2))));
    });
  });
  f.for(channel, { from: whole, to: count }, () => {
    f.set(place, i32.add(target, i32.mul(channel, channelBytes)));
    storeFloat(f, dtype, place, v128.load32_splat(i32.add(source, i32.shl(channel, 2))));
  });
}

/** blank(task, call, scratch, row, end): zeros in output rows that see nothing, or that are padding (L1). */
export function emitBlank(emission: Emission): Callee {
  const { module, plan, scratch: places, layouts } = emission;
  return module.function('blank', { parameters: { task: 'i32', call: 'i32', scratch: 'i32', row: 'i32', end: 'i32' } }, (f, { task, call, scratch, row, end }) => {
    const { record, sequence } = taskRecord(f, emission, task, call);
    const { valueHead, firstColumn, columns } = readWords(f, record, layouts.task, ['valueHead', 'firstColumn', 'columns']);
    const { tensorBatch, queryStart } = readWords(f, sequence, layouts.sequence, ['tensorBatch', 'queryStart']);
    const channelBytes = f.let('channelBytes', i32.load(call, layouts.call.offset('output.channel')));
    const zeros = f.let('zeros', i32.add(scratch, places.output));
    fillVectors(f, zeros, plan.valueStride, constantF32x4(0));
    const index = f.local('index', 'i32');
    f.for(index, { from: row, to: end }, () => {
      const target = tensorRow(f, emission, 'output', call, tensorBatch, valueHead, f.let('outputRow', i32.add(queryStart, index)));
      storeColumns(f, plan.dtypes.output, columns, zeros, f.let('firstOutput', i32.add(target, i32.mul(firstColumn, channelBytes))), channelBytes);
    });
  });
}
