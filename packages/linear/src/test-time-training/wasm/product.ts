/** Products of small matrices in a lane's memory, by register tiles. There are whole tiles of rows and columns (see Layout), so that no tile has an edge. */
import { clearTile, declareTile, instructions, multiplyAdd, multiplySubtract, type FunctionBuilder, type Local, type Operand, type TileSums, type Value } from '@heed/runtime-wasm';
import type { Matrix } from '../layout.ts';
import type { Count, TrainingStep } from '../plan.ts';
import { addressOf, type LaneCode } from './lane-code.ts';

const { f32, f32x4, i32, i8x16, v128 } = instructions;

type Product = Extract<TrainingStep, { step: 'product' }>;

const tileColumns = 8;
/** Depths of one round of the inner loop. */
const unroll = 4;

export function emitProduct(code: LaneCode, product: Product): void {
  if (product.form === 'rightTransposed') emitDotProducts(code, product);
  else emitTiles(code, product);
}

function countOf({ tokens }: LaneCode, count: Count): Operand<'i32'> {
  return count === 'tokens' ? tokens : count;
}

/** to ← [±] left · right or leftᵀ · right: both stream past a tile of sums. */
function emitTiles(code: LaneCode, product: Product): void {
  const { f } = code;
  const { to, left, right, form, rows, columns, depth, effect } = product;
  const tileRows = rows === 'tokens' ? code.tileRows : 4;
  const [rowStep, depthStep] = form === 'plain' ? [left.stride * 4, 4] : [4, left.stride * 4];
  const sums = declareTile(f, 'sum', { rows: tileRows, columns: tileColumns });
  const [row, column] = [f.local('row', 'i32'), f.local('column', 'i32')];
  const [leftAt, rightAt, toAt, leftRow] = [f.local('left', 'i32'), f.local('right', 'i32'), f.local('to', 'i32'), f.local('left row', 'i32')];
  f.for(column, { to: typeof columns === 'number' ? Math.ceil(columns / tileColumns) * tileColumns * 4 : i32.shl(code.tokens, 2), step: tileColumns * 4, atLeastOnce: true }, () => {
    f.set(leftRow, addressOf(code, left));
    f.set(toAt, i32.add(addressOf(code, to), column));
    f.for(row, { to: countOf(code, rows), step: tileRows, atLeastOnce: true }, () => {
      f.set(leftAt, leftRow);
      f.set(rightAt, i32.add(addressOf(code, right), column));
      if (effect === 'set') clearTile(f, sums);
      else eachSum(sums, (sum, offset) => {
        f.set(sum, v128.load(toAt, offset));
      }, to);
      streamDepth(code, { sums, leftAt, rightAt, rowStep, depthStep, rightStep: right.stride * 4, depth: countOf(code, depth), subtract: effect === 'subtract' });
      eachSum(sums, (sum, offset) => {
        f.do(v128.store(toAt, sum, offset));
      }, to);
      f.set(leftRow, i32.add(leftRow, tileRows * rowStep));
      f.set(toAt, i32.add(toAt, tileRows * to.stride * 4));
    });
  });
}

function eachSum(sums: TileSums, body: (sum: Local<'v128'>, offset: number) => void, to: Matrix): void {
  sums.forEach((row, rowIndex) => {
    row.forEach((sum, index) => {
      body(sum, rowIndex * to.stride * 4 + index * 16);
    });
  });
}

interface Stream {
  readonly sums: TileSums;
  readonly leftAt: Local<'i32'>;
  readonly rightAt: Local<'i32'>;
  readonly rowStep: number;
  readonly depthStep: number;
  readonly rightStep: number;
  readonly depth: Operand<'i32'>;
  readonly subtract: boolean;
}

