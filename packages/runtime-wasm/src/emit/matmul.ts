/**
 * Register tiles: a block of rows × columns sums stays in vector registers while both operands stream past it.
 * 4 × 8 and 6 × 8 fit sixteen registers of 128 bits; 4 × 16 and 6 × 16 only when the engine packs pairs of vectors.
 */
import type { FunctionBuilder } from './function.ts';
import { constantF32x4, instructions, type Local, type Operand, type Value } from './instruction.ts';

const { i32, f32x4, v128 } = instructions;

export interface TileShape {
  /** Rows of the left operand. */
  readonly rows: number;
  /** Columns of the right operand; a multiple of 4. */
  readonly columns: number;
}

/** How products are added: one rounding where the engine has relaxed SIMD, two elsewhere. */
export interface Arithmetic {
  readonly fused: boolean;
}

/** a · b + c, lane by lane. */
export function multiplyAdd({ fused }: Arithmetic, a: Value<'v128'>, b: Value<'v128'>, c: Value<'v128'>): Value<'v128'> {
  return fused ? f32x4.relaxed_madd(a, b, c) : f32x4.add(f32x4.mul(a, b), c);
}

/** c − a · b, lane by lane. */
export function multiplySubtract({ fused }: Arithmetic, a: Value<'v128'>, b: Value<'v128'>, c: Value<'v128'>): Value<'v128'> {
  return fused ? f32x4.relaxed_nmadd(a, b, c) : f32x4.sub(c, f32x4.mul(a, b));
}

/** Accumulators of a tile: `sums[row][column / 4]`. */
export type TileSums = readonly (readonly Local<'v128'>[])[];

/** The registers of a tile, zero at first. */
export function declareTile(f: FunctionBuilder, name: string, { rows, columns }: TileShape): TileSums {
  return Array.from({ length: rows }, (_, row) => f.localArray(`${name}${row}_`, 'v128', columns / 4));
}

export function clearTile(f: FunctionBuilder, sums: TileSums): void {
  for (const row of sums) for (const sum of row) f.set(sum, constantF32x4(0));
}

export interface TileProduct extends Arithmetic {
  readonly sums: TileSums;
  /** Address of the packed left panel: [depth, rows] float32. Is advanced past it. */
  readonly left: Local<'i32'>;
  /** Address of the packed right panel: [depth, columns] float32. Is advanced past it. */
  readonly right: Local<'i32'>;
  /** Number of products in each sum, at least 1. */
  readonly depth: Operand<'i32'>;
  /** Steps of depth in one round of the loop; must divide `depth`. Default 1. */
  readonly unroll?: number;
  /** Bytes from one depth to the next in the left panel. Default rows · 4. */
  readonly leftStride?: number;
  /** Bytes from one depth to the next in the right panel. Default columns · 4. */
  readonly rightStride?: number;
}

/**
 * sums[row][column] += Σ_d left[d][row] · right[d][column].
 * Each right vector is loaded once and meets every row; each left number is spread over four lanes as it is loaded.
 */
export function tileProduct(f: FunctionBuilder, { sums, left, right, depth, unroll = 1, fused, leftStride, rightStride }: TileProduct): void {
  const rows = sums.length;
  const vectors = sums[0]?.length ?? 0;
  const leftStep = leftStride ?? rows * 4;
  const rightStep = rightStride ?? vectors * 16;
  const columns = f.localArray('column', 'v128', vectors);
  const spread = f.local('spread', 'v128');
  const end = f.let('end', i32.add(left, i32.mul(depth, leftStep)));
  f.loop('depth', (again) => {
    for (let step = 0; step < unroll; step += 1) {
      columns.forEach((column, index) => {
        f.set(column, v128.load(right, step * rightStep + index * 16));
      });
      sums.forEach((row, rowIndex) => {
        f.set(spread, v128.load32_splat(left, step * leftStep + rowIndex * 4));
        row.forEach((sum, index) => {
          const column = columns[index];
          if (column !== undefined) f.set(sum, multiplyAdd({ fused }, spread, column, sum));
        });
      });
    }
    f.set(right, i32.add(right, unroll * rightStep));
    f.set(left, i32.add(left, unroll * leftStep));
    f.brIf(again, i32.lt_u(left, end));
  });
}

export interface RowsProduct extends Arithmetic {
  readonly sums: TileSums;
  /** Addresses of the left rows, float32, one number for each depth. Are advanced past them. */
  readonly rows: readonly Local<'i32'>[];
  /** Address of the packed right panel: [depth, columns] float32. Is advanced past it. */
  readonly right: Local<'i32'>;
  /** Number of products in each sum, 0 or more. */
  readonly depth: Local<'i32'>;
}

/** Depths of one round. */
const rowsUnroll = 4;

/** As {@link tileProduct}, with left rows as they lie: each row's numbers one after another. */
export function rowsProduct(f: FunctionBuilder, { sums, rows, right, depth, fused }: RowsProduct): void {
  const vectors = sums[0]?.length ?? 0;
  const columns = f.localArray('column', 'v128', vectors);
  const spread = f.local('spread', 'v128');
  const step = (at: number): void => {
    columns.forEach((column, index) => {
      f.set(column, v128.load(right, at * vectors * 16 + index * 16));
    });
    rows.forEach((row, rowIndex) => {
      f.set(spread, v128.load32_splat(row, at * 4));
      columns.forEach((column, index) => {
        const sum = sums[rowIndex]?.[index];
        if (sum !== undefined) f.set(sum, multiplyAdd({ fused }, spread, column, sum));
      });
    });
  };
  const advance = (steps: number): void => {
    f.set(right, i32.add(right, steps * vectors * 16));
    for (const row of rows) f.set(row, i32.add(row, steps * 4));
  };
  const left = f.let('left', depth);
  f.if(i32.ge_s(left, rowsUnroll), () => {
    f.loop('depths', (again) => {
      for (let at = 0; at < rowsUnroll; at += 1) step(at);
      advance(rowsUnroll);
      f.set(left, i32.sub(left, rowsUnroll));
      f.brIf(again, i32.ge_s(left, rowsUnroll));
    });
  });
  f.while('rest', () => left, () => {
    step(0);
    advance(1);
    f.set(left, i32.sub(left, 1));
  });
}

/** Writes the tile to rows of `stride` bytes from `address`. */
export function storeTile(f: FunctionBuilder, sums: TileSums, address: Local<'i32'>, stride: number): void {
  sums.forEach((row, rowIndex) => {
    row.forEach((sum, index) => {
      f.do(v128.store(address, sum, rowIndex * stride + index * 16));
    });
  });
}
