/**
 * The k largest of each row, descending, lower index first on ties; NaN is less than every number.
 * A row is read once. Numbers are compared as integers in the order of floats; four at a time are passed over while none beats the least kept.
 */
import { AttentionError, type Tensor } from '@heed/core';
import { storageBytes, type FloatStorage } from '../emit/half.ts';
import type { FunctionBuilder } from '../emit/function.ts';
import { constantF32x4, constantI32x4, instructions, type Local, type Value } from '../emit/instruction.ts';
import { floatStorage, rowsOf, rowsPerTask, type KernelBody, type OperationCall } from './context.ts';
import { forRow } from './rows.ts';
import { packWords, readWords, taskRows } from './words.ts';

const { f32x4, i32, i32x4, v128 } = instructions;

const wordNames = ['x', 'values', 'indices', 'rows', 'size', 'each', 'k'] as const;

export function topK(call: OperationCall, x: Tensor, k: number): { readonly values: Tensor; readonly indices: Tensor } {
  const storage = floatStorage('topK’s x', x);
  const { rows, size } = rowsOf(x.shape);
  if (x.shape.length < 1 || !Number.isSafeInteger(k) || k < 0 || k > size) {
    throw new AttentionError('invalid-argument', `topK got k = ${k} for shape [${x.shape.join(', ')}].`, `Expected an integer from 0 to ${size}.`);
  }
  const shape = [...x.shape.slice(0, -1), k];
  const values = call.runtime.tensor(shape, x.dtype);
  const indices = call.runtime.tensor(shape, 'i32');
  if (k === 0 || rows === 0) return { values, indices };
  const source = call.dense(x);
  const { each, tasks } = rowsPerTask(rows, size + 16 * k);
  call.run({
    key: `topK ${storage}`,
    kernels: { topK: kernel(storage) },
    phases: [
      {
        kernel: 'topK',
        tasks,
        words: packWords(wordNames, { x: source.address, values: call.runtime.addressOf(values), indices: call.runtime.addressOf(indices), rows, size, each, k }),
        scratchBytes: k * 8,
      },
    ],
    reads: [source],
    writes: [values, indices],
    microseconds: (rows * (size + 16 * k)) / 1000,
  });
  return { values, indices };
}

function kernel(storage: FloatStorage): KernelBody {
  const bytes = storageBytes[storage];
  return (f, { task, words, scratch }) => {
    const { x, values, indices, rows, size, each, k } = readWords(f, words, wordNames);
    const { first, end } = taskRows(f, task, each, rows);
    // Kept, best first: (key, index) pairs of 8 bytes.
    const [row, at, kept, least] = (['row', 'at row', 'kept', 'least'] as const).map((name) => f.local(name, 'i32')) as [Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>];
    f.for(row, { from: first, to: end }, () => {
      f.set(at, i32.add(x, i32.mul(row, i32.mul(size, bytes))));
      f.set(kept, 0);
      f.set(least, 0);
      const offer = (key: Value<'i32'>, index: Value<'i32'>): void => {
        insert(f, { scratch, k, kept, least }, key, index);
      };
      forRow(
        f,
        { storage, row: at, size },
        (four, index) => {
          const keys = f.let('keys', orderedKeys(f, four));
          const useful = i32.or(i32.lt_s(kept, k), v128.any_true(i32x4.gt_s(keys, i32x4.splat(least))));
          f.if(useful, () => {
            for (const lane of [0, 1, 2, 3]) offer(i32x4.extract_lane(keys, lane), i32.add(index, lane));
          });
        },
        (value, index) => {
          offer(i32x4.extract_lane(orderedKeys(f, value), 0), index);
        },
      );
      writeRow(f, { storage, scratch, k, at, values: i32.add(values, i32.mul(row, i32.mul(k, bytes))), indices: i32.add(indices, i32.mul(row, i32.shl(k, 2))) });
    });
  };
}

/** Integers in the order of floats: −0 like 0, NaN below all. */
function orderedKeys(f: FunctionBuilder, values: Local<'v128'>): Local<'v128'> {
  const positive = f.let('values', f32x4.add(values, constantF32x4(0)));
  const flipped = v128.xor(positive, i32x4.shr_u(i32x4.shr_s(positive, 31), 1));
  return f.let('ordered', v128.bitselect(flipped, constantI32x4(-(2 ** 31)), f32x4.eq(positive, positive)));
}

interface Kept {
  readonly scratch: Local<'i32'>;
  readonly k: Local<'i32'>;
  /** How many are kept. */
  readonly kept: Local<'i32'>;
  /** The key of the last one. */
  readonly least: Local<'i32'>;
}

/** Puts an element in its place behind those that are not less; it comes later, so ties stay in order. */
function insert(f: FunctionBuilder, { scratch, k, kept, least }: Kept, keyValue: Value<'i32'>, indexValue: Value<'i32'>): void {
  const key = f.let('key', keyValue);
  f.if(i32.or(i32.lt_s(kept, k), i32.gt_s(key, least)), () => {
    f.if(i32.lt_s(kept, k), () => {
      f.set(kept, i32.add(kept, 1));
    });
    const place = f.let('place', i32.add(scratch, i32.shl(i32.sub(kept, 1), 3)));
    f.block('found', (found) => {
      f.loop('shift', (again) => {
        f.brIf(found, i32.le_u(place, scratch));
        f.brIf(found, i32.ge_s(i32.load(i32.sub(place, 8)), key));
        f.do(instructions.i64.store(place, instructions.i64.load(i32.sub(place, 8))));
        f.set(place, i32.sub(place, 8));
        f.br(again);
      });
    });
    f.do(i32.store(place, key));
    f.do(i32.store(place, indexValue, 4));
    f.set(least, i32.load(i32.add(scratch, i32.shl(i32.sub(kept, 1), 3))));
  });
}

interface RowResult {
  readonly storage: FloatStorage;
  readonly scratch: Local<'i32'>;
  readonly k: Local<'i32'>;
  readonly at: Local<'i32'>;
  readonly values: Value<'i32'>;
  readonly indices: Value<'i32'>;
}

/** The values are copied from the row, so that they keep their bits. */
function writeRow(f: FunctionBuilder, { storage, scratch, k, at, values, indices }: RowResult): void {
  const bytes = storageBytes[storage];
  const value = f.let('value to', values);
  const index = f.let('index to', indices);
  const rank = f.local('rank', 'i32');
  const source = f.local('source', 'i32');
  f.for(rank, { to: k }, () => {
    f.set(source, i32.load(i32.add(scratch, i32.shl(rank, 3)), 4));
    f.do(i32.store(index, source));
    f.set(source, i32.add(at, i32.mul(source, bytes)));
    f.do(bytes === 4 ? i32.store(value, i32.load(source)) : i32.store16(value, i32.load16_u(source)));
    f.set(value, i32.add(value, bytes));
    f.set(index, i32.add(index, 4));
  });
}
