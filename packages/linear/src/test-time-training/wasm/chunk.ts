/** Steps of rules that write whole chunks: keeping its rows until it is full, and what is then written. */
import { constantF32x4, instructions, multiplyAdd, type Local, type Value } from '@heed/runtime-wasm';
import type { TrainingPlan, TrainingStep } from '../plan.ts';
import { addressOf, type LaneCode } from './lane-code.ts';
import { overRow, overTokens, rowOf } from './rows.ts';

const { f32x4, i32, v128 } = instructions;

export function emitAppend(code: LaneCode, { to, from }: Extract<TrainingStep, { step: 'append' }>, filled: Local<'i32'>): void {
  const { f } = code;
  overTokens(code, (token) => {
    const [source, target] = [rowOf(code, from, token), rowOf(code, to, f.let('place', i32.add(filled, token)))];
    overRow(f, from.stride, (at) => {
      f.do(v128.store(i32.add(target, at), v128.load(i32.add(source, at))));
    });
  });
}

/** Rows of the batch; behind their columns stand zeros, which taps leave as they are. */
export function emitConvolve(code: LaneCode, { batch }: TrainingPlan, { to, from, taps }: Extract<TrainingStep, { step: 'convolve' }>, rate: Local<'f32'>): void {
  const { f } = code;
  const factor = f.let('factor', f32x4.splat(rate));
  const row = f.local('row', 'i32');
  const sum = f.local('sum', 'v128');
  f.for(row, { to: batch, atLeastOnce: true }, () => {
    const target = rowOf(code, to, row);
    overRow(f, from.stride, (at) => {
      const term = (index: Value<'i32'>, tap: number): void => {
        const source = i32.add(i32.add(addressOf(code, from), i32.mul(index, from.stride * 4)), at);
        if (taps === null) f.set(sum, v128.load(source));
        else f.set(sum, multiplyAdd(code, v128.load(i32.add(addressOf(code, taps), at), tap * taps.stride * 4), v128.load(source), sum));
      };
      f.set(sum, constantF32x4(0));
      if (taps === null) term(row, 0);
      else {
        const centre = (taps.rows - 1) / 2;
        for (let tap = 0; tap < taps.rows; tap += 1) {
          const index = f.let('index', i32.add(row, tap - centre));
          f.if(i32.lt_u(index, batch), () => {
            term(index, tap);
          });
        }
      }
      f.do(v128.store(i32.add(target, at), f32x4.mul(sum, factor)));
    });
  });
}
