/** y[t, c] = bias[c] + Σ_n weight[c, n] · x[t − taps + 1 + n, c], four channels at a time; the taps are turned to [taps, channels] first. */
import { AttentionError, permute, type HostTensor, type Tensor } from '@heed/core';
import type { FunctionBuilder } from '../emit/function.ts';
import { loadFloats, storageBytes, storeFloat, storeFloats, type FloatStorage } from '../emit/half.ts';
import { constantF32x4, instructions, type Local, type Value } from '../emit/instruction.ts';
import { multiplyAdd, type Arithmetic } from '../emit/matmul.ts';
import { checkShape, floatStorage, rowsPerTask, type Dense, type KernelBody, type OperationCall } from './context.ts';
import { packWords, readWords, taskRows } from './words.ts';

const { i32, memory, v128 } = instructions;

export interface CausalConvolutionOptions {
  readonly tail?: Tensor;
  readonly bias?: Tensor;
}

const wordNames = ['x', 'out', 'weight', 'bias', 'tail', 'next', 'rows', 'each', 'length', 'channels', 'taps', 'nextRows'] as const;

export function causalConvolution(call: OperationCall, x: Tensor, weight: Tensor, { tail, bias }: CausalConvolutionOptions = {}): { readonly output: Tensor; readonly tail: Tensor } {
  const storage = floatStorage('causalConvolution’s x', x);
  checkShape('causalConvolution’s x', x.shape, ['batch', 'length', 'channels']);
  const [batch = 0, length = 0, channels = 0] = x.shape;
  checkShape('causalConvolution’s weight', weight.shape, [channels, 'taps']);
  const taps = weight.shape[1] ?? 0;
  if (taps < 1) throw new AttentionError('invalid-shape', 'causalConvolution’s weight has no taps.', 'Expected [channels, taps] with at least one.');
  if (tail !== undefined) checkShape('causalConvolution’s tail', tail.shape, [batch, taps - 1, channels]);
  if (bias !== undefined) checkShape('causalConvolution’s bias', bias.shape, [channels]);
  for (const [name, tensor] of Object.entries({ weight, tail, bias })) if (tensor !== undefined) floatStorage(`causalConvolution’s ${name}`, tensor);

  const { runtime } = call;
  const source = call.dense(x);
  const turned = call.dense(permute(call.dense(weight, 'f32').tensor as HostTensor, [1, 0]));
  const before = tail === undefined ? undefined : call.dense(tail, x.dtype);
  const biases = bias === undefined ? undefined : call.dense(bias, 'f32');
  const output = runtime.tensor(x.shape, x.dtype);
  const next = runtime.tensor([batch, taps - 1, channels], x.dtype);
  const rows = batch * length;
  const nextRows = batch * (taps - 1);
  const { each, tasks } = rowsPerTask(rows, channels * taps);
  const words = packWords(wordNames, {
    x: source.address,
    out: runtime.addressOf(output),
    weight: turned.address,
    bias: biases?.address ?? 0,
    tail: before?.address ?? 0,
    next: runtime.addressOf(next),
    rows,
    each,
    length,
    channels,
    taps,
    nextRows,
  });
  const form: Form = { storage, fused: runtime.machine.fused, tail: before !== undefined, bias: biases !== undefined };
  const given: readonly (Dense | undefined)[] = [source, turned, before, biases];
  call.run({
    key: `causalConvolution ${storage}${form.tail ? ' tail' : ''}${form.bias ? ' bias' : ''}`,
    kernels: { convolve: convolve(form), keep: keep(form) },
    phases: [
      { kernel: 'convolve', tasks, words },
      { kernel: 'keep', tasks: nextRows === 0 ? 0 : 1, words },
    ],
    reads: given.filter((one) => one !== undefined),
    writes: [output, next],
    microseconds: (rows * channels * taps) / 4000,
  });
  return { output, tail: next };
}

interface Form extends Arithmetic {
  readonly storage: FloatStorage;
  readonly tail: boolean;
  readonly bias: boolean;
}

