/** A few rows of float32 times a matrix that is read once, in place. */
import type { FunctionBuilder } from '../emit/function.ts';
import { loadFloat, loadFloats, storageBytes, storeFloat, storeFloats, type FloatStorage } from '../emit/half.ts';
import { constantF32x4, instructions, type Local, type Value } from '../emit/instruction.ts';
import { multiplyAdd, type Arithmetic } from '../emit/matmul.ts';
import type { KernelBody } from './context.ts';
import { firstLane } from './rows.ts';
import { readWords } from './words.ts';

const { f32x4, i32, i8x16, v128 } = instructions;

export interface FewRows extends Arithmetic {
  readonly right: FloatStorage;
  readonly stored: FloatStorage;
  /** b is [n, k]. */
  readonly transposed: boolean;
  readonly bias: boolean;
  /** Rows of a, 1 … 4. */
  readonly rows: number;
}

/** `each` columns of a task, `perMatrix` tasks. */
export const fewRowsWords = ['a', 'b', 'bias', 'out', 'm', 'k', 'n', 'map', 'each', 'perMatrix'] as const;

type Words = Readonly<Record<(typeof fewRowsWords)[number], Local<'i32'>>>;

export function fewRows(form: FewRows): KernelBody {
  return (f, { task, words }) => {
    const named = readWords(f, words, fewRowsWords);
    const { a, b, out, m, k, n, map, each, perMatrix } = named;
    const matrix = f.let('matrix', i32.div_u(task, perMatrix));
    const column = f.let('column', i32.mul(i32.sub(task, i32.mul(matrix, perMatrix)), each));
    const end = f.let('end', i32.add(column, each));
    f.if(i32.gt_s(end, n), () => {
      f.set(end, n);
    });
    f.set(a, i32.add(a, i32.mul(matrix, i32.mul(i32.mul(m, k), 4))));
    f.set(out, i32.add(out, i32.mul(matrix, i32.mul(i32.mul(m, n), storageBytes[form.stored]))));
    f.set(b, i32.add(b, i32.mul(i32.load(i32.add(map, i32.shl(matrix, 2))), i32.mul(i32.mul(k, n), storageBytes[form.right]))));
    for (const width of form.transposed ? ([4, 1] as const) : ([16, 4, 1] as const)) {
      f.while(`columns by ${width}`, () => i32.le_s(i32.add(column, width), end), () => {
        if (form.transposed) dotProducts(f, form, named, column, width === 4 ? 4 : 1);
        else scaledRows(f, form, named, column, width);
        f.set(column, i32.add(column, width));
      });
    }
  };
}

/** `count` columns, each a row of b: products along k, four partial sums for each. */
function dotProducts(f: FunctionBuilder, form: FewRows, { a, b, k, bias, out, n }: Words, column: Local<'i32'>, count: 1 | 4): void {
  const { right, rows } = form;
  const lines = Array.from({ length: count }, (_, index) => f.let(`line${index}`, i32.add(b, i32.mul(i32.mul(i32.add(column, index), k), storageBytes[right]))));
  const leftRows = Array.from({ length: rows }, (_, row) => f.let(`a${row}`, i32.add(a, i32.mul(i32.mul(row, k), 4))));
  const sums = leftRows.map((_, row) => f.localArray(`sum${row}_`, 'v128', count));
  for (const row of sums) for (const sum of row) f.set(sum, constantF32x4(0));
  const remaining = f.let('remaining', k);
  const round = (step: 1 | 4): void => {
    const load = (storage: FloatStorage, address: Local<'i32'>): Value<'v128'> => (step === 4 ? loadFloats(f, storage, address) : firstLane(loadFloat(f, storage, address)));
    const numbers = lines.map((line, index) => f.let(`b${index}`, load(right, line)));
    leftRows.forEach((address, row) => {
      const taken = f.let('taken', load('f32', address));
      numbers.forEach((number, index) => {
        const sum = sums[row]?.[index];
        if (sum !== undefined) f.set(sum, multiplyAdd(form, taken, number, sum));
      });
      f.set(address, i32.add(address, step * 4));
    });
    for (const line of lines) f.set(line, i32.add(line, step * storageBytes[right]));
    f.set(remaining, i32.sub(remaining, step));
  };
  f.while('fours', () => i32.ge_s(remaining, 4), () => {
    round(4);
  });
  f.while('ones', () => remaining, () => {
    round(1);
  });
  sums.forEach((row, index) => {
    const target = i32.add(out, i32.mul(i32.add(i32.mul(index, n), column), storageBytes[form.stored]));
    const [s0, s1, s2, s3] = row;
    if (count === 4 && s0 !== undefined && s1 !== undefined && s2 !== undefined && s3 !== undefined) {
      storeFloats(f, form.stored, target, withBias(f, form, bias, column, sumsOfFour(f, s0, s1, s2, s3)));
    } else if (s0 !== undefined) {
      const all = f.let('all', s0);
      storeFloat(f, form.stored, target, withBias(f, form, bias, column, sumsOfFour(f, all, all, all, all)));
    }
  });
}

