import type { FunctionBuilder, Local } from '@heed/runtime-wasm';
import { call as callTo, constantF32x4, instructions, loadFloat, loadFloats, loadRow, storageBytes, transformRow } from '@heed/runtime-wasm';
import type { FloatStorage, Value } from '@heed/runtime-wasm';
import { fillVectors, forVectors, readWords, rowOf, surroundings, taskRecord, tensorRow, type Callee, type Emission } from './context.ts';

const { f32, f32x4, i32, v128 } = instructions;

/** Logarithms below this decay to exactly 0 in float32. */
const leastLogDecay = -110;

/**
 * load(task, call, scratch, row, rows, keyRow, keys, filled): tokens of one chunk into scratch, float32, transformed; zeros behind them up to `filled` rows.
 * `rows` query rows from `row` on, and `keys` keys with their values and what the rule reads of them, from `keyRow` on.
 */
export function emitLoad(emission: Emission): Callee {
  const { module, plan, scratch: places, layouts } = emission;
  const loadQuery = emitTransformed(emission, 'query');
  const loadKey = emitTransformed(emission, 'key');
  return module.function('load', { parameters: { task: 'i32', call: 'i32', scratch: 'i32', row: 'i32', rows: 'i32', keyRow: 'i32', keys: 'i32', filled: 'i32' } }, (f, { task, call, scratch, row, rows, keyRow, keys, filled }) => {
    const { record, sequence } = taskRecord(f, emission, task, call);
    const { queryHead, keyHead, valueHead, firstColumn, columns } = readWords(f, record, layouts.task, ['queryHead', 'keyHead', 'valueHead', 'firstColumn', 'columns']);
    const { tensorBatch, keyStart } = readWords(f, sequence, layouts.sequence, ['tensorBatch', 'keyStart']);
    const index = f.local('index', 'i32');
    const isUsed = (count: Local<'i32'>): Value<'i32'> => i32.lt_s(index, count);
    f.for(index, { to: filled, atLeastOnce: true }, () => {
      f.if(isUsed(rows), () => {
        f.do(callTo(loadQuery, call, scratch, sequence, queryHead, f.let('queryIndex', i32.add(row, index)), f.let('target', rowOf(scratch, places.query, index, plan.widthStride))));
      }, () => {
        fillVectors(f, f.let('target', rowOf(scratch, places.query, index, plan.widthStride)), plan.widthStride, constantF32x4(0));
      });
      const key = f.let('keyTarget', rowOf(scratch, places.key, index, plan.widthStride));
      const value = f.let('valueTarget', rowOf(scratch, places.value, index, plan.valueStride));
      f.if(isUsed(keys), () => {
        const keyIndex = f.let('keyIndex', i32.add(keyRow, index));
        f.do(callTo(loadKey, call, scratch, sequence, keyHead, keyIndex, key));
        const place = f.let('place', i32.add(keyStart, keyIndex));
        const source = tensorRow(f, emission, 'value', call, tensorBatch, plan.reading === 'pairs' ? keyHead : valueHead, place);
        const channelBytes = f.let('channelBytes', i32.load(call, layouts.call.offset('value.channel')));
        fillVectors(f, value, plan.valueStride, constantF32x4(0));
        loadColumns(f, plan.dtypes.value, columns, f.let('firstValue', i32.add(source, i32.mul(firstColumn, channelBytes))), channelBytes, value);
        // The column of ones, whose row of G is the row sum's.
        if (plan.epsilon !== null) f.do(f32.store(i32.add(value, i32.shl(columns, 2)), 1));
        loadRuleInputs(f, emission, { call, scratch, index, batch: tensorBatch, head: valueHead, place, key });
      }, () => {
        fillVectors(f, key, plan.widthStride, constantF32x4(0));
        fillVectors(f, value, plan.valueStride, constantF32x4(0));
        clearRuleInputs(f, emission, scratch, index);
      });
    });
  });
}

/** queryRow / keyRow(call, scratch, sequence, head, index, target): one row, transformed, with zeros up to a whole vector. */
function emitTransformed(emission: Emission, side: 'query' | 'key'): Callee {
  const { module, plan, layouts } = emission;
  const transforms = side === 'query' ? plan.queryTransforms : plan.keyTransforms;
  const dim = side === 'query' ? plan.queryDim : plan.keyDim;
  return module.function(`${side}Row`, { parameters: { call: 'i32', scratch: 'i32', sequence: 'i32', head: 'i32', index: 'i32', target: 'i32' }, constantsOnce: true }, (f, { call, scratch, sequence, head, index, target }) => {
    const { tensorBatch, start, first } = ((): Record<'tensorBatch' | 'start' | 'first', Local<'i32'>> => {
      const words = readWords(f, sequence, layouts.sequence, ['tensorBatch', `${side}Start`, `${side}Position`]);
      return { tensorBatch: words.tensorBatch, start: words[`${side}Start`], first: words[`${side}Position`] };
    })();
    const address = tensorRow(f, emission, side, call, tensorBatch, head, f.let('place', i32.add(start, index)));
    const channelBytes = f.let('channelBytes', i32.load(call, layouts.call.offset(`${side}.channel`)));
    if (transforms.length === 0) {
      loadRow(f, plan.dtypes[side], dim, address, channelBytes, target);
      return;
    }
    const position = f.let('position', i32.add(first, index));
    if (plan.positionPeriod !== null) {
      f.set(position, i32.rem_s(position, plan.positionPeriod));
      f.if(i32.lt_s(position, 0), () => {
        f.set(position, i32.add(position, plan.positionPeriod ?? 0));
      });
    }
    // Transforms that keep every number in its place work where the row will stand.
    const inPlace = transforms.every(({ kind }) => kind === 'elementwise' || kind === 'norm');
    const work = inPlace ? target : f.let('work', i32.add(scratch, emission.scratch.work));
    const row = transformRow(f, surroundings(emission, call), { side, transforms, dim, dtype: plan.dtypes[side], sequence, head, index, position, address, channelBytes, work });
    if (inPlace) return;
    forVectors(f, plan.widthStride, (bytes) => {
      f.do(v128.store(i32.add(target, bytes), v128.load(i32.add(row, bytes))));
    });
  });
}

