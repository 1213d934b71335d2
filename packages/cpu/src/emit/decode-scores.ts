import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { instructions, loadFloats, storageBytes } from '@heed/runtime-wasm';
import { queryRowBytes, scoreRowBytes, type Callee, type Emission } from './context.ts';
import { clearSums, multiplyAdd } from './product.ts';

const { f32x4, i32, i8x16, v128 } = instructions;

/**
 * readScores(queries, key, rowBytes, last, width, groups, target): products of query rows with keys where they lie, channels in the lanes; `rows` query rows meet each key.
 * Keys past `last` (counted from the tile's first) repeat it.
 *
 * One key after the other, from its first channel to its last: processors fetch ahead of a walk that never turns back, and of two keys side by side they do not.
 * From memory that is worth more than the registers: 2.4 times as fast where it was measured, though from the second cache it is a fifth slower.
 */
export function emitReadScores({ module, plan }: Emission, rows: 1 | 4): Callee {
  const parameters = { queries: 'i32', key: 'i32', rowBytes: 'i32', last: 'i32', width: 'i32', groups: 'i32', target: 'i32' } as const;
  return module.function(rows === 1 ? 'readScoresOfOne' : 'readScores', { parameters }, (f, { queries, key, rowBytes, last, width, groups, target }) => {
    const bytes = storageBytes[plan.dtypes.key];
    // Vectors of channels in one step, and sums of each product, so that eight run side by side where there are as many.
    const vectors = plan.scoreDim % 16 === 0 ? 4 : plan.scoreDim % 8 === 0 ? 2 : 1;
    const split = Math.min(rows === 1 ? 4 : 2, vectors);
    // Four keys of one row, or four rows of one key, are added up together.
    const keys = rows === 1 ? 4 : 1;
    const [column, group, left, tile] = [f.local('column', 'i32'), f.local('group', 'i32'), f.local('left', 'i32'), f.local('tile', 'i32')];
    const sums = Array.from({ length: split }, (_, part) => Array.from({ length: rows }, (__, row) => [f.local(`sum${part}_${row}`, 'v128')]));
    const [element, query, place, queryAt, end] = [f.local('element', 'v128'), f.local('query', 'v128'), f.local('place', 'i32'), f.local('queryAt', 'i32'), f.local('end', 'i32')];
    /** Sums of one key with the rows of a group, still in four lanes. */
    const products = (index: Value<'i32'>): readonly Local<'v128'>[] => {
      f.set(place, index);
      f.if(i32.gt_s(place, last), () => {
        f.set(place, last);
      });
      f.set(place, i32.add(key, i32.mul(place, rowBytes)));
      f.set(queryAt, left);
      f.set(end, i32.add(left, plan.scoreDim * 4));
      for (const part of sums) clearSums(f, part);
      f.loop('channels', (again) => {
        for (let vector = 0; vector < vectors; vector += 1) {
          f.set(element, loadFloats(f, plan.dtypes.key, place, vector * 4 * bytes));
          sums[vector % split]?.forEach(([sum], row) => {
            f.set(query, v128.load(queryAt, row * queryRowBytes(plan) + vector * 16));
            if (sum !== undefined) f.set(sum, multiplyAdd(plan.machine.fused, query, element, sum));
          });
        }
        f.set(place, i32.add(place, vectors * 4 * bytes));
        f.set(queryAt, i32.add(queryAt, vectors * 16));
        f.brIf(again, i32.lt_u(queryAt, end));
      });
      const [first, ...others] = sums;
      return (first ?? []).flatMap(([sum], row) => (sum === undefined ? [] : [f.let('total', others.reduce<Value<'v128'>>((total, part) => f32x4.add(total, part[row]?.[0] ?? sum), sum))]));
    };
    f.for(column, { to: width, step: keys, atLeastOnce: true }, () => {
      f.set(left, queries);
      f.set(tile, i32.add(target, i32.shl(column, 2)));
      f.for(group, { to: groups, atLeastOnce: true }, () => {
        const totals = Array.from({ length: keys }, (_, offset) => products(i32.add(column, offset))).flat();
        const four = f.let('four', sumOfEach(f, totals));
        if (rows === 1) f.do(v128.store(tile, four));
        else for (let row = 0; row < rows; row += 1) f.do(v128.store32_lane(tile, four, row, row * scoreRowBytes(plan)));
        f.set(left, i32.add(left, rows * queryRowBytes(plan)));
        f.set(tile, i32.add(tile, rows * scoreRowBytes(plan)));
      });
    });
  });
}

/** The lane sums of four vectors, as four lanes. */
function sumOfEach(f: FunctionBuilder, vectors: readonly Local<'v128'>[]): Value<'v128'> {
  const words = (...picked: readonly number[]): readonly number[] => picked.flatMap((one) => [one * 4, one * 4 + 1, one * 4 + 2, one * 4 + 3]);
  const [a, b, c, d] = vectors;
  if (a === undefined || b === undefined || c === undefined || d === undefined) throw new RangeError('four vectors are added up together');
  const pairs = (x: Local<'v128'>, y: Local<'v128'>): Local<'v128'> => f.let('pairs', f32x4.add(i8x16.shuffle(x, y, words(0, 4, 1, 5)), i8x16.shuffle(x, y, words(2, 6, 3, 7))));
  const [ab, cd] = [pairs(a, b), pairs(c, d)];
  return f32x4.add(i8x16.shuffle(ab, cd, words(0, 1, 4, 5)), i8x16.shuffle(ab, cd, words(2, 3, 6, 7)));
}
