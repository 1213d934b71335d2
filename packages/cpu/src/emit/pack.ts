import type { FunctionBuilder, Local } from '@heed/runtime-wasm';
import { call as callTo, constantF32x4, instructions, laneNumbers, loadRow, Place, transformRow } from '@heed/runtime-wasm';
import { panelBytes, readWords, surroundings, valueRowBytes, word, type Callee, type Emission } from './context.ts';

const { i32, i32x4, i8x16, v128 } = instructions;

/** Address of row `index` in a strided tensor, for the sequence and head at hand. */
export function rowAddress(f: FunctionBuilder, { layouts }: Pick<Emission, 'layouts'>, name: 'query' | 'key' | 'value' | 'output', call: Local<'i32'>, sequence: Local<'i32'>, head: Local<'i32'>, index: Local<'i32'>): Local<'i32'> {
  const at = (part: string): ReturnType<typeof word> => word(call, layouts.call.offset(part === '' ? name : `${name}.${part}`));
  const start = word(sequence, layouts.sequence.offset(name === 'query' || name === 'output' ? 'queryStart' : 'keyStart'));
  const batch = i32.mul(word(sequence, layouts.sequence.offset('tensorBatch')), at('batch'));
  const row = i32.mul(i32.add(start, index), at('row'));
  return f.let(`${name}Row`, i32.add(i32.add(at(''), batch), i32.add(i32.mul(head, at('head')), row)));
}

/**
 * packKeys: rows first … end − 1 of one key head, transformed, as panels [scoreDim][columns]: what meets a vector of queries lies side by side.
 * Rows past the sequence's keys become zeros.
 */
function emitPackKeys(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  const { columns } = plan.tile;
  return module.function('packKeys', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' } }, (f, { task, call, scratch }) => {
    const packing = f.let('packing', i32.add(word(call, layouts.call.offset('packings')), i32.mul(task, layouts.packing.bytes)));
    const { sequence, keyHead, first, end } = readWords(f, packing, layouts.packing, ['sequence', 'keyHead', 'first', 'end']);
    const { keys, lastKey, keyPositions } = readWords(f, sequence, layouts.sequence, ['keys', 'lastKey', 'keyPositions']);
    const base = f.let('base', i32.add(i32.add(word(call, layouts.call.offset('workspace')), keys), i32.mul(keyHead, word(sequence, layouts.sequence.offset('keys.head')))));
    const channelBytes = f.let('channelBytes', word(call, layouts.call.offset('key.channel')));
    const index = f.local('index', 'i32');
    const channel = f.local('outChannel', 'i32');
    const scatter = (target: Local<'i32'>, source: Local<'i32'> | null): void => {
      f.for(channel, { to: plan.scoreDim, atLeastOnce: true }, () => {
        const value = source === null ? 0 : i32.load(i32.add(source, i32.shl(channel, 2)));
        f.do(i32.store(i32.add(target, i32.mul(channel, columns * 4)), value));
      });
    };
    const panelOf = (): Local<'i32'> => f.let('target', i32.add(base, i32.add(i32.mul(i32.div_u(index, columns), panelBytes(plan)), i32.shl(i32.rem_u(index, columns), 2))));
    const start = f.let('start', first);
    if (plan.dtypes.key === 'f32' && plan.scoreDim % 4 === 0) {
      // Rows that are combined as they lie: four of them at a time, turned in registers.
      const asTheyLie = request.variant.scoring.keyTransforms.length === 0 ? i32.eq(channelBytes, 4) : i32.and(i32.eq(channelBytes, 4), word(call, layouts.call.offset('keysTransformed')));
      f.if(asTheyLie, () => {
        const whole = f.let('whole', i32.and(i32.add(lastKey, 1), -4));
        f.if(i32.gt_s(whole, end), () => {
          f.set(whole, end);
        });
        const rowBytes = f.let('rowBytes', word(call, layouts.call.offset('key.row')));
        f.for(index, { from: first, to: whole, step: 4 }, () => {
          const target = panelOf();
          const source = rowAddress(f, emission, 'key', call, sequence, keyHead, index);
          const sources = [source, ...[1, 2, 3].map((row) => f.let('source', i32.add(source, i32.mul(rowBytes, row))))];
          f.for(channel, { to: plan.scoreDim, step: 4, atLeastOnce: true }, () => {
            const rows = sources.map((one) => f.let('row', v128.load(i32.add(one, i32.shl(channel, 2)))));
            turned(f, rows).forEach((column, offset) => {
              f.do(v128.store(i32.add(target, i32.mul(channel, columns * 4)), column, offset * columns * 4));
            });
          });
          f.set(start, i32.add(index, 4));
        });
      });
    }
    f.for(index, { from: start, to: end }, () => {
      const target = panelOf();
      f.if(i32.le_s(index, lastKey), () => {
        const address = rowAddress(f, emission, 'key', call, sequence, keyHead, index);
        const position = f.let('position', i32.load(i32.add(keyPositions, i32.shl(index, 2))));
        const transforms = request.variant.scoring.keyTransforms;
        const keysTransformed = f.local('packed', 'i32');
        f.set(keysTransformed, word(call, layouts.call.offset('keysTransformed')));
        const emit = (chain: typeof transforms, dim: number): void => {
          scatter(target, transformRow(f, surroundings(emission, call), { side: 'key', transforms: chain, dim, dtype: plan.dtypes.key, sequence, head: keyHead, index, position, address, channelBytes, work: scratch }));
        };
        if (transforms.length === 0) emit([], request.keyDim);
        else f.if(keysTransformed, () => {
          emit([], plan.scoreDim);
        }, () => {
          emit(transforms, request.keyDim);
        });
      }, () => {
        scatter(target, null);
      });
    });
  });
}

