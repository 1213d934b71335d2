import { declareTile, instructions, multiplySubtract } from '@heed/runtime-wasm';
import type { Callee, Emission } from './context.ts';
import { productTile, storeSums } from './product.ts';

const { f32x4, i32, v128 } = instructions;

/**
 * solve(pairs, recalled, target, rows, columns, since, strength): forward substitution, four rows at a time.
 *
 * A delta rule: what is written at token t is  x_t = β_t (v_t − decay · (Gᵀb)_t − Σ_{j<t} pairs[t, j] x_j),  v in `target`, which becomes x.
 * Other rules that remove: minus what is recalled,  x_t = −recalled_t − Σ_{j<t} pairs[t, j] x_j.
 *
 * That is (I + tril(pairs))⁻¹ applied to all columns, without the inverse. `recalled` holds (B·G) in its rows; `since` the decays since the chunk began, where they are scalars.
 */
export function emitSolve({ module, plan }: Emission): Callee {
  const { tile, machine, recall, rows: chunkRows, valueStride, decay } = plan;
  const valueBytes = valueStride * 4;
  const pairBytes = chunkRows * 4;
  const isDelta = recall?.isDelta === true;
  return module.function(
    'solve',
    { parameters: { pairs: 'i32', recalled: 'i32', target: 'i32', rows: 'i32', columns: 'i32', since: 'i32', strength: 'i32' } },
    (f, { pairs, recalled, target, rows, columns, since, strength }) => {
      const sums = declareTile(f, 'sum', tile);
      const [row, column, place, from, factor] = [f.local('row', 'i32'), f.local('column', 'i32'), f.local('place', 'i32'), f.local('from', 'i32'), f.local('factor', 'v128')];
      const zero = f.local('zero', 'v128');
      f.for(row, { to: rows, step: tile.rows, atLeastOnce: true }, () => {
        const pairsRow = f.let('pairsRow', i32.add(pairs, i32.mul(row, pairBytes)));
        const diagonal = f.let('diagonal', i32.add(pairsRow, i32.shl(row, 2)));
        const [sinceRow, strengthRow] = [f.let('sinceRow', i32.add(since, i32.shl(row, 2))), f.let('strengthRow', i32.add(strength, i32.shl(row, 2)))];
        f.for(column, { to: columns, step: tile.columns, atLeastOnce: true }, () => {
          const offset = f.let('offset', i32.add(i32.mul(row, valueBytes), i32.shl(column, 2)));
          f.set(place, i32.add(target, offset));
          f.set(from, i32.add(recalled, offset));
          sums.forEach((vectors, rowIndex) => {
            const known = (index: number): ReturnType<typeof v128.load> => v128.load(from, rowIndex * valueBytes + index * 16);
            vectors.forEach((sum, index) => {
              if (!isDelta) f.set(sum, f32x4.sub(zero, known(index)));
              else if (decay === null || decay === 'channel') f.set(sum, f32x4.sub(v128.load(place, rowIndex * valueBytes + index * 16), known(index)));
              else f.set(sum, multiplySubtract(machine, v128.load32_splat(sinceRow, rowIndex * 4), known(index), v128.load(place, rowIndex * valueBytes + index * 16)));
            });
          });
          productTile(f, { sums, fused: machine.fused, left: pairsRow, leftRow: pairBytes, right: f.let('above', i32.add(target, i32.shl(column, 2))), rightRow: valueBytes, depth: row, sign: -1 });
          sums.forEach((vectors, rowIndex) => {
            if (isDelta && recall.strength === 'writeStrength') {
              f.set(factor, v128.load32_splat(strengthRow, rowIndex * 4));
              for (const sum of vectors) f.set(sum, f32x4.mul(factor, sum));
            }
            sums.slice(rowIndex + 1).forEach((later, distance) => {
              f.set(factor, v128.load32_splat(diagonal, (rowIndex + 1 + distance) * pairBytes + rowIndex * 4));
              later.forEach((sum, index) => {
                const done = vectors[index];
                if (done !== undefined) f.set(sum, multiplySubtract(machine, factor, done, sum));
              });
            });
          });
          storeSums(f, sums, place, valueBytes);
        });
      });
    },
  );
}
