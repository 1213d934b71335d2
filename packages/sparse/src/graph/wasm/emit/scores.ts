import { constantF32x4, instructions, laneNumbers, lanesI32x4, loadFloats, minusInfinity, multiplyAdd, Place, storageBytes, sumOfLanes, type FloatStorage, type FunctionBuilder, type Local, type Value } from '@heed/runtime-wasm';
import { padStrip, readWords, surroundings, type Callee, type Emission } from './context.ts';
import { rowParameters } from './edge-place.ts';

const { f32, f32x4, i32, i32x4, i8x16, v128 } = instructions;

/** Edges whose products run side by side. */
const together = 4;

/**
 * scores(query, rows, rowBytes, keys, count, target, scale) → whether one is −∞: scaled dot products of the query row with the gathered key rows, four edges at a
 * time, channels in the lanes. Every edge has its own sums, two of them where rows are long enough to keep both multipliers busy.
 */
export function emitProductScores({ module, plan }: Emission, storage: FloatStorage): Callee {
  const parameters = { query: 'i32', rows: 'i32', rowBytes: 'i32', keys: 'i32', count: 'i32', target: 'i32', scale: 'v128' } as const;
  return module.function(`scores.${storage}`, { parameters, results: ['i32'], constantsOnce: true }, (f, { query, rows, rowBytes, keys, count, target, scale }) => {
    const isNone = f.local('isNone', 'v128');
    const scores = f.local('scores', 'v128');
    f.set(isNone, constantF32x4(0));
    const bytes = storageBytes[storage];
    const whole = Math.floor(plan.scoreDim / 4);
    const vectors = whole % 4 === 0 ? 4 : whole % 2 === 0 ? 2 : 1;
    const places = f.localArray('place', 'i32', together);
    const sums = Array.from({ length: Math.min(2, Math.max(1, vectors)) }, (_, half) => f.localArray(`sum${half}_`, 'v128', together));
    const [offset, channel, queryAt, element] = [f.local('offset', 'i32'), f.local('channel', 'i32'), f.local('queryAt', 'i32'), f.local('queryElement', 'v128')];
    const step = (vector: number, load: (place: Local<'i32'>) => Value<'v128'>, present: (element: Value<'v128'>) => Value<'v128'> = (whole) => whole): void => {
      f.set(element, present(v128.load(queryAt, vector * 16)));
      places.forEach((place, index) => {
        const sum = sums[vector % sums.length]?.[index];
        if (sum !== undefined) f.set(sum, multiplyAdd(plan.machine, element, load(place), sum));
      });
    };
    f.for(offset, { to: i32.shl(count, 2), step: together * 4 }, () => {
      places.forEach((place, index) => f.set(place, i32.add(rows, i32.mul(i32.load(i32.add(keys, offset), index * 4), rowBytes))));
      for (const half of sums) for (const sum of half) f.set(sum, constantF32x4(0));
      f.set(queryAt, query);
      if (whole > 0) {
        f.for(channel, { to: whole * 16, step: vectors * 16, atLeastOnce: true }, () => {
          for (let vector = 0; vector < vectors; vector += 1) step(vector, (place) => loadFloats(f, storage, place, vector * 4 * bytes));
          f.set(queryAt, i32.add(queryAt, vectors * 16));
          for (const place of places) f.set(place, i32.add(place, vectors * 4 * bytes));
        });
      }
      // What stands behind a row is another one, and may be NaN.
      const present = (vector: Value<'v128'>): Value<'v128'> => v128.and(vector, presentLanes(plan.scoreDim % 4));
      if (whole * 4 < plan.scoreDim) step(0, (place) => present(loadFloats(f, storage, place)), present);
      const [first = [], second] = sums;
      if (second !== undefined) first.forEach((sum, index) => f.set(sum, f32x4.add(sum, second[index] ?? sum)));
      f.set(scores, f32x4.mul(sumOfEach(f, first), scale));
      f.set(isNone, v128.or(isNone, f32x4.eq(scores, minusInfinity())));
      f.do(v128.store(i32.add(target, offset), scores));
    });
    f.return(v128.any_true(isNone));
  });
}

/**
 * scores(…, query, rows, rowBytes, count, target, scale) → whether one is −∞: scale · Σ_channel combine(q, k) for an expression that is no product, edge by edge, channels in the lanes.
 */
