/** Copies between strides and dtypes. Equal dtypes keep every bit; others are rounded once to nearest even, or truncated towards zero for integers. */
import { bytesPerElement, elementCount, type DType, type Tensor } from '@heed/core';
import type { FunctionBuilder } from '../emit/function.ts';
import { fromBfloat16, fromFloat16, loadFloats, storeFloats, toBfloat16, toFloat16, type FloatStorage } from '../emit/half.ts';
import { instructions, type Local, type Value } from '../emit/instruction.ts';
import { rowsPerTask, type KernelBody, type OperationCall } from './context.ts';
import { readWords, taskRows } from './words.ts';

const { i32, i64, f32, f64, f32x4, i32x4 } = instructions;

/** Queues target ← source, of one shape, both of this runtime. */
export function copyInto(call: OperationCall, source: Tensor, target: Tensor): void {
  const total = elementCount(source.shape);
  if (total === 0) return;
  const { runtime } = call;
  const plan = planCopy(source, target);
  const { each, tasks } = rowsPerTask(plan.rows, plan.size * 4);
  call.run({
    key: `copy ${source.dtype} ${target.dtype} ${plan.axes} ${plan.packed ? 'packed' : 'strided'}`,
    kernels: { copy: copyKernel(source.dtype, target.dtype, plan.axes, plan.packed) },
    phases: [
      { kernel: 'copy', tasks, words: [runtime.addressOf(source), runtime.addressOf(target), plan.rows, plan.size, each, ...plan.words] },
    ],
    reads: [{ tensor: source, address: 0, shape: source.shape }],
    writes: [target],
    microseconds: total / 1000,
  });
}

interface CopyPlan {
  /** Number of axes in front of the last one. */
  readonly axes: number;
  readonly rows: number;
  /** Length of the last axis. */
  readonly size: number;
  /** The last axis is dense on both sides. */
  readonly packed: boolean;
  /** Byte strides of the last axis, then size and byte strides of the others, the innermost first. */
  readonly words: readonly number[];
}

/** Joins axes that are one in both tensors, so that most copies have few and long rows. */
function planCopy(source: Tensor, target: Tensor): CopyPlan {
  const widths = [bytesPerElement[source.dtype], bytesPerElement[target.dtype]] as const;
  const joined: { size: number; from: number; to: number }[] = [];
  source.shape.forEach((size, axis) => {
    if (size === 1) return;
    const [from, to] = [source.strides[axis] ?? 0, target.strides[axis] ?? 0];
    const outer = joined.at(-1);
    if (outer?.from === from * size && outer.to === to * size) {
      outer.size *= size;
      outer.from = from;
      outer.to = to;
    } else joined.push({ size, from, to });
  });
  let last = joined.pop() ?? { size: 1, from: 1, to: 1 };
  if (joined.length === 0 && last.from === 1 && last.to === 1 && last.size > 4096) {
    // One dense run: cut into rows, so that there are tasks.
    const row = 4096;
    if (last.size % row === 0) {
      joined.push({ size: last.size / row, from: row, to: row });
      last = { size: row, from: 1, to: 1 };
    }
  }
  const outer = joined.reverse();
  return {
    axes: outer.length,
    rows: outer.reduce((product, { size }) => product * size, 1),
    size: last.size,
    packed: last.from === 1 && last.to === 1,
    words: [last.from * widths[0], last.to * widths[1], ...outer.flatMap(({ size, from, to }) => [size, from * widths[0], to * widths[1]])],
  };
}

function copyKernel(from: DType, to: DType, axes: number, packed: boolean): KernelBody {
  return (f, { task, words }) => {
    const { source, target, rows, size, each, step, stepTo } = readWords(f, words, ['source', 'target', 'rows', 'size', 'each', 'step', 'stepTo']);
    const { first, end } = taskRows(f, task, each, rows);
    const [row, rest, index, at, atTo] = (['row', 'rest', 'index', 'at', 'atTo'] as const).map((name) => f.local(name, 'i32')) as [Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>];
    f.for(row, { from: first, to: end }, () => {
      f.set(at, source);
      f.set(atTo, target);
      f.set(rest, row);
      for (let axis = 0; axis < axes; axis += 1) {
        const word = 28 + axis * 12;
        f.set(index, i32.rem_u(rest, i32.load(words, word)));
        f.set(rest, i32.div_u(rest, i32.load(words, word)));
        f.set(at, i32.add(at, i32.mul(index, i32.load(words, word + 4))));
        f.set(atTo, i32.add(atTo, i32.mul(index, i32.load(words, word + 8))));
      }
      copyRow({ f, from, to, packed, size, at, atTo, step, stepTo });
    });
  };
}