/** Four rows of four lanes as four columns. */
function turned(f: FunctionBuilder, [a, b, c, d]: readonly Local<'v128'>[]): readonly Local<'v128'>[] {
  if (a === undefined || b === undefined || c === undefined || d === undefined) throw new RangeError('four rows are turned together');
  const picked = (x: Local<'v128'>, y: Local<'v128'>, words: readonly number[]): Local<'v128'> => f.let('turned', i8x16.shuffle(x, y, words.flatMap((one) => [one * 4, one * 4 + 1, one * 4 + 2, one * 4 + 3])));
  const [ab, abHigh, cd, cdHigh] = [picked(a, b, [0, 4, 1, 5]), picked(a, b, [2, 6, 3, 7]), picked(c, d, [0, 4, 1, 5]), picked(c, d, [2, 6, 3, 7])];
  return [picked(ab, cd, [0, 1, 4, 5]), picked(ab, cd, [2, 3, 6, 7]), picked(abHigh, cdHigh, [0, 1, 4, 5]), picked(abHigh, cdHigh, [2, 3, 6, 7])];
}

/** transformKeys: rows first … end − 1 of one key head, transformed, to the dense tensor in the place of the output. */
export function emitTransformKeys(emission: Emission, store: (f: FunctionBuilder, source: Local<'i32'>, target: Local<'i32'>, channelBytes: Local<'i32'>) => void): void {
  const { module, request, plan, layouts } = emission;
  module.function('transformKeys', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    const packing = f.let('packing', i32.add(word(call, layouts.call.offset('packings')), i32.mul(task, layouts.packing.bytes)));
    const { sequence, keyHead, first, end } = readWords(f, packing, layouts.packing, ['sequence', 'keyHead', 'first', 'end']);
    const { keyPositions, lastKey, keyStart } = readWords(f, sequence, layouts.sequence, ['keyPositions', 'lastKey', 'keyStart']);
    const channelBytes = f.let('channelBytes', word(call, layouts.call.offset('key.channel')));
    const outputChannelBytes = f.let('outputChannelBytes', word(call, layouts.call.offset('output.channel')));
    const index = f.local('index', 'i32');
    f.for(index, { from: first, to: end }, () => {
      f.if(i32.le_s(index, lastKey), () => {
        const address = rowAddress(f, emission, 'key', call, sequence, keyHead, index);
        const position = f.let('position', i32.load(i32.add(keyPositions, i32.shl(index, 2))));
        const source = transformRow(f, surroundings(emission, call), {
          side: 'key', transforms: request.variant.scoring.keyTransforms, dim: request.keyDim, dtype: plan.dtypes.key, sequence, head: keyHead, index, position, address, channelBytes, work: scratch,
        });
        const at = (part: string): ReturnType<typeof word> => word(call, layouts.call.offset(part));
        const batch = i32.mul(word(sequence, layouts.sequence.offset('tensorBatch')), at('output.batch'));
        const row = i32.mul(i32.add(keyStart, index), at('output.row'));
        const target = f.let('target', i32.add(i32.add(at('output'), batch), i32.add(i32.mul(keyHead, at('output.head')), row)));
        store(f, source, target, outputChannelBytes);
      });
    });
  });
}

