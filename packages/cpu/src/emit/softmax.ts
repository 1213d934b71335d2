/**
 * The numerators of softmax, in three passes over a tile, each over all rows, so that what is slow once for each row overlaps with other rows:
 *   final scores, in place; left out where raw scores are final
 *   the largest score of each row, and by how much earlier sums shrink
 *   e^(score − largest), and their sums
 * In the last two, neighbouring vectors are loaded, computed and stored as pairs with nothing in between, and what a row needs is spread from memory:
 * the form in which V8 packs pairs into 256 bits. A store that stands before the next load ends a pack.
 */
import type { FunctionBuilder, Local } from '@heed/runtime-wasm';
import { constantF32x4, Exponential, instructions, largestLane, minusInfinity } from '@heed/runtime-wasm';
import { scoreRowBytes, stateWords, type Emission } from './context.ts';
import { boundKeys, finalScore, type KeyBounds } from './pairs.ts';
import { overBounds, overPairs, watch, type WeighLocals } from './tile-walk.ts';

const { f32, f32x4, i32, v128 } = instructions;

export function softmaxRows(f: FunctionBuilder, emission: Emission, locals: WeighLocals): void {
  const { scoring, normalization } = emission.request.variant;
  const finish = (bounds: KeyBounds | null): void => {
    finalRows(f, emission, locals, bounds);
  };
  if (scoring.modifiers.length > 0 || normalization.rule.score.kind !== 'input') overBounds(f, locals, finish);
  else f.if(locals.mixed, () => {
    f.comment('tiles where the mask decides');
    finish(boundKeys(f, locals.low, locals.high));
  });
  const exponential = new Exponential(f, emission.plan.machine);
  largestOfRows(f, emission, locals, exponential);
  if (normalization.reweigh.kind === 'input') powersOfRows(f, emission, locals, exponential);
  else reweighedRows(f, emission, locals, exponential);
}

/** Final scores, and the terms that the normalization takes of them, in place. */
function finalRows(f: FunctionBuilder, emission: Emission, locals: WeighLocals, bounds: KeyBounds | null): void {
  const { rule } = emission.request.variant.normalization;
  overPairs(f, emission, locals, ({ pairs, key, from, state }) => {
    const final = finalScore(f, emission, pairs, key, v128.load(from), bounds);
    if (rule.score.kind !== 'input') {
      const kept = f.let('kept', f32x4.ne(final, minusInfinity()));
      watch(f, state, final, kept, false);
      f.set(final, v128.bitselect(pairs.place.evaluate(rule.score, { score: final }), minusInfinity(), kept));
    }
    f.do(v128.store(from, final));
  });
}

/** A row of a tile. */
interface Row {
  readonly score: Local<'i32'>;
  readonly weight: Local<'i32'>;
  readonly state: Local<'i32'>;
  readonly factor: Local<'i32'>;
}

function overRows(f: FunctionBuilder, { plan }: Emission, { scores, target, states, factors, rowCount }: WeighLocals, body: (row: Row) => void): void {
  const row = f.local('row', 'i32');
  const [score, weight, state, factor] = [f.let('scoreRow', scores), f.let('weightRow', target), f.let('state', states), f.let('factor', factors)];
  f.for(row, { to: rowCount, atLeastOnce: true }, () => {
    body({ score, weight, state, factor });
    f.set(score, i32.add(score, scoreRowBytes(plan)));
    f.set(weight, i32.add(weight, scoreRowBytes(plan)));
    f.set(state, i32.add(state, stateWords.bytes));
    f.set(factor, i32.add(factor, 4));
  });
}

/** Steps over a row's vectors, four at a time. */
function overVectors(f: FunctionBuilder, { width }: WeighLocals, { score, weight }: Row, body: (from: Local<'i32'>, to: Local<'i32'>) => void): void {
  const [from, to, end] = [f.let('from', score), f.let('to', weight), f.let('end', i32.add(score, i32.shl(width, 2)))];
  f.loop('vectors', (again) => {
    body(from, to);
    f.set(from, i32.add(from, 64));
    f.set(to, i32.add(to, 64));
    f.brIf(again, i32.lt_u(from, end));
  });
}

