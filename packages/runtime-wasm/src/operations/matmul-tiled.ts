/** Many rows times a matrix in packed panels, by register tiles. */
import type { FunctionBuilder } from '../emit/function.ts';
import { loadFloats, storageBytes, storeFloat, storeFloats, type FloatStorage } from '../emit/half.ts';
import { constantF32x4, instructions, type Local, type Operand } from '../emit/instruction.ts';
import { declareTile, rowsProduct, storeTile, type Arithmetic, type TileShape, type TileSums } from '../emit/matmul.ts';
import type { KernelBody } from './context.ts';
import { readWords } from './words.ts';

const { i32, i8x16, v128 } = instructions;

export interface ManyRows extends Arithmetic, TileShape {
  readonly right: FloatStorage;
  readonly stored: FloatStorage;
  /** b is [n, k]. */
  readonly transposed: boolean;
  readonly bias: boolean;
}

/** `group` panels of a task, `groups` tasks along n, `blocks` along m. */
export const manyRowsWords = ['a', 'b', 'bias', 'out', 'm', 'k', 'n', 'map', 'packed', 'panels', 'blocks', 'group', 'groups'] as const;

/** 6 × 16 needs 24 sums in registers, which packed pairs have; 6 × 8 is the fastest without. */
export function tileShape(wide: boolean): TileShape {
  return { rows: 6, columns: wide ? 16 : 8 };
}

/** Rows of a in one task: the panel at work stays in cache for all of them. */
export function rowsOfBlock({ rows }: TileShape): number {
  return rows * 8;
}

/** Bytes of one packed panel: [k, columns] float32. */
export function panelBytes({ columns }: TileShape, k: number): number {
  return Math.max(1, k) * columns * 4;
}

export function manyRows(form: ManyRows): Readonly<Record<'pack' | 'multiply', KernelBody>> {
  return { pack: pack(form), multiply: multiply(form) };
}

/** One panel. Columns behind the last one hold whatever lies there: their sums are never stored. */
function pack({ right, transposed, columns }: ManyRows): KernelBody {
  const bytes = storageBytes[right];
  return (f, { task, words }) => {
    const { b, k, n, packed, panels } = readWords(f, words, manyRowsWords);
    const matrix = f.let('matrix', i32.div_u(task, panels));
    const first = f.let('first', i32.mul(i32.sub(task, i32.mul(matrix, panels)), columns));
    const start = f.let('start', i32.add(b, i32.mul(matrix, i32.mul(i32.mul(k, n), bytes))));
    const to = f.let('to', i32.add(packed, i32.mul(task, i32.mul(k, columns * 4))));
    const depth = f.local('depth', 'i32');
    if (!transposed) {
      const line = f.let('line', i32.add(start, i32.mul(first, bytes)));
      f.for(depth, { to: k }, () => {
        for (let column = 0; column < columns; column += 4) f.do(v128.store(to, loadFloats(f, right, line, column * bytes), column * 4));
        f.set(line, i32.add(line, i32.mul(n, bytes)));
        f.set(to, i32.add(to, columns * 4));
      });
      return;
    }
    for (let column = 0; column < columns; column += 4) {
      const lines = [0, 1, 2, 3].map((index) => {
        const own = f.let('own', i32.add(first, column + index));
        f.if(i32.ge_s(own, n), () => {
          f.set(own, i32.sub(n, 1));
        });
        return f.let(`line${index}`, i32.add(start, i32.mul(i32.mul(own, k), bytes)));
      });
      const target = f.let('target', i32.add(to, column * 4));
      f.set(depth, 0);
      // Four depths of four columns are turned at once; the last four may reach past k, whose numbers are then not stored.
      f.while('depths', () => i32.lt_s(depth, k), () => {
        const turned = transpose(f, lines.map((line) => f.let('numbers', loadFloats(f, right, line))));
        turned.forEach((vector, index) => {
          f.if(i32.lt_s(i32.add(depth, index), k), () => {
            f.do(v128.store(target, vector, index * columns * 4));
          });
        });
        for (const line of lines) f.set(line, i32.add(line, 4 * bytes));
        f.set(target, i32.add(target, 4 * columns * 4));
        f.set(depth, i32.add(depth, 4));
      });
    }
  };
}

/** Four vectors as the rows of a matrix → its columns. */
function transpose(f: FunctionBuilder, rows: readonly Local<'v128'>[]): readonly Local<'v128'>[] {
  const [a, b, c, d] = rows;
  if (a === undefined || b === undefined || c === undefined || d === undefined) throw new RangeError('transpose takes four vectors');
  const low = [0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23];
  const high = low.map((lane) => lane + 8);
  const [ab0, ab1, cd0, cd1] = [
    f.let('pairs', i8x16.shuffle(a, b, low)),
    f.let('pairs', i8x16.shuffle(a, b, high)),
    f.let('pairs', i8x16.shuffle(c, d, low)),
    f.let('pairs', i8x16.shuffle(c, d, high)),
  ];
  const first = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
  const second = first.map((lane) => lane + 8);
  return [i8x16.shuffle(ab0, cd0, first), i8x16.shuffle(ab0, cd0, second), i8x16.shuffle(ab1, cd1, first), i8x16.shuffle(ab1, cd1, second)].map((vector) => f.let('turned', vector));
}