/** packValues: rows first … end − 1 of one key head as float32 rows of valueStride, after `prepare`; zeros past the sequence's keys and behind each row. */
function emitPackValues(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  const { prepare } = request.variant.aggregation;
  return module.function('packValues', { parameters: { task: 'i32', call: 'i32' } }, (f, { task, call }) => {
    const packing = f.let('packing', i32.add(word(call, layouts.call.offset('packings')), i32.mul(task, layouts.packing.bytes)));
    const { sequence, keyHead, first, end } = readWords(f, packing, layouts.packing, ['sequence', 'keyHead', 'first', 'end']);
    const { values, lastKey, keyPositions } = readWords(f, sequence, layouts.sequence, ['values', 'lastKey', 'keyPositions']);
    const base = f.let('base', i32.add(i32.add(word(call, layouts.call.offset('workspace')), values), i32.mul(keyHead, word(sequence, layouts.sequence.offset('values.head')))));
    const channelBytes = f.let('channelBytes', word(call, layouts.call.offset('value.channel')));
    const index = f.local('index', 'i32');
    const channel = f.local('outChannel', 'i32');
    const target = f.local('target', 'i32');
    f.for(index, { from: first, to: end }, () => {
      f.set(target, i32.add(base, i32.mul(index, valueRowBytes(plan))));
      f.for(channel, { to: valueRowBytes(plan), step: 16, atLeastOnce: true }, () => {
        f.do(v128.store(i32.add(target, channel), constantF32x4(0)));
      });
      f.if(i32.le_s(index, lastKey), () => {
        loadRow(f, plan.dtypes.value, request.valueDim, rowAddress(f, emission, 'value', call, sequence, keyHead, index), channelBytes, target);
        if (prepare.kind === 'input') return;
        const position = f.let('position', i32.load(i32.add(keyPositions, i32.shl(index, 2))));
        const last = f.let('lastChannel', i32.sub(request.valueDim, 1));
        const { batch, keyLength } = readWords(f, sequence, layouts.sequence, ['batch', 'keyLength']);
        f.for(channel, { to: request.valueDim, step: 4, atLeastOnce: true }, () => {
          const place = f.let('place', i32.add(target, i32.shl(channel, 2)));
          const value = f.let('element', v128.load(place));
          const channels = f.let('channels', i32x4.add(i32x4.splat(channel), laneNumbers()));
          const here = new Place(f, surroundings(emission, call), {
            inputs: { value, channel: channels, batch, keyHead, keyIndex: index, keyPosition: position, keyLength },
            fixed: [],
            lanes: { input: 'channel', first: channel, last },
          });
          f.do(v128.store(place, here.evaluate(prepare)));
        });
      });
    });
  });
}

/** pack: keys and values of one packing, in one phase, since threads wait for one another behind each. */
export function emitPack(emission: Emission): void {
  const [packKeys, packValues] = [emitPackKeys(emission), emitPackValues(emission)];
  emission.module.function('pack', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch }) => {
    f.do(callTo(packKeys, task, call, scratch));
    f.do(callTo(packValues, task, call));
  });
}
