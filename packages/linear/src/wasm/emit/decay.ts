import type { Local, Value } from '@heed/runtime-wasm';
import { constantF32x4, exp, instructions } from '@heed/runtime-wasm';
import { fillVectors, forVectors, type Callee, type Emission } from './context.ts';

const { f32, f32x4, i32, v128 } = instructions;

/**
 * decays(scratch, rows): from the log decays of a chunk, one number for each token: the decays themselves, their products since the chunk began (with and without the token's own), behind each
 * token, and of the whole chunk. Sums of logarithms, so that a decay of nearly 1 does not drift; never a quotient, so that nothing overflows.
 */
export function emitDecays({ module, plan, scratch: places }: Emission): Callee {
  return module.function('decays', { parameters: { scratch: 'i32', rows: 'i32' } }, (f, { scratch, rows }) => {
    const index = f.local('index', 'i32');
    const sum = f.local('sum', 'f32');
    const at = (matrix: number): Value<'i32'> => i32.add(i32.add(scratch, matrix), i32.shl(index, 2));
    f.for(index, { to: rows, atLeastOnce: true }, () => {
      f.do(f32.store(at(places.before), sum));
      f.set(sum, f32.add(sum, f32.load(at(places.decay))));
      f.do(f32.store(at(places.since), sum));
    });
    const total = f.let('total', f32x4.splat(sum));
    f.set(sum, 0);
    f.set(index, rows);
    f.while('behind', () => index, () => {
      f.set(index, i32.sub(index, 1));
      f.do(f32.store(at(places.until), sum));
      f.set(sum, f32.add(sum, f32.load(at(places.decay))));
    });
    const lanes = { f, fused: plan.machine.fused };
    for (const matrix of [places.decay, places.since, places.before, places.until]) {
      const start = f.let('start', i32.add(scratch, matrix));
      forVectors(f, rows, (bytes) => {
        const place = f.let('place', i32.add(start, bytes));
        f.do(v128.store(place, exp(lanes, v128.load(place))));
      });
    }
    fillVectors(f, f.let('totals', i32.add(scratch, places.total)), plan.widthStride, exp(lanes, total));
  });
}

/** Which pairs a decay stands between, and whether the reader's own decay is left out (what is recalled before the decay). */
export interface DecayedPairs {
  readonly matrix: number;
  readonly beforeDecay: boolean;
}

/**
 * decayPairs(scratch, rows): each pair (i, j), j ≤ i, times the decays of the tokens behind j up to i, as a running product: row i has the factors of row i − 1 times the decay of token i. What stands
 * right of the diagonal is not read by anyone.
 */
export function emitDecayPairs({ module, plan, scratch: places }: Emission, pairs: readonly DecayedPairs[]): Callee {
  const rowBytes = plan.rows * 4;
  return module.function('decayPairs', { parameters: { scratch: 'i32', rows: 'i32' } }, (f, { scratch, rows }) => {
    const row = f.local('row', 'i32');
    const between = f.let('between', i32.add(scratch, places.between));
    const betweenBefore = f.let('betweenBefore', i32.add(scratch, places.betweenBefore));
    const usesBefore = pairs.some(({ beforeDecay }) => beforeDecay);
    fillVectors(f, between, rows, constantF32x4(0));
    if (usesBefore) fillVectors(f, betweenBefore, rows, constantF32x4(0));
    f.for(row, { to: rows, atLeastOnce: true }, () => {
      const decay = f.let('decay', v128.load32_splat(i32.add(i32.add(scratch, places.decay), i32.shl(row, 2))));
      const vectors = f.let('vectors', i32.and(i32.add(row, 4), -4));
      forVectors(f, vectors, (bytes) => {
        const place = f.let('place', i32.add(between, bytes));
        const old = f.let('old', v128.load(place));
        if (usesBefore) f.do(v128.store(i32.add(betweenBefore, bytes), old));
        f.do(v128.store(place, f32x4.mul(old, decay)));
      });
      f.do(f32.store(i32.add(between, i32.shl(row, 2)), 1));
      for (const { matrix, beforeDecay } of pairs) {
        const factors: Local<'i32'> = beforeDecay ? betweenBefore : between;
        const start = f.let('start', i32.add(i32.add(scratch, matrix), i32.mul(row, rowBytes)));
        forVectors(f, vectors, (bytes) => {
          const place = f.let('pair', i32.add(start, bytes));
          f.do(v128.store(place, f32x4.mul(v128.load(place), v128.load(i32.add(factors, bytes)))));
        });
      }
    });
  });
}
