import type { FunctionBuilder, Local, Operand, Value } from '@heed/runtime-wasm';
import { constantF32x4, instructions } from '@heed/runtime-wasm';

const { i32, f32x4, v128 } = instructions;

/** Sums of a register tile: `sums[row][column / 4]`. */
export type Sums = readonly (readonly Local<'v128'>[])[];

export function declareSums(f: FunctionBuilder, rows: number, columns: number): Sums {
  return Array.from({ length: rows }, (_, row) => f.localArray(`sum${row}_`, 'v128', columns / 4));
}

export function clearSums(f: FunctionBuilder, sums: Sums): void {
  for (const row of sums) for (const sum of row) f.set(sum, constantF32x4(0));
}

/** a · b + c, lane by lane; one rounding where the engine has it. */
export function multiplyAdd(fused: boolean, a: Value<'v128'>, b: Value<'v128'>, c: Value<'v128'>): Value<'v128'> {
  return fused ? f32x4.relaxed_madd(a, b, c) : f32x4.add(f32x4.mul(a, b), c);
}

export interface Product {
  readonly sums: Sums;
  readonly fused: boolean;
  /** Address of the left rows at depth 0; they lie `leftRow` bytes apart, depth by depth 4 bytes. Is advanced. */
  readonly left: Local<'i32'>;
  readonly leftRow: number;
  /** Address of the right columns at depth 0; depth by depth `rightStep` bytes. Is advanced. */
  readonly right: Local<'i32'>;
  readonly rightStep: number;
  /** Products in each sum: known while emitting, or a local that is a multiple of `unroll`. */
  readonly depth: number | Local<'i32'>;
  readonly unroll: number;
}

/**
 * sums[row][column] += Σ_d left[row][d] · right[d][column].
 * Each right vector is loaded once and meets every row; each left number is spread over four lanes as it is loaded. The left rows stay as they lie.
 */
export function product(f: FunctionBuilder, { sums, fused, left, leftRow, right, rightStep, depth, unroll }: Product): void {
  const vectors = sums[0]?.length ?? 0;
  const columns = f.localArray('column', 'v128', vectors);
  const spread = f.local('spread', 'v128');
  const step = (d: number): void => {
    columns.forEach((column, index) => f.set(column, v128.load(right, d * rightStep + index * 16)));
    sums.forEach((row, rowIndex) => {
      f.set(spread, v128.load32_splat(left, rowIndex * leftRow + d * 4));
      row.forEach((sum, index) => {
        const column = columns[index];
        if (column !== undefined) f.set(sum, multiplyAdd(fused, spread, column, sum));
      });
    });
  };
  const advance = (steps: number): void => {
    f.set(left, i32.add(left, steps * 4));
    f.set(right, i32.add(right, steps * rightStep));
  };
  const whole = typeof depth === 'number' ? Math.floor(depth / unroll) * unroll : depth;
  const rest = typeof depth === 'number' ? depth % unroll : 0;
  if (whole !== 0) {
    const bytes: Operand<'i32'> = typeof whole === 'number' ? whole * 4 : i32.shl(whole, 2);
    const end = f.let('end', i32.add(left, bytes));
    f.loop('depth', (again) => {
      for (let d = 0; d < unroll; d += 1) step(d);
      advance(unroll);
      f.brIf(again, i32.lt_u(left, end));
    });
  }
  for (let d = 0; d < rest; d += 1) step(d);
}
