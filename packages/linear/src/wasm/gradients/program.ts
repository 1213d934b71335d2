import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { call as callTo, constantF32x4, instructions, loadRow, ModuleBuilder, multiplyAdd, sumOfLanes } from '@heed/runtime-wasm';
import { fillVectors, forVectors, readWords, rowOf, taskRecord, tensorRow, type Callee, type Emission } from '../emit/context.ts';
import { emitLoad, loadColumns } from '../emit/load.ts';
import { emitKeepState, emitTakeState } from '../emit/state.ts';
import { storeColumns } from '../emit/store.ts';
import { emitToken } from '../emit/token.ts';
import type { GradientScratch } from './scratch.ts';
import { emitRetreatToken } from './retreat-token.ts';
import { emitRowGradients } from './row-gradients.ts';

const { f32, f32x4, i32, v128 } = instructions;

/**
 * The backward pass: `checkpoint` walks forward and keeps G at the beginning of each chunk; `retreat` walks back, chunk by chunk, makes the states of one chunk anew from its checkpoint and goes through
 * its tokens from last to first; `rowGradients` goes back through the row transforms. So memory beside the gradients is one G a chunk, and the states of one chunk for each thread.
 */
export function emitGradientProgram(given: Omit<Emission, 'module'> & { readonly scratch: GradientScratch }): ModuleBuilder {
  const module = new ModuleBuilder('linearGradients');
  module.importMemory('env', 'memory', { shared: given.plan.machine.shared });
  const emission: Emission = { ...given, module };
  const parts = { load: emitLoad(emission), token: emitToken(emission, 'token', emission.plan.valueStride * 4), takeState: emitTakeState(emission), keepState: emitKeepState(emission) };
  emitCheckpoint(emission, parts);
  emitRetreat(emission, given.scratch, parts, emitRetreatToken(emission, given.scratch), emitLoadRemoval(emission, given.scratch), emitReadGradient(emission, given.scratch));
  emitRowGradients(emission, given.scratch);
  return module;
}

interface Parts {
  readonly load: Callee;
  readonly token: Callee;
  readonly takeState: Callee;
  readonly keepState: Callee;
}

/** Copies G as it stands in scratch. */
function copyState(f: FunctionBuilder, { plan }: Emission, source: Value<'i32'>, target: Value<'i32'>): void {
  const [from, to] = [f.let('copyFrom', source), f.let('copyTo', target)];
  forVectors(f, plan.widthStride * plan.valueStride, (bytes) => {
    f.do(v128.store(i32.add(to, bytes), v128.load(i32.add(from, bytes))));
  });
}

function checkpointOf({ plan, layouts }: Emission, call: Local<'i32'>, lane: Local<'i32'>, chunk: Value<'i32'>): Value<'i32'> {
  const index = i32.add(i32.mul(lane, i32.load(call, layouts.call.offset('chunks'))), chunk);
  return i32.add(i32.load(call, layouts.call.offset('checkpoints')), i32.mul(index, plan.widthStride * plan.valueStride * 4));
}

/** Every column of G in scratch. */
const allColumns = ({ plan }: Emission): number => plan.valueStride;

/** checkpoint(task, call, scratch): chunks `first` … `end` − 1. G at the beginning of chunk 0 is the state given. */
function emitCheckpoint(emission: Emission, { load, token, takeState }: Parts): void {
  const { module, plan, scratch: places, layouts } = emission;
  module.function('checkpoint', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    const { record, sequence } = taskRecord(f, emission, task, call);
    const { lane } = readWords(f, record, layouts.task, ['lane']);
    const { first, end } = readWords(f, call, layouts.call, ['first', 'end']);
    const { queryLength } = readWords(f, sequence, layouts.sequence, ['queryLength']);
    const [chunk, row, rows, index] = [f.local('chunk', 'i32'), f.local('row', 'i32'), f.local('rows', 'i32'), f.local('index', 'i32')];
    const memory = f.let('memory', i32.add(scratch, places.memory));
    f.if(first, () => {
      copyState(f, emission, checkpointOf(emission, call, lane, first), memory);
    }, () => {
      f.do(callTo(takeState, task, call, scratch));
      copyState(f, emission, memory, checkpointOf(emission, call, lane, first));
    });
    f.for(chunk, { from: first, to: end }, () => {
      f.set(row, i32.mul(chunk, plan.rows));
      f.if(i32.lt_s(i32.add(row, plan.rows), queryLength), () => {
        f.set(rows, plan.rows);
        f.do(callTo(load, task, call, scratch, row, rows, row, rows, rows));
        f.for(index, { to: rows, atLeastOnce: true }, () => {
          f.do(callTo(token, scratch, index, memory, memory, allColumns(emission), 0, 0));
        });
        copyState(f, emission, memory, checkpointOf(emission, call, lane, i32.add(chunk, 1)));
      });
    });
  });
}