interface TokenPlace {
  readonly call: Local<'i32'>;
  readonly scratch: Local<'i32'>;
  /** Row in scratch. */
  readonly index: Local<'i32'>;
  readonly batch: Local<'i32'>;
  readonly head: Local<'i32'>;
  /** Row in the tensors. */
  readonly place: Local<'i32'>;
  /** The key's row in scratch. */
  readonly key: Local<'i32'>;
}

function loadRuleInputs(f: FunctionBuilder, emission: Emission, at: TokenPlace): void {
  const { plan, scratch: places, layouts } = emission;
  const { recall, decay, width, widthStride } = plan;
  const { call, scratch, index, batch, head, place, key } = at;
  const source = (name: string): Local<'i32'> => tensorRow(f, emission, name, call, batch, head, place);
  const channel = (name: string): Local<'i32'> => f.let('channelBytes', i32.load(call, layouts.call.offset(`${name}.channel`)));
  const number = (matrix: number): Value<'i32'> => i32.add(i32.add(scratch, matrix), i32.shl(index, 2));
  const row = (name: string, matrix: number): Local<'i32'> => f.let(name, rowOf(scratch, matrix, index, widthStride));
  if (decay !== null) {
    const bounded = (log: Value<'v128'>): Value<'v128'> => f32x4.max(log, constantF32x4(leastLogDecay));
    if (decay === 'channel') {
      const target = row('decays', places.decay);
      loadRow(f, 'f32', width, source('logDecay'), channel('logDecay'), target);
      forVectors(f, widthStride, (bytes) => {
        const there = f.let('there', i32.add(target, bytes));
        f.do(v128.store(there, bounded(v128.load(there))));
      });
    } else {
      f.do(v128.store32_lane(number(places.decay), bounded(v128.load32_splat(source('logDecay'))), 0));
    }
  }
  if (plan.strength || recall?.strength === 'writeStrength') f.do(f32.store(number(places.strength), f32.load(source('writeStrength'))));
  if (recall?.by === 'removalKey') loadRow(f, 'f32', width, source('removalKey'), channel('removalKey'), row('recallTarget', places.recall));
  if (recall === null || recall.isDelta) return;
  const target = row('removeTarget', places.remove);
  const along = recall.along === 'key' ? key : target;
  if (recall.along === 'removalKey') loadRow(f, 'f32', width, source('removalKey'), channel('removalKey'), target);
  const work = f.let('work', i32.add(scratch, places.work));
  if (recall.strength === 'removalWeight') loadRow(f, 'f32', width, source('removalWeight'), channel('removalWeight'), work);
  forVectors(f, widthStride, (bytes) => {
    const element = v128.load(i32.add(along, bytes));
    const factor = recall.strength === 'removalWeight' ? v128.load(i32.add(work, bytes)) : recall.strength === 'writeStrength' ? v128.load32_splat(number(places.strength)) : null;
    f.do(v128.store(i32.add(target, bytes), factor === null ? element : f32x4.mul(element, factor)));
  });
}

/** Behind the last token: no decay, and nothing recalled, removed or written. */
function clearRuleInputs(f: FunctionBuilder, { plan, scratch: places }: Emission, scratch: Local<'i32'>, index: Local<'i32'>): void {
  const { recall, decay, widthStride } = plan;
  const number = (matrix: number): Value<'i32'> => i32.add(i32.add(scratch, matrix), i32.shl(index, 2));
  const clear = (matrix: number, value: number): void => {
    fillVectors(f, f.let('cleared', rowOf(scratch, matrix, index, widthStride)), widthStride, constantF32x4(value));
  };
  if (decay === 'channel') clear(places.decay, 0);
  else if (decay !== null) f.do(f32.store(number(places.decay), 0));
  if (plan.strength || recall?.strength === 'writeStrength') f.do(f32.store(number(places.strength), 0));
  if (recall?.by === 'removalKey') clear(places.recall, 0);
  if (recall !== null && !recall.isDelta) clear(places.remove, 0);
}

/** Copies `count` elements of any stride to dense float32. */
export function loadColumns(f: FunctionBuilder, dtype: FloatStorage, count: Local<'i32'>, address: Local<'i32'>, channelBytes: Local<'i32'>, target: Local<'i32'>): void {
  const channel = f.local('channel', 'i32');
  const element = f.local('element', 'i32');
  const whole = f.local('whole', 'i32');
  f.set(whole, 0);
  f.if(i32.eq(channelBytes, storageBytes[dtype]), () => {
    f.set(whole, i32.and(count, -4));
    f.for(channel, { to: whole, step: 4 }, () => {
      f.set(element, i32.add(address, i32.mul(channel, storageBytes[dtype])));
      f.do(v128.store(i32.add(target, i32.shl(channel, 2)), loadFloats(f, dtype, element)));
    });
  });
  f.for(channel, { from: whole, to: count }, () => {
    f.set(element, i32.add(address, i32.mul(channel, channelBytes)));
    f.do(f32.store(i32.add(target, i32.shl(channel, 2)), f32x4.extract_lane(loadFloat(f, dtype, element), 0)));
  });
}
