import type { FunctionBuilder, Local } from '@heed/runtime-wasm';
import { instructions } from '@heed/runtime-wasm';
import type { Callee, Emission } from './context.ts';

const { f32x4, i32, i8x16, v128 } = instructions;

/** turn(source, target, rows): rows [C, W] of scratch as columns [W, C], four by four in registers. `rows` is a multiple of 4. */
export function emitTurn({ module, plan }: Emission): Callee {
  const rowBytes = plan.widthStride * 4;
  const targetBytes = plan.rows * 4;
  return module.function('turn', { parameters: { source: 'i32', target: 'i32', rows: 'i32' } }, (f, { source, target, rows }) => {
    const [row, channel] = [f.local('row', 'i32'), f.local('channel', 'i32')];
    f.for(row, { to: rows, step: 4, atLeastOnce: true }, () => {
      const from = f.let('from', i32.add(source, i32.mul(row, rowBytes)));
      const to = f.let('to', i32.add(target, i32.shl(row, 2)));
      f.for(channel, { to: rowBytes, step: 16, atLeastOnce: true }, () => {
        const place = f.let('place', i32.add(from, channel));
        const columns = turned(f, [0, 1, 2, 3].map((offset) => f.let('row', v128.load(place, offset * rowBytes))));
        const there = f.let('there', i32.add(to, i32.mul(i32.shr_u(channel, 2), targetBytes)));
        columns.forEach((column, offset) => {
          f.do(v128.store(there, column, offset * targetBytes));
        });
      });
    });
  });
}

/** Four rows of four lanes as four columns. */
function turned(f: FunctionBuilder, [a, b, c, d]: readonly Local<'v128'>[]): readonly Local<'v128'>[] {
  if (a === undefined || b === undefined || c === undefined || d === undefined) throw new RangeError('four rows are turned together');
  const picked = (x: Local<'v128'>, y: Local<'v128'>, lanes: readonly number[]): Local<'v128'> => f.let('turned', i8x16.shuffle(x, y, lanes.flatMap((lane) => [lane * 4, lane * 4 + 1, lane * 4 + 2, lane * 4 + 3])));
  const [ab, abHigh, cd, cdHigh] = [picked(a, b, [0, 4, 1, 5]), picked(a, b, [2, 6, 3, 7]), picked(c, d, [0, 4, 1, 5]), picked(c, d, [2, 6, 3, 7])];
  return [picked(ab, cd, [0, 1, 4, 5]), picked(ab, cd, [2, 3, 6, 7]), picked(abHigh, cdHigh, [0, 1, 4, 5]), picked(abHigh, cdHigh, [2, 3, 6, 7])];
}

/** scaleColumns(matrix, factors, columns): each row [C] of a turned matrix [W, C] times one factor for each column. */
export function emitScaleColumns({ module, plan }: Emission): Callee {
  return module.function('scaleColumns', { parameters: { matrix: 'i32', factors: 'i32', columns: 'i32' } }, (f, { matrix, factors, columns }) => {
    const [row, column, place] = [f.local('row', 'i32'), f.local('column', 'i32'), f.local('place', 'i32')];
    f.for(row, { to: plan.widthStride, atLeastOnce: true }, () => {
      const start = f.let('start', i32.add(matrix, i32.mul(row, plan.rows * 4)));
      f.for(column, { to: i32.shl(columns, 2), step: 16, atLeastOnce: true }, () => {
        f.set(place, i32.add(start, column));
        f.do(v128.store(place, f32x4.mul(v128.load(place), v128.load(i32.add(factors, column)))));
      });
    });
  });
}

/** scaleRows(matrix, factors, rows): each row [V] of values in scratch times its factor. */
export function emitScaleRows({ module, plan }: Emission): Callee {
  return module.function('scaleRows', { parameters: { matrix: 'i32', factors: 'i32', rows: 'i32' } }, (f, { matrix, factors, rows }) => {
    const [row, column, place, factor] = [f.local('row', 'i32'), f.local('column', 'i32'), f.local('place', 'i32'), f.local('factor', 'v128')];
    f.for(row, { to: rows, atLeastOnce: true }, () => {
      const start = f.let('start', i32.add(matrix, i32.mul(row, plan.valueStride * 4)));
      f.set(factor, v128.load32_splat(i32.add(factors, i32.shl(row, 2))));
      f.for(column, { to: plan.valueStride * 4, step: 16, atLeastOnce: true }, () => {
        f.set(place, i32.add(start, column));
        f.do(v128.store(place, f32x4.mul(factor, v128.load(place))));
      });
    });
  });
}