/** retreat(task, call, scratch): chunks `end` − 1 … `first`. The gradient of G begins as that of the final state and ends as that of the state given. */
function emitRetreat(emission: Emission, places: GradientScratch, { load, token, takeState, keepState }: Parts, retreatToken: Callee, loadRemoval: Callee, readGradient: Callee): void {
  const { module, plan, layouts } = emission;
  const stateBytes = plan.widthStride * plan.valueStride * 4;
  module.function('retreat', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    const { record, sequence } = taskRecord(f, emission, task, call);
    const { lane, valueHead, columns } = readWords(f, record, layouts.task, ['lane', 'valueHead', 'columns']);
    const { first, end, length, valueHeads, valueRows } = readWords(f, call, layouts.call, ['first', 'end', 'length', 'valueHeads', 'valueRows']);
    const { queryLength, tensorBatch, queryStart } = readWords(f, sequence, layouts.sequence, ['queryLength', 'tensorBatch', 'queryStart']);
    const [chunk, row, rows, index] = [f.let('chunk', end), f.local('row', 'i32'), f.local('rows', 'i32'), f.local('index', 'i32')];
    const four = f.local('four', 'i32');
    f.set(four, 4);
    f.do(callTo(takeState, task, call, scratch));
    f.while('chunks', () => i32.gt_s(chunk, first), () => {
      f.set(chunk, i32.sub(chunk, 1));
      f.set(row, i32.mul(chunk, plan.rows));
      f.set(rows, i32.sub(queryLength, row));
      f.if(i32.gt_s(rows, plan.rows), () => {
        f.set(rows, plan.rows);
      });
      f.if(i32.gt_s(rows, 0), () => {
        f.do(callTo(load, task, call, scratch, row, rows, row, rows, rows));
        const states = f.let('states', i32.add(scratch, places.states));
        copyState(f, emission, checkpointOf(emission, call, lane, chunk), states);
        f.for(index, { to: rows, atLeastOnce: true }, () => {
          const from = f.let('from', i32.add(states, i32.mul(index, stateBytes)));
          f.do(callTo(token, scratch, index, from, i32.add(from, stateBytes), allColumns(emission), 0, 0));
        });
        f.set(index, rows);
        f.while('tokens', () => index, () => {
          f.set(index, i32.sub(index, 1));
          const place = f.let('place', i32.add(queryStart, i32.add(row, index)));
          const target = f.let('target', i32.add(i32.mul(i32.add(i32.mul(tensorBatch, valueHeads), valueHead), length), place));
          f.do(callTo(loadRemoval, call, scratch, tensorBatch, valueHead, place, index));
          f.do(callTo(readGradient, call, scratch, tensorBatch, valueHead, place, index, columns));
          f.do(callTo(retreatToken, call, scratch, index, target));
          const made = f.let('made', i32.add(scratch, places.valueGradient));
          storeColumns(f, 'f32', columns, made, f.let('valueTarget', i32.add(valueRows, i32.mul(target, plan.valueDim * 4))), four);
        });
      });
    });
    f.do(callTo(keepState, task, call, scratch));
  });
}

/** loadRemoval(call, scratch, batch, head, place, index): removalKey and removalWeight of a token, as given. */
function emitLoadRemoval(emission: Emission, places: GradientScratch): Callee {
  const { module, plan, layouts } = emission;
  return module.function('loadRemoval', { parameters: { call: 'i32', scratch: 'i32', batch: 'i32', head: 'i32', place: 'i32', index: 'i32' } }, (f, { call, scratch, batch, head, place, index }) => {
    const { recall } = plan;
    for (const name of ['removalKey', 'removalWeight'] as const) {
      if (recall === null || ![recall.by, recall.along, recall.strength].includes(name)) continue;
      const source = tensorRow(f, emission, name, call, batch, head, place);
      loadRow(f, 'f32', plan.width, source, f.let('channelBytes', i32.load(call, layouts.call.offset(`${name}.channel`))), f.let(name, rowOf(scratch, places[name], index, plan.widthStride)));
    }
  });
}

/**
 * readGradient(call, scratch, batch, head, place, index, columns): the gradient of what token `index` read, from that of its output: factor ⊙ gradient; of the row sum, −factor² · (gradient · read).
 * factor = scale, or scale / (scale · row sum + ε).
 */
function emitReadGradient(emission: Emission, places: GradientScratch): Callee {
  const { module, plan, layouts } = emission;
  const parameters = { call: 'i32', scratch: 'i32', batch: 'i32', head: 'i32', place: 'i32', index: 'i32', columns: 'i32' } as const;
  return module.function('readGradient', { parameters }, (f, { call, scratch, batch, head, place, index, columns }) => {
    const target = f.let('target', i32.add(scratch, places.readGradient));
    fillVectors(f, target, plan.valueStride, constantF32x4(0));
    const source = tensorRow(f, emission, 'outer', call, batch, head, place);
    loadColumns(f, 'f32', columns, source, f.let('channelBytes', i32.load(call, layouts.call.offset('outer.channel'))), target);
    const factor = f.let('factor', f32.load(call, layouts.call.offset('scale')));
    if (plan.epsilon !== null) {
      const read = f.let('read', rowOf(scratch, places.output, index, plan.valueStride));
      const sum = f32.load(i32.add(read, i32.shl(columns, 2)));
      f.set(factor, f32.div(factor, f32.add(f32.mul(factor, sum), f32.load(call, layouts.call.offset('epsilon')))));
      const dot = f.let('dot', constantF32x4(0));
      // The gradient is still 0 in the row sum's own column.
      forVectors(f, plan.valueStride, (bytes) => {
        f.set(dot, multiplyAdd(plan.machine, v128.load(i32.add(read, bytes)), v128.load(i32.add(target, bytes)), dot));
      });
      f.do(f32.store(i32.add(target, i32.shl(columns, 2)), f32.neg(f32.mul(factor, sumOfLanes(dot)))));
    }
    forVectors(f, plan.valueStride, (bytes) => {
      const there = f.let('there', i32.add(target, bytes));
      f.do(v128.store(there, f32x4.mul(f32x4.splat(factor), v128.load(there))));
    });
  });
}
