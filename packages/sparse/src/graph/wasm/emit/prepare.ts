import { instructions, laneNumbers, loadRow, Place, storeRow, transformRow, type FunctionBuilder, type Local } from '@heed/runtime-wasm';
import { call as callTo } from '@heed/runtime-wasm';
import { readWords, rowAddress, surroundings, word, type Callee, type Emission } from './context.ts';

const { i32, i32x4, v128 } = instructions;

/** Runs over the rows of a packing task. `body` gets the row, and the address of the row of float32 numbers to be written. */
function overRows(f: FunctionBuilder, { layouts }: Emission, side: 'keys' | 'values', { task, call }: { readonly task: Local<'i32'>; readonly call: Local<'i32'> }, body: (at: { readonly sequence: Local<'i32'>; readonly keyHead: Local<'i32'>; readonly index: Local<'i32'>; readonly target: Local<'i32'> }) => void): void {
  const packing = f.let('packing', i32.add(word(call, layouts.call.offset('packings')), i32.mul(task, layouts.packing.bytes)));
  const { sequence, keyHead, first, end } = readWords(f, packing, layouts.packing, ['sequence', 'keyHead', 'first', 'end']);
  const of = (part: string): ReturnType<typeof word> => word(sequence, layouts.sequence.offset(`${side}${part}`));
  const base = f.let('base', i32.add(of(''), i32.mul(keyHead, of('.head'))));
  const rowBytes = f.let('rowBytes', of('.row'));
  const index = f.local('index', 'i32');
  f.for(index, { from: first, to: end }, () => {
    body({ sequence, keyHead, index, target: f.let('target', i32.add(base, i32.mul(index, rowBytes))) });
  });
}

/** A key row, transformed, as float32; one that is transformed already, as it lies. */
function emitPrepareKeys(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  const { keyTransforms } = request.variant.scoring;
  return module.function('prepareKeys', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' } }, (f, { task, call, scratch }) => {
    const channelBytes = f.let('channelBytes', word(call, layouts.call.offset('key.channel')));
    const keysTransformed = f.let('keysTransformed', word(call, layouts.call.offset('keysTransformed')));
    overRows(f, emission, 'keys', { task, call }, ({ sequence, keyHead, index, target }) => {
      const address = rowAddress(f, emission, 'key', call, sequence, keyHead, index);
      const asItLies = (): void => {
        loadRow(f, plan.dtypes.key, plan.scoreDim, address, channelBytes, target);
      };
      if (keyTransforms.length === 0) asItLies();
      else f.if(keysTransformed, asItLies, () => {
        copyRow(f, plan.scoreFloats, transformedKey(f, emission, { call, sequence, keyHead, index, address, channelBytes, work: scratch }), target);
      });
    });
  });
}

interface KeyRow {
  readonly call: Local<'i32'>;
  readonly sequence: Local<'i32'>;
  readonly keyHead: Local<'i32'>;
  readonly index: Local<'i32'>;
  readonly address: Local<'i32'>;
  readonly channelBytes: Local<'i32'>;
  readonly work: Local<'i32'>;
}

function transformedKey(f: FunctionBuilder, emission: Emission, { call, sequence, keyHead, index, address, channelBytes, work }: KeyRow): Local<'i32'> {
  const { request, plan, layouts } = emission;
  const { keyPositions } = readWords(f, sequence, layouts.sequence, ['keyPositions']);
  const position = f.let('position', i32.load(i32.add(keyPositions, i32.shl(index, 2))));
  const { keyTransforms } = request.variant.scoring;
  return transformRow(f, surroundings(emission, call), { side: 'key', transforms: keyTransforms, dim: request.keyDim, dtype: plan.dtypes.key, sequence, head: keyHead, index, position, address, channelBytes, work });
}

/** Whole vectors of a row. */
function copyRow(f: FunctionBuilder, floats: number, source: Local<'i32'>, target: Local<'i32'>): void {
  const part = f.local('part', 'i32');
  f.for(part, { to: floats * 4, step: 16, atLeastOnce: true }, () => {
    f.do(v128.store(i32.add(target, part), v128.load(i32.add(source, part))));
  });
}

/** A value row after the aggregation's `prepare`, as float32. */
function emitPrepareValues(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  const { prepare } = request.variant.aggregation;
  return module.function('prepareValues', { parameters: { task: 'i32', call: 'i32' } }, (f, { task, call }) => {
    const channelBytes = f.let('channelBytes', word(call, layouts.call.offset('value.channel')));
    const [channel, last] = [f.local('outChannel', 'i32'), f.let('lastChannel', i32.sub(plan.valueDim, 1))];
    overRows(f, emission, 'values', { task, call }, ({ sequence, keyHead, index, target }) => {
      loadRow(f, plan.dtypes.value, plan.valueDim, rowAddress(f, emission, 'value', call, sequence, keyHead, index), channelBytes, target);
      if (prepare.kind === 'input') return;
      const { batch, keyLength, keyPositions } = readWords(f, sequence, layouts.sequence, ['batch', 'keyLength', 'keyPositions']);
      const keyPosition = f.let('position', i32.load(i32.add(keyPositions, i32.shl(index, 2))));
      f.for(channel, { to: plan.valueDim, step: 4, atLeastOnce: true }, () => {
        const place = f.let('place', i32.add(target, i32.shl(channel, 2)));
        const value = f.let('element', v128.load(place));
        const channels = f.let('channels', i32x4.add(i32x4.splat(channel), laneNumbers()));
        const here = new Place(f, surroundings(emission, call), {
          inputs: { value, channel: channels, batch, keyHead, keyIndex: index, keyPosition, keyLength }, fixed: [], lanes: { input: 'channel', first: channel, last },
        });
        f.do(v128.store(place, here.evaluate(prepare)));
      });
    });
  });
}

/** prepare: the rows of one packing that are not gathered where they lie. Rows past a sequence's keys are not written, and not read. */
export function emitPrepare(emission: Emission): void {
  const { module, layouts } = emission;
  const [keys, values] = [emitPrepareKeys(emission), emitPrepareValues(emission)];
  module.function('prepare', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    f.if(i32.eqz(word(call, layouts.call.offset('keysInPlace'))), () => {
      f.do(callTo(keys, task, call, scratch));
    });
    f.if(i32.eqz(word(call, layouts.call.offset('valuesInPlace'))), () => {
      f.do(callTo(values, task, call));
    });
  });
}

/** transformKeys: every key row of a packing to the dense tensor in the place of the output. */
export function emitTransformKeys(emission: Emission): void {
  const { module, plan, layouts } = emission;
  module.function('transformKeys', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    const channelBytes = f.let('channelBytes', word(call, layouts.call.offset('key.channel')));
    const outputChannelBytes = f.let('outputChannelBytes', word(call, layouts.call.offset('output.channel')));
    overRows(f, emission, 'keys', { task, call }, ({ sequence, keyHead, index }) => {
      const address = rowAddress(f, emission, 'key', call, sequence, keyHead, index);
      const source = transformedKey(f, emission, { call, sequence, keyHead, index, address, channelBytes, work: scratch });
      storeRow(f, plan.dtypes.key, plan.scoreDim, source, rowAddress(f, emission, 'output', call, sequence, keyHead, index), outputChannelBytes);
    });
  });
}