interface RowCopy {
  readonly f: FunctionBuilder;
  readonly from: DType;
  readonly to: DType;
  readonly packed: boolean;
  readonly size: Local<'i32'>;
  readonly at: Local<'i32'>;
  readonly atTo: Local<'i32'>;
  readonly step: Local<'i32'>;
  readonly stepTo: Local<'i32'>;
}

const isFloat = (dtype: DType): dtype is FloatStorage => dtype === 'f32' || dtype === 'f16' || dtype === 'bf16';

function copyRow({ f, from, to, packed, size, at, atTo, step, stepTo }: RowCopy): void {
  if (packed && from === to) {
    f.do(instructions.memory.copy(atTo, at, i32.mul(size, bytesPerElement[from])));
    return;
  }
  const element = f.local('element', 'i32');
  f.set(element, 0);
  if (packed && isFloat(from) && isFloat(to)) {
    const whole = f.let('whole', i32.and(size, -4));
    f.for(element, { to: whole, step: 4 }, () => {
      storeFloats(f, to, atTo, loadFloats(f, from, at));
      f.set(at, i32.add(at, 4 * bytesPerElement[from]));
      f.set(atTo, i32.add(atTo, 4 * bytesPerElement[to]));
    });
  }
  f.while('elements', () => i32.lt_s(element, size), () => {
    copyElement(f, from, to, at, atTo);
    f.set(at, i32.add(at, step));
    f.set(atTo, i32.add(atTo, stepTo));
    f.set(element, i32.add(element, 1));
  });
}

function copyElement(f: FunctionBuilder, from: DType, to: DType, at: Local<'i32'>, atTo: Local<'i32'>): void {
  if (from !== to) {
    storeNumber(f, to, atTo, loadNumber(f, from, at));
    return;
  }
  switch (bytesPerElement[from]) {
    case 1:
      f.do(i32.store8(atTo, i32.load8_u(at)));
      return;
    case 2:
      f.do(i32.store16(atTo, i32.load16_u(at)));
      return;
    case 4:
      f.do(i32.store(atTo, i32.load(at)));
      return;
    default:
      f.do(i64.store(atTo, i64.load(at)));
  }
}

/** Any number as float64, exactly. */
function loadNumber(f: FunctionBuilder, dtype: DType, at: Local<'i32'>): Value<'f64'> {
  switch (dtype) {
    case 'f64':
      return f64.load(at);
    case 'f32':
      return f64.promote_f32(f32.load(at));
    case 'f16':
      return f64.promote_f32(f32x4.extract_lane(fromFloat16(f, i32x4.splat(i32.load16_u(at))), 0));
    case 'bf16':
      return f64.promote_f32(f32x4.extract_lane(fromBfloat16(i32x4.splat(i32.load16_u(at))), 0));
    case 'i32':
      return f64.convert_i32_s(i32.load(at));
    case 'i8':
      return f64.convert_i32_s(i32.load8_s(at));
    case 'u8':
      return f64.convert_i32_u(i32.load8_u(at));
  }
}

function storeNumber(f: FunctionBuilder, dtype: DType, at: Local<'i32'>, value: Value<'f64'>): void {
  switch (dtype) {
    case 'f64':
      f.do(f64.store(at, value));
      return;
    case 'f32':
      f.do(f32.store(at, f32.demote_f64(value)));
      return;
    case 'f16':
      f.do(i32.store16(at, i32x4.extract_lane(toFloat16(f, f32x4.splat(toOdd(f, value))), 0)));
      return;
    case 'bf16':
      f.do(i32.store16(at, i32x4.extract_lane(toBfloat16(f, f32x4.splat(toOdd(f, value))), 0)));
      return;
    case 'i32':
      f.do(i32.store(at, i32.trunc_sat_f64_s(value)));
      return;
    case 'i8':
    case 'u8':
      f.do(i32.store8(at, i32.trunc_sat_f64_s(value)));
  }
}

/** A float64 as float32 rounded to odd, so that the next rounding is as if it were the only one. */
function toOdd(f: FunctionBuilder, value: Value<'f64'>): Value<'f32'> {
  const exact = f.let('exact', value);
  const near = f.let('near', f32.demote_f64(exact));
  const back = f.let('back', f64.promote_f32(near));
  // Inexact: step to the neighbour on the other side of the value when the last bit is even.
  f.if(i32.and(f64.ne(back, exact), i32.and(f64.eq(exact, exact), i32.eqz(i32.and(i32.reinterpret_f32(near), 1)))), () => {
    const away = f64.lt(f64.abs(back), f64.abs(exact));
    const bits = i32.reinterpret_f32(near);
    f.set(near, f32.reinterpret_i32(i32.add(bits, i32.sub(i32.shl(away, 1), 1))));
  });
  return near;
}