function streamDepth(code: LaneCode, { sums, leftAt, rightAt, rowStep, depthStep, rightStep, depth, subtract }: Stream): void {
  const { f } = code;
  const vectors = f.localArray('right', 'v128', tileColumns / 4);
  const spread = f.local('spread', 'v128');
  const step = (at: number): void => {
    vectors.forEach((vector, index) => {
      f.set(vector, v128.load(rightAt, at * rightStep + index * 16));
    });
    sums.forEach((row, rowIndex) => {
      f.set(spread, v128.load32_splat(leftAt, at * depthStep + rowIndex * rowStep));
      row.forEach((sum, index) => {
        const vector = vectors[index];
        if (vector !== undefined) f.set(sum, subtract ? multiplySubtract(code, spread, vector, sum) : multiplyAdd(code, spread, vector, sum));
      });
    });
  };
  const advance = (steps: number): void => {
    f.set(rightAt, i32.add(rightAt, steps * rightStep));
    f.set(leftAt, i32.add(leftAt, steps * depthStep));
  };
  const left = f.local('depth left', 'i32');
  f.set(left, depth);
  f.while('depths', () => i32.ge_s(left, unroll), () => {
    for (let at = 0; at < unroll; at += 1) step(at);
    advance(unroll);
    f.set(left, i32.sub(left, unroll));
  });
  f.while('rest', () => left, () => {
    step(0);
    advance(1);
    f.set(left, i32.sub(left, 1));
  });
}

/** to[i][c] ← Σ left[i][k] · right[c][k], times `times[i][c]`: rows of both are read along, four numbers at once; behind their columns stand zeros. */
function emitDotProducts(code: LaneCode, { to, left, right, rows, columns, depth, times }: Product): void {
  const { f } = code;
  if (typeof depth !== 'number') throw new RangeError('dot products have a known depth');
  const [row, column, at] = [f.local('row', 'i32'), f.local('column', 'i32'), f.local('depth', 'i32')];
  const [leftRow, rightRow, toRow, timesRow] = [f.local('left', 'i32'), f.local('right', 'i32'), f.local('to', 'i32'), f.local('times', 'i32')];
  const sums = f.localArray('sum', 'v128', 4);
  const vector = f.local('vector', 'v128');
  const tileRows = code.tileRows;
  f.set(leftRow, addressOf(code, left));
  f.for(row, { to: countOf(code, rows), step: tileRows, atLeastOnce: true }, () => {
    f.set(rightRow, addressOf(code, right));
    f.set(toRow, i32.add(addressOf(code, to), i32.mul(row, to.stride * 4)));
    if (times !== undefined) f.set(timesRow, i32.add(addressOf(code, times), i32.mul(row, times.stride * 4)));
    f.for(column, { to: countOf(code, columns), atLeastOnce: true }, () => {
      for (const sum of sums) f.set(sum, f32x4.splat(0));
      f.for(at, { to: Math.ceil(depth / 4) * 16, step: 16, atLeastOnce: true }, () => {
        f.set(vector, v128.load(i32.add(rightRow, at)));
        sums.slice(0, tileRows).forEach((sum, index) => {
          f.set(sum, multiplyAdd(code, v128.load(i32.add(leftRow, at), index * left.stride * 4), vector, sum));
        });
      });
      const totals = f.let('totals', acrossLanes(f, sums));
      for (let index = 0; index < tileRows; index += 1) {
        const total = f32x4.extract_lane(totals, index);
        f.do(f32.store(toRow, times === undefined ? total : f32.mul(total, f32.load(timesRow, index * times.stride * 4)), index * to.stride * 4));
      }
      f.set(rightRow, i32.add(rightRow, right.stride * 4));
      f.set(toRow, i32.add(toRow, 4));
      if (times !== undefined) f.set(timesRow, i32.add(timesRow, 4));
    });
    f.set(leftRow, i32.add(leftRow, tileRows * left.stride * 4));
  });
}

/** [Σa, Σb, Σc, Σd] of four vectors. */
function acrossLanes(f: FunctionBuilder, [a, b, c, d]: readonly Local<'v128'>[]): Value<'v128'> {
  if (a === undefined || b === undefined || c === undefined || d === undefined) throw new RangeError('four vectors are summed at once');
  const low = [0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23];
  const high = low.map((lane) => lane + 8);
  const halves = (one: Local<'v128'>, other: Local<'v128'>): Local<'v128'> => f.let('halves', f32x4.add(i8x16.shuffle(one, other, low), i8x16.shuffle(one, other, high)));
  const [ab, cd] = [halves(a, b), halves(c, d)];
  const first = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
  return f32x4.add(i8x16.shuffle(ab, cd, first), i8x16.shuffle(ab, cd, first.map((lane) => lane + 8)));
}