function multiply(form: ManyRows): KernelBody {
  const { rows, columns, stored } = form;
  return (f, { task, words, scratch }) => {
    const named = readWords(f, words, manyRowsWords);
    const { a, out, m, k, n, map, packed, panels, blocks, group, groups, bias } = named;
    const perMatrix = i32.mul(blocks, groups);
    const matrix = f.let('matrix', i32.div_u(task, perMatrix));
    const inside = f.let('inside', i32.sub(task, i32.mul(matrix, perMatrix)));
    const block = f.let('block', i32.div_u(inside, groups));
    const panel = f.let('panel', i32.mul(i32.sub(inside, i32.mul(block, groups)), group));
    const lastPanel = f.let('last panel', least(f, i32.add(panel, group), panels));
    const firstRow = f.let('first row', i32.mul(block, rowsOfBlock(form)));
    const endRow = f.let('end row', least(f, i32.add(firstRow, rowsOfBlock(form)), m));
    f.set(a, i32.add(a, i32.mul(matrix, i32.shl(i32.mul(m, k), 2))));
    f.set(out, i32.add(out, i32.mul(matrix, i32.mul(i32.mul(m, n), storageBytes[stored]))));
    const bMatrix = f.let('b matrix', i32.load(i32.add(map, i32.shl(matrix, 2))));
    const sums = declareTile(f, 'sum', form);
    const leftRows = f.localArray('row', 'i32', rows);
    const [row, right, column] = [f.local('at row', 'i32'), f.local('right', 'i32'), f.local('at column', 'i32')];
    f.while('panels', () => i32.lt_s(panel, lastPanel), () => {
      f.set(column, i32.mul(panel, columns));
      f.set(row, firstRow);
      f.while('strips', () => i32.lt_s(row, endRow), () => {
        leftRows.forEach((address, index) => {
          // Rows behind the last one repeat it; their sums are not stored.
          f.set(address, i32.add(a, i32.shl(i32.mul(least(f, i32.add(row, index), i32.sub(m, 1)), k), 2)));
        });
        f.set(right, i32.add(packed, i32.mul(i32.add(i32.mul(bMatrix, panels), panel), i32.mul(k, columns * 4))));
        beginTile(f, form, sums, bias, column);
        rowsProduct(f, { sums, rows: leftRows, right, depth: k, fused: form.fused });
        storeResult(f, form, { sums, out, m, n, row, column, scratch });
        f.set(row, i32.add(row, rows));
      });
      f.set(panel, i32.add(panel, 1));
    });
  };
}

function least(f: FunctionBuilder, a: Operand<'i32'>, b: Operand<'i32'>): Local<'i32'> {
  const [one, other] = [f.local('one', 'i32'), f.local('other', 'i32')];
  f.set(one, a);
  f.set(other, b);
  f.if(i32.gt_s(one, other), () => {
    f.set(one, other);
  });
  return one;
}

/** Sums begin at the bias, or at 0. */
function beginTile(f: FunctionBuilder, { bias: hasBias }: ManyRows, sums: TileSums, bias: Local<'i32'>, column: Local<'i32'>): void {
  const at = f.let('bias at', i32.add(bias, i32.shl(column, 2)));
  for (const row of sums) {
    row.forEach((sum, index) => {
      f.set(sum, hasBias ? v128.load(at, index * 16) : constantF32x4(0));
    });
  }
}

interface Result {
  readonly sums: TileSums;
  readonly out: Local<'i32'>;
  readonly m: Local<'i32'>;
  readonly n: Local<'i32'>;
  readonly row: Local<'i32'>;
  readonly column: Local<'i32'>;
  readonly scratch: Local<'i32'>;
}

/** The tile goes to scratch memory, side by side, where packing begins; from there the part that exists goes to the result. */
function storeResult(f: FunctionBuilder, { rows, columns, stored }: ManyRows, { sums, out, m, n, row, column, scratch }: Result): void {
  const bytes = storageBytes[stored];
  storeTile(f, sums, scratch, columns * 4);
  const rowEnd = least(f, i32.sub(m, row), rows);
  const width = f.let('width', i32.sub(n, column));
  const [index, at, target, done] = (['tile row', 'tile at', 'target', 'done'] as const).map((name) => f.local(name, 'i32')) as [Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>];
  f.for(index, { to: rowEnd }, () => {
    f.set(at, i32.add(scratch, i32.mul(index, columns * 4)));
    f.set(target, i32.add(out, i32.mul(i32.add(i32.mul(i32.add(row, index), n), column), bytes)));
    f.if(
      i32.ge_s(width, columns),
      () => {
        for (let one = 0; one < columns; one += 4) storeFloats(f, stored, target, v128.load(at, one * 4), one * bytes);
      },
      () => {
        f.for(done, { to: width }, () => {
          storeFloat(f, stored, target, v128.load32_zero(at));
          f.set(at, i32.add(at, 4));
          f.set(target, i32.add(target, bytes));
        });
      },
    );
  });
}