/** The largest score so far of each row; the number that its scores are taken from, behind it; and the factor of earlier sums. */
function largestOfRows(f: FunctionBuilder, emission: Emission, locals: WeighLocals, exponential: Exponential): void {
  const [peaks, before, largest, origin] = [f.localArray('peak', 'v128', 4), f.local('before', 'v128'), f.local('largest', 'v128'), f.local('origin', 'v128')];
  const [shrink, shifted] = [f.local('shrink', 'v128'), f.local('shifted', 'v128')];
  overRows(f, emission, locals, (row) => {
    const { state, factor } = row;
    for (const peak of peaks) f.set(peak, v128.load32_splat(state, stateWords.largest));
    overVectors(f, locals, row, (from) => {
      peaks.forEach((peak, part) => f.set(peak, f32x4.pmax(v128.load(from, part * 16), peak)));
    });
    const [a, b, c, d] = peaks;
    if (a === undefined || b === undefined || c === undefined || d === undefined) return;
    f.do(v128.store(state, f32x4.pmax(a, c), stateWords.work));
    f.do(v128.store(state, f32x4.pmax(b, d), stateWords.work + 16));
    f.set(before, v128.load(state, stateWords.largest));
    f.set(largest, f32x4.pmax(v128.load(state, stateWords.work), v128.load(state, stateWords.work + 16)));
    largestLane(f, largest);
    f.do(v128.store(state, largest, stateWords.largest));
    // A row that has seen nothing keeps −∞; zero in its place lets −∞ − 0 give weights of exactly 0.
    f.set(origin, v128.bitselect(constantF32x4(0), largest, f32x4.eq(largest, minusInfinity())));
    f.do(v128.store(state, origin, stateWords.origin));
    exponential.write(shrink, f32x4.sub(before, origin), shifted);
    f.do(f32.store(factor, f32x4.extract_lane(shrink, 0)));
  });
}

/** The weights of each row, and their sum. */
function powersOfRows(f: FunctionBuilder, emission: Emission, locals: WeighLocals, exponential: Exponential): void {
  const [powers, shifts, totals] = [f.localArray('power', 'v128', 2), f.localArray('shift', 'v128', 2), f.localArray('total', 'v128', 2)];
  const origin = f.local('origin', 'v128');
  overRows(f, emission, locals, (row) => {
    const { state, factor } = row;
    f.set(origin, v128.load32_splat(state, stateWords.origin));
    for (const total of totals) f.set(total, constantF32x4(0));
    overVectors(f, locals, row, (from, to) => {
      for (const pair of [0, 32]) {
        powers.forEach((power, half) => {
          const shift = shifts[half];
          if (shift !== undefined) exponential.write(power, f32x4.sub(v128.load(from, pair + half * 16), origin), shift);
        });
        powers.forEach((power, half) => {
          const total = totals[half];
          if (total !== undefined) f.set(total, f32x4.add(total, power));
        });
        powers.forEach((power, half) => f.do(v128.store(to, power, pair + half * 16)));
      }
    });
    totals.forEach((total, half) => f.do(v128.store(state, total, stateWords.work + half * 16)));
    const sum = f32x4.add(v128.load(state, stateWords.work), v128.load(state, stateWords.work + 16));
    f.do(v128.store(state, f32x4.add(f32x4.mul(v128.load(state, stateWords.sum), v128.load32_splat(factor)), sum), stateWords.sum));
  });
}

/** As `powersOfRows`, with weights reweighed before they meet values; sums are of what was before. */
function reweighedRows(f: FunctionBuilder, emission: Emission, locals: WeighLocals, exponential: Exponential): void {
  const { reweigh } = emission.request.variant.normalization;
  overRows(f, emission, locals, ({ state, factor }) => {
    f.do(v128.store(state, f32x4.mul(v128.load(state, stateWords.sum), v128.load32_splat(factor)), stateWords.sum));
  });
  const [power, shift] = [f.local('power', 'v128'), f.local('shift', 'v128')];
  overPairs(f, emission, locals, ({ pairs, from, to, state }) => {
    exponential.write(power, f32x4.sub(v128.load(from), v128.load(state, stateWords.origin)), shift);
    f.do(v128.store(state, f32x4.add(v128.load(state, stateWords.sum), power), stateWords.sum));
    // The factor of a key that does not count may be anything, so its weight is cleared.
    f.do(v128.store(to, v128.and(pairs.place.evaluate(reweigh, { weight: power }), f32x4.ne(v128.load(from), minusInfinity()))));
  });
}
