import { call as callTo, constantF32x4, instructions, minusInfinity } from '@heed/runtime-wasm';
import { scoreRowBytes, valueRowBytes, type Callee, type Emission } from './context.ts';
import { multiplyAdd } from './product.ts';

const { f32x4, i32, v128 } = instructions;

/** What keeps NaN and ∞ in values from rows that may not see them (L10). */
export interface Guard {
  /** isFinite(value, width): whether a tile of values holds only finite numbers. */
  readonly isFinite: Callee;
  /** guarded(…): as `values`, with a copy of the tile where what is not finite is 0; then adds what was left out, key by key, to the rows that count the key. */
  readonly guarded: Callee;
}

/**
 * Only mixed tiles come here: 0 · NaN is NaN, so a masked key with such a value would spoil the row. Rows that may not see it keep the very bits
 * that a finite value in its place would give.
 */
export function emitGuard({ module, plan }: Emission, values: Callee): Guard {
  const isFinite = module.function('isFinite', { parameters: { value: 'i32', width: 'i32' }, results: ['i32'] }, (f, { value, width }) => {
    const [end, place] = [f.let('end', i32.add(value, i32.mul(width, valueRowBytes(plan)))), f.local('place', 'i32')];
    // Rows are a multiple of 8 floats apart, so two sums, which do not wait for each other, come out even.
    const sums = f.localArray('sum', 'v128', 2);
    for (const sum of sums) f.set(sum, constantF32x4(0));
    f.for(place, { from: value, to: end, step: 32, unsigned: true }, () => {
      // x · 0 is 0, or NaN for what is not finite.
      sums.forEach((sum, index) => f.set(sum, f32x4.add(sum, f32x4.mul(v128.load(place, index * 16), constantF32x4(0)))));
    });
    const [even, odd] = sums;
    if (even === undefined || odd === undefined) return;
    f.set(even, f32x4.add(even, odd));
    f.return(i32.eqz(v128.any_true(f32x4.ne(even, even))));
  });
  const parameters = { scores: 'i32', weights: 'i32', value: 'i32', width: 'i32', rowCount: 'i32', groups: 'i32', factors: 'i32', target: 'i32', copy: 'i32' } as const;
  const guarded = module.function('guarded', { parameters }, (f, { scores, weights, value, width, rowCount, groups, factors, target, copy }) => {
    const bytes = f.let('bytes', i32.mul(width, valueRowBytes(plan)));
    const [place, element] = [f.local('place', 'i32'), f.local('element', 'v128')];
    const isOdd = (): ReturnType<typeof f32x4.ne> => f32x4.ne(f32x4.mul(element, constantF32x4(0)), constantF32x4(0));
    f.for(place, { to: bytes, step: 16 }, () => {
      f.set(element, v128.load(i32.add(value, place)));
      f.do(v128.store(i32.add(copy, place), v128.andnot(element, isOdd())));
    });
    f.do(callTo(values, weights, copy, width, groups, factors, target));
    const [row, key, at, sum] = [f.local('row', 'i32'), f.local('key', 'i32'), f.local('at', 'i32'), f.local('sum', 'i32')];
    const weight = f.local('weight', 'v128');
    f.for(row, { to: rowCount }, () => {
      f.for(key, { to: width }, () => {
        f.set(at, i32.add(i32.mul(row, scoreRowBytes(plan)), i32.shl(key, 2)));
        f.if(i32.eqz(v128.any_true(f32x4.eq(v128.load32_splat(i32.add(scores, at)), minusInfinity()))), () => {
          f.set(weight, v128.load32_splat(i32.add(weights, at)));
          f.for(place, { to: valueRowBytes(plan), step: 16 }, () => {
            f.set(element, v128.load(i32.add(value, i32.add(i32.mul(key, valueRowBytes(plan)), place))));
            f.set(sum, i32.add(target, i32.add(i32.mul(row, valueRowBytes(plan)), place)));
            const whole = multiplyAdd(plan.machine.fused, weight, element, v128.load(sum));
            f.do(v128.store(sum, v128.bitselect(whole, v128.load(sum), isOdd())));
          });
        });
      });
    });
  });
  return { isFinite, guarded };
}
