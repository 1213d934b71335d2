/**
 * l2: row / max(‖row‖, ε).  rms: row / √(mean(row²) + ε).  layer: (row − mean) / √(variance + ε), in two passes over the row.
 * Then times gain plus shift.
 */
import { AttentionError, type Tensor } from '@heed/core';
import { storageBytes, storeFloat, storeFloats, type FloatStorage } from '../emit/half.ts';
import { constantF32x4, instructions, type Value } from '../emit/instruction.ts';
import { multiplyAdd, type Arithmetic } from '../emit/matmul.ts';
import { checkShape, floatStorage, rowsOf, rowsPerTask, type KernelBody, type OperationCall } from './context.ts';
import { firstLane, forRow, sumLanes } from './rows.ts';
import { floatBits, packWords, readWords, taskRows } from './words.ts';

const { f32, f32x4, i32, v128 } = instructions;

export type Norm = 'l2' | 'rms' | 'layer';

export interface RowNormOptions {
  readonly norm: Norm;
  readonly epsilon: number;
  readonly gain?: Tensor;
  readonly shift?: Tensor;
}

const wordNames = ['x', 'out', 'rows', 'size', 'each', 'epsilon', 'gain', 'shift'] as const;

export function rowNorm(call: OperationCall, x: Tensor, { norm, epsilon, gain, shift }: RowNormOptions): Tensor {
  const storage = floatStorage('rowNorm’s x', x);
  if (!(epsilon >= 0)) throw new AttentionError('invalid-argument', `rowNorm got epsilon ${epsilon}.`, 'Expected a number of 0 or more.');
  const { rows, size } = rowsOf(x.shape);
  if (x.shape.length < 1 || size < 1) throw new AttentionError('invalid-shape', `rowNorm got shape [${x.shape.join(', ')}].`, 'Expected rows of at least one channel.');
  const parameter = (name: string, tensor: Tensor | undefined) => {
    if (tensor === undefined) return undefined;
    checkShape(`rowNorm’s ${name}`, tensor.shape, [size]);
    floatStorage(`rowNorm’s ${name}`, tensor);
    return call.dense(tensor, 'f32');
  };
  const gains = parameter('gain', gain);
  const shifts = parameter('shift', shift);
  const source = call.dense(x);
  const out = call.runtime.tensor(x.shape, x.dtype);
  const { each, tasks } = rowsPerTask(rows, 2 * size);
  const { machine } = call.runtime;
  call.run({
    key: `rowNorm ${norm} ${storage}${gains === undefined ? '' : ' gain'}${shifts === undefined ? '' : ' shift'}`,
    kernels: { rowNorm: kernel(norm, storage, { gain: gains !== undefined, shift: shifts !== undefined, fused: machine.fused }) },
    phases: [
      {
        kernel: 'rowNorm',
        tasks,
        words: packWords(wordNames, {
          x: source.address,
          out: call.runtime.addressOf(out),
          rows,
          size,
          each,
          epsilon: floatBits(epsilon),
          gain: gains?.address ?? 0,
          shift: shifts?.address ?? 0,
        }),
      },
    ],
    reads: [source, ...(gains === undefined ? [] : [gains]), ...(shifts === undefined ? [] : [shifts])],
    writes: [out],
    microseconds: (rows * size) / 2000,
  });
  return out;
}

function kernel(norm: Norm, storage: FloatStorage, options: Arithmetic & { readonly gain: boolean; readonly shift: boolean }): KernelBody {
  const bytes = storageBytes[storage];
  return (f, { task, words }) => {
    const { x, out, rows, size, each, gain, shift } = readWords(f, words, wordNames);
    const epsilon = f.let('epsilon', f32.load(words, 4 * wordNames.indexOf('epsilon')));
    const { first, end } = taskRows(f, task, each, rows);
    const count = f.let('count', f32.convert_i32_s(size));
    const index = f.local('row', 'i32');
    const row = f.local('at row', 'i32');
    const target = f.local('target', 'i32');
    const mean = f.local('mean', 'v128');
    const squares = f.local('squares', 'v128');
    const factor = f.local('factor', 'v128');
    f.for(index, { from: first, to: end }, () => {
      f.set(row, i32.add(x, i32.mul(index, i32.mul(size, bytes))));
      f.set(target, i32.add(out, i32.mul(index, i32.mul(size, bytes))));
      const loop = { storage, row, size };
      if (norm === 'layer') {
        f.set(mean, constantF32x4(0));
        forRow(
          f,
          loop,
          (values) => {
            f.set(mean, f32x4.add(mean, values));
          },
          (value) => {
            f.set(mean, f32x4.add(mean, firstLane(value)));
          },
        );
        f.set(mean, f32x4.splat(f32.div(sumLanes(f, mean), count)));
      }
      f.set(squares, constantF32x4(0));
      const centred = (value: Value<'v128'>): Value<'v128'> => (norm === 'layer' ? f32x4.sub(value, mean) : value);
      forRow(
        f,
        loop,
        (values) => {
          f.set(values, centred(values));
          f.set(squares, multiplyAdd(options, values, values, squares));
        },
        (value) => {
          f.set(value, firstLane(centred(value)));
          f.set(squares, multiplyAdd(options, value, value, squares));
        },
      );
      const total = sumLanes(f, squares);
      const length = norm === 'l2' ? f32.max(f32.sqrt(total), epsilon) : f32.sqrt(f32.add(f32.div(total, count), epsilon));
      f.set(factor, f32x4.splat(length));
      const finish = (value: Value<'v128'>, load: (address: Value<'i32'>) => Value<'v128'>, channel: Value<'i32'>): Value<'v128'> => {
        const unit = f32x4.div(centred(value), factor);
        const at = f.let('channel', i32.shl(channel, 2));
        const scaled = options.gain ? f32x4.mul(unit, load(i32.add(gain, at))) : unit;
        return options.shift ? f32x4.add(scaled, load(i32.add(shift, at))) : scaled;
      };
      forRow(
        f,
        loop,
        (values, channel) => {
          storeFloats(f, storage, target, finish(values, (address) => v128.load(address), channel));
          f.set(target, i32.add(target, 4 * bytes));
        },
        (value, channel) => {
          storeFloat(f, storage, target, finish(value, (address) => v128.load32_zero(address), channel));
          f.set(target, i32.add(target, bytes));
        },
      );
    });
  };
}