export function emitCombinedScores(emission: Emission, storage: FloatStorage): Callee {
  const { module, request, plan, layouts } = emission;
  const { combine } = request.variant.scoring;
  const parameters = { ...rowParameters, query: 'i32', rows: 'i32', rowBytes: 'i32', count: 'i32', target: 'i32', scale: 'v128' } as const;
  return module.function(`scores.${storage}`, { parameters, results: ['i32'], constantsOnce: true }, (f, { call, sequence, head, keys, edges, query, rows, rowBytes, count, target, scale }) => {
    const { batch } = readWords(f, sequence, layouts.sequence, ['batch']);
    const keyHead = f.let('keyHead', i32.div_u(head, i32.load(call, layouts.call.offset('group'))));
    const factor = f.let('factor', f32x4.extract_lane(scale, 0));
    const [score, isNone] = [f.local('score', 'f32'), f.local('isNone', 'i32')];
    f.set(isNone, 0);
    const [offset, channel, last, edgeIndex] = [f.local('offset', 'i32'), f.local('channel', 'i32'), f.let('lastChannel', i32.sub(plan.scoreDim, 1)), f.local('edgeIndex', 'i32')];
    const [place, sum, queryElement, keyElement] = [f.local('place', 'i32'), f.local('sum', 'v128'), f.local('queryElement', 'v128'), f.local('keyElement', 'v128')];
    const term = f.local('term', 'v128');
    f.for(offset, { to: i32.shl(count, 2), step: 4 }, () => {
      f.set(place, i32.add(rows, i32.mul(i32.load(i32.add(keys, offset)), rowBytes)));
      if (plan.readsEdgeIndex) f.set(edgeIndex, i32.load(i32.add(edges, offset)));
      f.set(sum, constantF32x4(0));
      f.for(channel, { to: plan.scoreDim, step: 4, atLeastOnce: true }, () => {
        const channels = f.let('channels', i32x4.add(i32x4.splat(channel), laneNumbers()));
        const here = new Place(f, surroundings(emission, call), {
          inputs: { channel: channels, batch, head, keyHead, edgeIndex }, fixed: [], lanes: { input: 'channel', first: channel, last },
        });
        f.set(queryElement, v128.load(i32.add(query, i32.shl(channel, 2))));
        f.set(keyElement, loadFloats(f, storage, i32.add(place, i32.mul(channel, storageBytes[storage]))));
        f.set(term, here.evaluate(combine, { queryElement, keyElement }));
        const kept = plan.scoreDim % 4 === 0 ? term : v128.and(term, i32x4.le_s(channels, i32x4.splat(last)));
        f.set(sum, f32x4.add(sum, kept));
      });
      f.set(score, f32.mul(factor, sumOfLanes(sum)));
      f.set(isNone, i32.or(isNone, f32.eq(score, -Infinity)));
      f.do(f32.store(i32.add(target, offset), score));
    });
    padStrip(f, target, count);
    f.return(isNone);
  });
}

/** All bits in the first `count` lanes. */
function presentLanes(count: number): Value<'v128'> {
  return lanesI32x4([0, 1, 2, 3].map((lane) => (lane < count ? -1 : 0)) as [number, number, number, number]);
}

/** The lane sums of four vectors, as four lanes. */
function sumOfEach(f: FunctionBuilder, [a, b, c, d]: readonly Local<'v128'>[]): Value<'v128'> {
  if (a === undefined || b === undefined || c === undefined || d === undefined) throw new RangeError('four vectors are added up together');
  const picked = (...lanes: readonly number[]): readonly number[] => lanes.flatMap((lane) => [lane * 4, lane * 4 + 1, lane * 4 + 2, lane * 4 + 3]);
  const pairs = (x: Local<'v128'>, y: Local<'v128'>): Local<'v128'> => f.let('pairs', f32x4.add(i8x16.shuffle(x, y, picked(0, 4, 1, 5)), i8x16.shuffle(x, y, picked(2, 6, 3, 7))));
  const [ab, cd] = [pairs(a, b), pairs(c, d)];
  return f32x4.add(i8x16.shuffle(ab, cd, picked(0, 1, 4, 5)), i8x16.shuffle(ab, cd, picked(2, 3, 6, 7)));
}