/** Lane i: the sum of the lanes of the i-th vector, always (0 + 1) + (2 + 3). */
function sumsOfFour(f: FunctionBuilder, a: Local<'v128'>, b: Local<'v128'>, c: Local<'v128'>, d: Local<'v128'>): Local<'v128'> {
  const even = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];
  const odd = even.map((lane) => lane + 4);
  const pairs = (x: Local<'v128'>, y: Local<'v128'>): Local<'v128'> => f.let('pairs', f32x4.add(i8x16.shuffle(x, y, even), i8x16.shuffle(x, y, odd)));
  return pairs(pairs(a, b), pairs(c, d));
}

/** `width` columns as they lie: rows of b, scaled by the numbers of a, are added up. */
function scaledRows(f: FunctionBuilder, form: FewRows, { a, b, k, bias, out, n }: Words, column: Local<'i32'>, width: 16 | 4 | 1): void {
  const { right, rows } = form;
  const vectors = Math.ceil(width / 4);
  const line = f.let('line', i32.add(b, i32.mul(column, storageBytes[right])));
  const lineBytes = f.let('line bytes', i32.mul(n, storageBytes[right]));
  const leftRows = Array.from({ length: rows }, (_, row) => f.let(`a${row}`, i32.add(a, i32.mul(i32.mul(row, k), 4))));
  const sums = leftRows.map((_, row) => f.localArray(`sum${row}_`, 'v128', vectors));
  for (const row of sums) for (const sum of row) f.set(sum, constantF32x4(0));
  const remaining = f.let('remaining', k);
  f.while('depths', () => remaining, () => {
    const numbers = Array.from({ length: vectors }, (_, index) =>
      f.let(`b${index}`, width === 1 ? loadFloat(f, right, line) : loadFloats(f, right, line, index * 4 * storageBytes[right])),
    );
    leftRows.forEach((address, row) => {
      const spread = f.let('spread', v128.load32_splat(address));
      numbers.forEach((number, index) => {
        const sum = sums[row]?.[index];
        if (sum !== undefined) f.set(sum, multiplyAdd(form, spread, number, sum));
      });
      f.set(address, i32.add(address, 4));
    });
    f.set(line, i32.add(line, lineBytes));
    f.set(remaining, i32.sub(remaining, 1));
  });
  sums.forEach((row, rowIndex) => {
    row.forEach((sum, index) => {
      const place = f.let('place', i32.add(column, index * 4));
      const target = i32.add(out, i32.mul(i32.add(i32.mul(rowIndex, n), place), storageBytes[form.stored]));
      const value = withBias(f, form, bias, place, sum);
      if (width === 1) storeFloat(f, form.stored, target, value);
      else storeFloats(f, form.stored, target, value);
    });
  });
}

function withBias(f: FunctionBuilder, { bias: hasBias }: FewRows, bias: Local<'i32'>, column: Local<'i32'>, value: Local<'v128'>): Value<'v128'> {
  if (!hasBias) return value;
  return f.let('biased', f32x4.add(value, v128.load(i32.add(bias, i32.shl(column, 2)))));
}
