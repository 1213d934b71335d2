import type { FunctionBuilder, Local, TileSums } from '@heed/runtime-wasm';
import { clearTile, declareTile, instructions, multiplyAdd, multiplySubtract } from '@heed/runtime-wasm';
import type { Callee, Emission } from './context.ts';

const { i32, f32x4, v128 } = instructions;

export interface ProductShape {
  /** Bytes from one row to the next of the left, the right and the target matrix. */
  readonly leftRow: number;
  readonly rightRow: number;
  readonly targetRow: number;
  /**
   * all: every product. lower: only those up to a row's own column; strict: only those before it. What the left matrix holds beyond is not read, so that a
   * value that is not finite reaches no row before it (L15).
   */
  readonly depth: 'all' | 'lower' | 'strict';
  /** all: every column. lower: only columns up to a tile's last row are wanted; what is right of them in the tile is undefined. */
  readonly columns: 'all' | 'lower';
  /** set: target = left · right. add: target += …. scale: target = factor of the row ⊙ target + …, with the factors' address as a parameter. */
  readonly mode: 'set' | 'add' | 'scale';
}

/** Depths of one round; rows and widths in scratch are multiples of it. */
const unroll = 4;

/**
 * name(left, right, target, rows, columns, depth, factors): a product of matrices in scratch, both as they lie, row by row.
 * `rows` is a multiple of 4, `columns` of the tile's, `depth` of 4; zeros fill what lies behind the tokens.
 */
export function emitProduct({ module, plan }: Emission, name: string, shape: ProductShape): Callee {
  const { tile, machine } = plan;
  return module.function(
    name,
    { parameters: { left: 'i32', right: 'i32', target: 'i32', rows: 'i32', columns: 'i32', depth: 'i32', factors: 'i32' } },
    (f, { left, right, target, rows, columns, depth, factors }) => {
      const sums = declareTile(f, 'sum', tile);
      const row = f.local('row', 'i32');
      const column = f.local('column', 'i32');
      const columnsEnd = f.let('columnsEnd', columns);
      const depthEnd = f.let('depthEnd', depth);
      const place = f.local('place', 'i32');
      f.for(row, { to: rows, step: tile.rows, atLeastOnce: true }, () => {
        const leftRow = f.let('leftRow', i32.add(left, i32.mul(row, shape.leftRow)));
        if (shape.columns === 'lower') f.set(columnsEnd, i32.add(row, tile.rows));
        if (shape.depth !== 'all') f.set(depthEnd, row);
        f.for(column, { to: columnsEnd, step: tile.columns, atLeastOnce: true }, () => {
          f.set(place, i32.add(target, i32.add(i32.mul(row, shape.targetRow), i32.shl(column, 2))));
          startTile(f, sums, shape, place, f.let('factor', i32.add(factors, i32.shl(row, 2))));
          const rightColumn = f.let('rightColumn', i32.add(right, i32.shl(column, 2)));
          productTile(f, { sums, fused: machine.fused, left: leftRow, leftRow: shape.leftRow, right: rightColumn, rightRow: shape.rightRow, depth: depthEnd, sign: 1 });
          if (shape.depth !== 'all') diagonalTile(f, sums, shape, machine.fused, f.let('diagonal', i32.add(leftRow, i32.shl(row, 2))), rightColumn);
          storeSums(f, sums, place, shape.targetRow);
        });
      });
    },
  );
}

function startTile(f: FunctionBuilder, sums: TileSums, { mode, targetRow }: ProductShape, place: Local<'i32'>, factor: Local<'i32'>): void {
  if (mode === 'set') {
    clearTile(f, sums);
    return;
  }
  sums.forEach((row, rowIndex) => {
    row.forEach((sum, index) => {
      const before = v128.load(place, rowIndex * targetRow + index * 16);
      f.set(sum, mode === 'add' ? before : f32x4.mul(v128.load32_splat(factor, rowIndex * 4), before));
    });
  });
}

/** The last depths of a tile whose rows end at their own columns. `right` stands at the tile's first row. */
function diagonalTile(f: FunctionBuilder, sums: TileSums, { leftRow, rightRow, depth }: ProductShape, fused: boolean, diagonal: Local<'i32'>, right: Local<'i32'>): void {
  const spread = f.local('spread', 'v128');
  const columns = f.localArray('own', 'v128', sums[0]?.length ?? 0);
  for (let d = 0; d < sums.length; d += 1) {
    columns.forEach((column, index) => {
      f.set(column, v128.load(right, d * rightRow + index * 16));
    });
    sums.forEach((row, rowIndex) => {
      if (rowIndex < d || (rowIndex === d && depth === 'strict')) return;
      f.set(spread, v128.load32_splat(diagonal, rowIndex * leftRow + d * 4));
      row.forEach((sum, index) => {
        const column = columns[index];
        if (column !== undefined) f.set(sum, multiplyAdd({ fused }, spread, column, sum));
      });
    });
  }
}

export interface TileDepths {
  readonly sums: TileSums;
  readonly fused: boolean;
  /** Address of the first left row at depth 0. */
  readonly left: Local<'i32'>;
  readonly leftRow: number;
  /** Address of the first right column at depth 0. Is advanced. */
  readonly right: Local<'i32'>;
  readonly rightRow: number;
  /** A multiple of 4; 0 is nothing to add. */
  readonly depth: Local<'i32'>;
  /** Adds the products, or subtracts them. */
  readonly sign: 1 | -1;
}

/** sums[row][column] ± Σ_d left[row][d] · right[d][column]: each right vector is loaded once and meets every row. */
export function productTile(f: FunctionBuilder, { sums, fused, left, leftRow, right, rightRow, depth, sign }: TileDepths): void {
  const vectors = sums[0]?.length ?? 0;
  const columns = f.localArray('right', 'v128', vectors);
  const spread = f.local('spread', 'v128');
  const at = f.let('at', i32.add(left, 0));
  const end = f.let('end', i32.add(left, i32.shl(depth, 2)));
  const combine = sign === 1 ? multiplyAdd : multiplySubtract;
  f.if(i32.lt_u(at, end), () => {
    f.loop('depths', (again) => {
      for (let d = 0; d < unroll; d += 1) {
        columns.forEach((column, index) => {
          f.set(column, v128.load(right, d * rightRow + index * 16));
        });
        sums.forEach((row, rowIndex) => {
          f.set(spread, v128.load32_splat(at, rowIndex * leftRow + d * 4));
          row.forEach((sum, index) => {
            const column = columns[index];
            if (column !== undefined) f.set(sum, combine({ fused }, spread, column, sum));
          });
        });
      }
      f.set(at, i32.add(at, unroll * 4));
      f.set(right, i32.add(right, unroll * rightRow));
      f.brIf(again, i32.lt_u(at, end));
    });
  });
}

export function storeSums(f: FunctionBuilder, sums: TileSums, place: Local<'i32'>, row: number): void {
  sums.forEach((vectors, rowIndex) => {
    vectors.forEach((sum, index) => {
      f.do(v128.store(place, sum, rowIndex * row + index * 16));
    });
  });
}
