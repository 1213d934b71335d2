/** Sum, greatest or mean of the last axis, in float32: four partial sums, each along the row. */
import type { Tensor } from '@heed/core';
import { storageBytes, storeFloat, type FloatStorage } from '../emit/half.ts';
import { constantF32x4, instructions } from '../emit/instruction.ts';
import { floatStorage, rowsOf, rowsPerTask, type KernelBody, type OperationCall } from './context.ts';
import { firstLane, forRow, maxLanes, sumLanes } from './rows.ts';
import { packWords, readWords, taskRows } from './words.ts';

const { f32, f32x4, i32, v128 } = instructions;

export type Reduction = 'sum' | 'max' | 'mean';

const wordNames = ['x', 'out', 'rows', 'size', 'each'] as const;

export function reduce(call: OperationCall, x: Tensor, reduction: Reduction): Tensor {
  const storage = floatStorage('reduce’s x', x);
  const { rows, size } = rowsOf(x.shape);
  const out = call.runtime.tensor(x.shape.slice(0, -1), x.dtype);
  const source = call.dense(x);
  const { each, tasks } = rowsPerTask(rows, size);
  call.run({
    key: `reduce ${reduction} ${storage}`,
    kernels: { reduce: kernel(reduction, storage) },
    phases: [{ kernel: 'reduce', tasks, words: packWords(wordNames, { x: source.address, out: call.runtime.addressOf(out), rows, size, each }) }],
    reads: [source],
    writes: [out],
    microseconds: (rows * size) / 4000,
  });
  return out;
}

function kernel(reduction: Reduction, storage: FloatStorage): KernelBody {
  const bytes = storageBytes[storage];
  return (f, { task, words }) => {
    const { x, out, rows, size, each } = readWords(f, words, wordNames);
    const { first, end } = taskRows(f, task, each, rows);
    const index = f.local('row', 'i32');
    const row = f.local('at row', 'i32');
    const total = f.local('total', 'v128');
    f.for(index, { from: first, to: end }, () => {
      f.set(row, i32.add(x, i32.mul(index, i32.mul(size, bytes))));
      f.set(total, constantF32x4(reduction === 'max' ? -Infinity : 0));
      forRow(
        f,
        { storage, row, size },
        (values) => {
          f.set(total, reduction === 'max' ? f32x4.max(total, values) : f32x4.add(total, values));
        },
        (value) => {
          f.set(total, reduction === 'max' ? f32x4.max(total, v128.or(firstLane(value), otherLanesMinusInfinity)) : f32x4.add(total, firstLane(value)));
        },
      );
      const across = reduction === 'max' ? maxLanes(f, total) : sumLanes(f, total);
      if (reduction === 'mean') f.set(across, f32.div(across, f32.convert_i32_s(size)));
      storeFloat(f, storage, i32.add(out, i32.mul(index, bytes)), f32x4.splat(across));
    });
  };
}

/** Zero in lane 0, −∞ in the others. */
const otherLanesMinusInfinity = v128.andnot(constantF32x4(-Infinity), firstLane(constantF32x4(-Infinity)));