/** Address of row `time` of a sequence, which is a row of its tail below 0. */
function rowAddress(f: FunctionBuilder, words: Readonly<Record<'x' | 'tail' | 'length' | 'taps', Local<'i32'>>>, sequence: Local<'i32'>, time: Local<'i32'>, rowBytes: Local<'i32'>): Local<'i32'> {
  const { x, tail, length, taps } = words;
  const address = f.local('source', 'i32');
  f.if(
    i32.lt_s(time, 0),
    () => {
      const past = i32.sub(taps, 1);
      f.set(address, i32.add(tail, i32.mul(i32.add(i32.add(i32.mul(sequence, past), time), past), rowBytes)));
    },
    () => {
      f.set(address, i32.add(x, i32.mul(i32.add(i32.mul(sequence, length), time), rowBytes)));
    },
  );
  return address;
}

function convolve({ storage, fused, tail: hasTail, bias: hasBias }: Form): KernelBody {
  const bytes = storageBytes[storage];
  return (f, { task, words }) => {
    const named = readWords(f, words, wordNames);
    const { out, weight, bias, rows, each, length, channels, taps } = named;
    const { first, end } = taskRows(f, task, each, rows);
    const rowBytes = f.let('row bytes', i32.mul(channels, bytes));
    const names = ['row', 'sequence', 'time', 'tap', 'past', 'channel', 'target'] as const;
    const [row, sequence, time, tap, past, channel, target] = names.map((name) => f.local(name, 'i32')) as [Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>];
    const sum = f.local('sum', 'v128');
    f.for(row, { from: first, to: end }, () => {
      f.set(sequence, i32.div_u(row, length));
      f.set(time, i32.sub(row, i32.mul(sequence, length)));
      f.set(target, i32.add(out, i32.mul(row, rowBytes)));
      f.set(channel, 0);
      f.while('channels', () => i32.lt_s(channel, channels), () => {
        const whole = f.let('whole', i32.le_s(i32.add(channel, 4), channels));
        const place = i32.shl(channel, 2);
        // The parameters may be read past their end: blocks are padded to whole vectors.
        f.set(sum, hasBias ? v128.load(i32.add(bias, place)) : constantF32x4(0));
        f.for(tap, { to: taps }, () => {
          f.set(past, i32.add(i32.sub(i32.add(time, tap), taps), 1));
          const present: Value<'i32'> = hasTail ? i32.eqz(0) : i32.ge_s(past, 0);
          f.if(present, () => {
            const source = rowAddress(f, named, sequence, past, rowBytes);
            const at = i32.add(source, i32.mul(channel, bytes));
            const taken = f.local('taken', 'v128');
            f.set(taken, loadFloats(f, storage, at));
            f.set(sum, multiplyAdd({ fused }, taken, v128.load(i32.add(weight, i32.shl(i32.add(i32.mul(tap, channels), channel), 2))), sum));
          });
        });
        f.if(
          whole,
          () => {
            storeFloats(f, storage, i32.add(target, i32.mul(channel, bytes)), sum);
            f.set(channel, i32.add(channel, 4));
          },
          () => {
            f.while('rest', () => i32.lt_s(channel, channels), () => {
              storeFloat(f, storage, i32.add(target, i32.mul(channel, bytes)), sum);
              f.set(sum, instructions.i8x16.shuffle(sum, sum, [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3]));
              f.set(channel, i32.add(channel, 1));
            });
          },
        );
      });
    });
  };
}

/** The last taps − 1 rows of each sequence, its tail included, for the next segment. */
function keep({ storage, tail: hasTail }: Form): KernelBody {
  const bytes = storageBytes[storage];
  return (f, { words }) => {
    const named = readWords(f, words, wordNames);
    const { next, length, channels, taps, nextRows } = named;
    const rowBytes = f.let('row bytes', i32.mul(channels, bytes));
    const past = f.let('past', i32.sub(taps, 1));
    const [row, sequence, time] = (['row', 'sequence', 'time'] as const).map((name) => f.local(name, 'i32')) as [Local<'i32'>, Local<'i32'>, Local<'i32'>];
    f.for(row, { to: nextRows }, () => {
      f.set(sequence, i32.div_u(row, past));
      f.set(time, i32.add(i32.sub(i32.sub(row, i32.mul(sequence, past)), past), length));
      const target = f.let('target', i32.add(next, i32.mul(row, rowBytes)));
      const given: Value<'i32'> = hasTail ? i32.eqz(0) : i32.ge_s(time, 0);
      f.if(
        given,
        () => {
          f.do(memory.copy(target, rowAddress(f, named, sequence, time, rowBytes), rowBytes));
        },
        () => {
          f.do(memory.fill(target, 0, rowBytes));
        },
      );
    });
  };
}
