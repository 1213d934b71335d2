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

/** Columns of one task. Rows of b as they lie are read in runs of this length: long enough for memory, short enough for the sums to stay in the first cache. */
export function fewRowsColumns(transposed: boolean, { k, n, rows }: { readonly k: number; readonly n: number; readonly rows: number }): number {
  const eighths = (columns: number): number => Math.ceil(columns / 8) * 8;
  if (!transposed) return Math.max(128, Math.min(512, eighths(n / 8)));
  return Math.max(8, Math.min(eighths(n), eighths(60_000 / Math.max(1, k * rows))));
}

/** Scratch of one task: the sums of its columns. */
export function fewRowsScratchBytes({ transposed, rows }: FewRows, columns: number): number {
  return transposed ? 0 : rows * columns * 4;
}

export function fewRows(form: FewRows): KernelBody {
  return (f, { task, words, scratch }) => {
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
    if (!form.transposed) {
      scaledRows(f, form, { ...named, column, end, scratch });
      return;
    }
    for (const count of [4, 1] as const) {
      f.while(`columns by ${count}`, () => i32.le_s(i32.add(column, count), end), () => {
        dotProducts(f, form, named, column, count);
        f.set(column, i32.add(column, count));
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

interface ScaledRows extends Words {
  readonly column: Local<'i32'>;
  readonly end: Local<'i32'>;
  readonly scratch: Local<'i32'>;
}

/**
 * Columns `column` … `end`: rows of b, scaled by the numbers of a, are added to sums in scratch memory, four rows of b at a time.
 * Vectors reach past `end`; what they compute there is not stored.
 */
function scaledRows(f: FunctionBuilder, form: FewRows, { a, b, k, n, bias, out, each, column, end, scratch }: ScaledRows): void {
  const { right, rows } = form;
  const [at, depth, place] = [f.local('at', 'i32'), f.local('depth', 'i32'), f.local('place', 'i32')];
  const sumsBytes = f.let('sums bytes', i32.shl(each, 2));
  const width = f.let('width', i32.sub(end, column));
  for (let row = 0; row < rows; row += 1) {
    f.for(place, { to: width, step: 4 }, () => {
      f.set(at, i32.add(i32.add(scratch, i32.mul(row, sumsBytes)), i32.shl(place, 2)));
      f.do(v128.store(at, form.bias ? v128.load(i32.add(bias, i32.shl(i32.add(column, place), 2))) : constantF32x4(0)));
    });
  }
  const lineBytes = f.let('line bytes', i32.mul(n, storageBytes[right]));
  const start = f.let('start', i32.add(b, i32.mul(column, storageBytes[right])));
  const lines = f.localArray('line', 'i32', 4);
  const factors = f.localArray('factor', 'v128', 4);
  const sum = f.local('sum', 'v128');
  const round = (count: 1 | 4): void => {
    for (let row = 0; row < rows; row += 1) {
      const numbers = f.let('numbers', i32.add(a, i32.shl(i32.add(i32.mul(row, k), depth), 2)));
      lines.slice(0, count).forEach((line, index) => {
        f.set(line, i32.add(start, i32.mul(i32.add(depth, index), lineBytes)));
      });
      factors.slice(0, count).forEach((factor, index) => {
        f.set(factor, v128.load32_splat(numbers, index * 4));
      });
      f.set(at, i32.add(scratch, i32.mul(row, sumsBytes)));
      f.for(place, { to: width, step: 8 }, () => {
        for (const half of [0, 1]) {
          f.set(sum, v128.load(at, half * 16));
          lines.slice(0, count).forEach((line, index) => {
            const factor = factors[index];
            if (factor !== undefined) f.set(sum, multiplyAdd(form, factor, loadFloats(f, right, line, half * 4 * storageBytes[right]), sum));
          });
          f.do(v128.store(at, sum, half * 16));
        }
        for (const line of lines.slice(0, count)) f.set(line, i32.add(line, 8 * storageBytes[right]));
        f.set(at, i32.add(at, 32));
      });
    }
    f.set(depth, i32.add(depth, count));
  };
  f.while('fours', () => i32.le_s(i32.add(depth, 4), k), () => {
    round(4);
  });
  f.while('ones', () => i32.lt_s(depth, k), () => {
    round(1);
  });
  for (let row = 0; row < rows; row += 1) {
    const target = f.let('target', i32.add(out, i32.mul(i32.add(i32.mul(row, n), column), storageBytes[form.stored])));
    f.set(at, i32.add(scratch, i32.mul(row, sumsBytes)));
    f.set(place, 0);
    const write = (count: 1 | 4): void => {
      const value = count === 4 ? v128.load(at) : v128.load32_zero(at);
      if (count === 4) storeFloats(f, form.stored, target, value);
      else storeFloat(f, form.stored, target, value);
      f.set(at, i32.add(at, 4 * count));
      f.set(target, i32.add(target, count * storageBytes[form.stored]));
      f.set(place, i32.add(place, count));
    };
    f.while('whole', () => i32.le_s(i32.add(place, 4), width), () => {
      write(4);
    });
    f.while('rest', () => i32.lt_s(place, width), () => {
      write(1);
    });
  }
}

function withBias(f: FunctionBuilder, { bias: hasBias }: FewRows, bias: Local<'i32'>, column: Local<'i32'>, value: Local<'v128'>): Value<'v128'> {
  if (!hasBias) return value;
  return f.let('biased', f32x4.add(value, v128.load(i32.add(bias, i32.shl(column, 2)))));
}
