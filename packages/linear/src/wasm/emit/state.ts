import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { constantF32x4, instructions } from '@heed/runtime-wasm';
import { fillVectors, readWords, rowOf, taskRecord, type Callee, type Emission } from './context.ts';
import { loadColumns } from './load.ts';
import { storeColumns } from './store.ts';

const { f32, i32 } = instructions;

/** Where the columns of a task stand in G [lanes, width, valueDim], and its z in [lanes, width]: where they are read now, and where they are kept. */
export interface StatePlaces {
  readonly from: Local<'i32'>;
  readonly memory: Local<'i32'>;
  readonly normalizerFrom: Local<'i32'>;
  readonly normalizer: Local<'i32'>;
}

export function statePlaces(f: FunctionBuilder, { plan, layouts }: Emission, record: Local<'i32'>, call: Local<'i32'>): StatePlaces {
  const { lane, firstColumn } = readWords(f, record, layouts.task, ['lane', 'firstColumn']);
  const { isFirst } = readWords(f, call, layouts.call, ['isFirst']);
  const word = (name: string): Value<'i32'> => i32.load(call, layouts.call.offset(name));
  const offset = f.let('stateOffset', i32.add(i32.mul(lane, plan.width * plan.valueDim * 4), i32.shl(firstColumn, 2)));
  const memory = f.let('memory', i32.add(word('memory'), offset));
  const from = f.let('memoryFrom', memory);
  const normalizer = f.let('normalizer', plan.epsilon === null ? i32.mul(lane, 0) : i32.add(word('normalizer'), i32.mul(lane, plan.width * 4)));
  const normalizerFrom = f.let('normalizerFrom', normalizer);
  f.if(isFirst, () => {
    f.set(from, i32.add(word('memory.from'), offset));
    if (plan.epsilon !== null) f.set(normalizerFrom, i32.add(word('normalizer.from'), i32.mul(lane, plan.width * 4)));
  });
  return { from, memory, normalizerFrom, normalizer };
}

/** takeState(task, call, scratch): the state so far into scratch, z as the column behind the last, zeros around. */
export function emitTakeState(emission: Emission): Callee {
  const { module, plan, scratch: places, layouts } = emission;
  return module.function('takeState', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' } }, (f, { task, call, scratch }) => {
    const { record } = taskRecord(f, emission, task, call);
    const { columns } = readWords(f, record, layouts.task, ['columns']);
    const { from, normalizerFrom } = statePlaces(f, emission, record, call);
    const [row, source, four] = [f.local('row', 'i32'), f.local('source', 'i32'), f.let('four', i32.add(i32.mul(columns, 0), 4))];
    f.for(row, { to: plan.widthStride, atLeastOnce: true }, () => {
      const target = f.let('target', rowOf(scratch, places.memory, row, plan.valueStride));
      fillVectors(f, target, plan.valueStride, constantF32x4(0));
      f.if(i32.lt_s(row, plan.width), () => {
        f.set(source, i32.add(from, i32.mul(row, plan.valueDim * 4)));
        loadColumns(f, 'f32', columns, source, four, target);
        if (plan.epsilon !== null) f.do(f32.store(i32.add(target, i32.shl(columns, 2)), f32.load(i32.add(normalizerFrom, i32.shl(row, 2)))));
      });
    });
  });
}

/** keepState(task, call, scratch): the state in scratch to where it is kept. Heads with row sums are not cut by columns, so one task has z. */
export function emitKeepState(emission: Emission): Callee {
  const { module, plan, scratch: places, layouts } = emission;
  return module.function('keepState', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' } }, (f, { task, call, scratch }) => {
    const { record } = taskRecord(f, emission, task, call);
    const { columns } = readWords(f, record, layouts.task, ['columns']);
    const { memory, normalizer } = statePlaces(f, emission, record, call);
    const [row, target, four] = [f.local('row', 'i32'), f.local('target', 'i32'), f.let('four', i32.add(i32.mul(columns, 0), 4))];
    f.for(row, { to: plan.width, atLeastOnce: true }, () => {
      const source = f.let('source', rowOf(scratch, places.memory, row, plan.valueStride));
      f.set(target, i32.add(memory, i32.mul(row, plan.valueDim * 4)));
      storeColumns(f, 'f32', columns, source, target, four);
      if (plan.epsilon !== null) f.do(f32.store(i32.add(normalizer, i32.shl(row, 2)), f32.load(i32.add(source, i32.shl(columns, 2)))));
    });
  });
}
