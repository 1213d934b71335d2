/** Loops over one row of stored floats, four at a time, with the rest one by one. */
import type { FunctionBuilder } from '../emit/function.ts';
import { loadFloat, loadFloats, storageBytes, type FloatStorage } from '../emit/half.ts';
import { instructions, lanesI32x4, type Local, type Value } from '../emit/instruction.ts';

const { f32, f32x4, i32, v128 } = instructions;

export interface RowLoop {
  readonly storage: FloatStorage;
  /** Address of the row. */
  readonly row: Local<'i32'>;
  /** Numbers in the row. */
  readonly size: Local<'i32'>;
}

/**
 * `four` sees four numbers, `one` a vector whose lane 0 is a number. `index` counts numbers.
 */
export function forRow(
  f: FunctionBuilder,
  { storage, row, size }: RowLoop,
  four: (values: Local<'v128'>, index: Local<'i32'>) => void,
  one: (value: Local<'v128'>, index: Local<'i32'>) => void,
): void {
  const index = f.local('index', 'i32');
  const at = f.let('at', row);
  const whole = f.let('whole', i32.and(size, -4));
  const values = f.local('values', 'v128');
  f.for(index, { to: whole, step: 4 }, () => {
    f.set(values, loadFloats(f, storage, at));
    four(values, index);
    f.set(at, i32.add(at, 4 * storageBytes[storage]));
  });
  f.set(index, whole);
  f.while('rest', () => i32.lt_s(index, size), () => {
    f.set(values, loadFloat(f, storage, at));
    one(values, index);
    f.set(at, i32.add(at, storageBytes[storage]));
    f.set(index, i32.add(index, 1));
  });
}

/** Lane 0 alone, zeros elsewhere. */
export function firstLane(value: Value<'v128'>): Value<'v128'> {
  return v128.and(value, lanesI32x4([-1, 0, 0, 0]));
}

/** The sum of four lanes: (0 + 2) + (1 + 3). */
export function sumLanes(f: FunctionBuilder, value: Value<'v128'>): Local<'f32'> {
  return acrossLanes(f, value, f32x4.add, f32.add);
}

/** The greatest of four lanes; NaN if there is one. */
export function maxLanes(f: FunctionBuilder, value: Value<'v128'>): Local<'f32'> {
  return acrossLanes(f, value, f32x4.max, f32.max);
}

function acrossLanes(
  f: FunctionBuilder,
  value: Value<'v128'>,
  four: (a: Value<'v128'>, b: Value<'v128'>) => Value<'v128'>,
  two: (a: Value<'f32'>, b: Value<'f32'>) => Value<'f32'>,
): Local<'f32'> {
  const all = f.let('lanes', value);
  const halves = f.let('halves', four(all, instructions.i8x16.shuffle(all, all, [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7])));
  return f.let('across', two(f32x4.extract_lane(halves, 0), f32x4.extract_lane(halves, 1)));
}
