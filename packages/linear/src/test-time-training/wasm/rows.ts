/** Steps that go over the tokens of a piece row by row, and over whole matrices element by element. */
import { constantF32x4, instructions, lanesI32x4, Lowering, multiplyAdd, sumOfLanes, type FunctionBuilder, type LaneEnvironment, type Local, type Operand, type Value } from '@heed/runtime-wasm';
import type { Matrix } from '../layout.ts';
import { scalarNames, type ScalarName, type TrainingPlan, type TrainingStep } from '../plan.ts';
import { addressOf, type LaneCode } from './lane-code.ts';

const { f32, f32x4, i32, v128 } = instructions;

/** `body` for every token of the piece, with its number. */
export function overTokens({ f, tokens }: LaneCode, body: (token: Local<'i32'>) => void): void {
  const token = f.local('token', 'i32');
  f.for(token, { to: tokens, atLeastOnce: true }, () => {
    body(token);
  });
}

/** Address of a row. */
export function rowOf(code: LaneCode, matrix: Matrix, row: Local<'i32'>): Local<'i32'> {
  return code.f.let('row', i32.add(addressOf(code, matrix), i32.mul(row, matrix.stride * 4)));
}

/** Whole vectors of a row, then what is left of it: `mask` is all bits for numbers that exist. `at` counts bytes. */
export function overRow(f: FunctionBuilder, columns: number, body: (at: Operand<'i32'>, mask: Value<'v128'> | null) => void): void {
  const whole = columns - (columns % 4);
  if (whole > 0) {
    const at = f.local('at', 'i32');
    f.for(at, { to: whole * 4, step: 16, atLeastOnce: true }, () => {
      body(at, null);
    });
  }
  if (whole < columns) body(whole * 4, lanesI32x4([-1, columns % 4 > 1 ? -1 : 0, columns % 4 > 2 ? -1 : 0, 0]));
}

const masked = (value: Value<'v128'>, mask: Value<'v128'> | null): Value<'v128'> => (mask === null ? value : v128.and(value, mask));

/** The factor of a step: one of the scalars, or 1. */
function scalar(code: LaneCode, plan: TrainingPlan, name: ScalarName | 1): Local<'v128'> | null {
  if (name === 1) return null;
  if (plan.rates === null) throw new RangeError('a plan without rates has no factors');
  return code.f.let(name, v128.load32_splat(addressOf(code, plan.rates.scalars), scalarNames.indexOf(name) * 4));
}

export function emitScaleRows(code: LaneCode, { to, from, by }: Extract<TrainingStep, { step: 'scaleRows' }>): void {
  const { f } = code;
  overTokens(code, (token) => {
    const factor = f.let('factor', v128.load32_splat(i32.add(addressOf(code, by), i32.shl(token, 2))));
    const [source, target] = [rowOf(code, from, token), rowOf(code, to, token)];
    overRow(f, from.stride, (at) => {
      f.do(v128.store(i32.add(target, at), f32x4.mul(factor, v128.load(i32.add(source, at)))));
    });
  });
}

/** f(0) is 0 for activations, so that zeros behind the columns stay; a channel of ones follows where `to` has one more. */
export function emitMap(code: LaneCode, { to, from, expression, effect }: Extract<TrainingStep, { step: 'map' }>): void {
  const { f } = code;
  const element = f.local('element', 'v128');
  const absent = (): never => {
    throw new RangeError('an activation reads its element alone');
  };
  const environment: LaneEnvironment = { input: () => element, uniform: absent, table: absent, queryTable: absent, random: absent };
  const lowering = new Lowering({ f, fused: code.fused, environment });
  overTokens(code, (token) => {
    const [source, target] = [rowOf(code, from, token), rowOf(code, to, token)];
    const vectors = f.local('at', 'i32');
    f.for(vectors, { to: Math.ceil(from.columns / 4) * 16, step: 16, atLeastOnce: true }, () => {
      f.set(element, v128.load(i32.add(source, vectors)));
      lowering.begin();
      const value = lowering.lower(expression);
      const place = f.let('place', i32.add(target, vectors));
      f.do(v128.store(place, effect === 'set' ? value : f32x4.mul(v128.load(place), value)));
    });
    if (to.columns > from.columns) f.do(f32.store(target, 1, from.columns * 4));
  });
}

/** Every element of a matrix with its rows' padding: rows stand one after another. */
function overMatrix({ f }: LaneCode, { rows, stride }: Matrix, body: (at: Local<'i32'>) => void): void {
  const at = f.local('at', 'i32');
  f.for(at, { to: rows * stride * 4, step: 16, atLeastOnce: true }, () => {
    body(at);
  });
}

export function emitCombine(code: LaneCode, plan: TrainingPlan, { to, keep, add, from }: Extract<TrainingStep, { step: 'combine' }>): void {
  const [kept, added] = [scalar(code, plan, keep), scalar(code, plan, add)];
  overMatrix(code, to, (at) => {
    const place = code.f.let('place', i32.add(addressOf(code, to), at));
    const old = v128.load(place);
    const other = v128.load(i32.add(addressOf(code, from), at));
    const base = kept === null ? old : f32x4.mul(kept, old);
    code.f.do(v128.store(place, added === null ? f32x4.add(base, other) : multiplyAdd(code, added, other, base)));
  });
}

export function emitScale(code: LaneCode, plan: TrainingPlan, { to, by }: Extract<TrainingStep, { step: 'scale' }>): void {
  const factor = scalar(code, plan, by);
  if (factor === null) return;
  overMatrix(code, to, (at) => {
    const place = code.f.let('place', i32.add(addressOf(code, to), at));
    code.f.do(v128.store(place, f32x4.mul(factor, v128.load(place))));
  });
}

export function emitCopy(code: LaneCode, { to, from }: Extract<TrainingStep, { step: 'copy' }>): void {
  overMatrix(code, to, (at) => {
    code.f.do(v128.store(i32.add(addressOf(code, to), at), v128.load(i32.add(addressOf(code, from), at))));
  });
}

export function emitClear(code: LaneCode, to: Matrix): void {
  overMatrix(code, to, (at) => {
    code.f.do(v128.store(i32.add(addressOf(code, to), at), constantF32x4(0)));
  });
}

/** (x − mean) and 1/√(variance + ε) of a row. */
export interface Standard {
  readonly mean: Local<'v128'>;
  readonly factor: Local<'v128'>;
}

export function emitStandard({ f, ...code }: LaneCode, row: Local<'i32'>, columns: number, epsilon: Value<'f32'>): Standard {
  const sum = f.local('sum', 'v128');
  f.set(sum, constantF32x4(0));
  overRow(f, columns, (at) => {
    f.set(sum, f32x4.add(sum, v128.load(i32.add(row, at))));
  });
  const mean = f.let('mean', f32x4.splat(f32.div(sumOfLanes(sum), columns)));
  f.set(sum, constantF32x4(0));
  overRow(f, columns, (at, mask) => {
    const centred = f.let('centred', masked(f32x4.sub(v128.load(i32.add(row, at)), mean), mask));
    f.set(sum, multiplyAdd(code, centred, centred, sum));
  });
  const deviation = f32.sqrt(f32.add(f32.div(sumOfLanes(sum), columns), epsilon));
  return { mean, factor: f.let('factor', f32x4.splat(f32.div(f32.const(1), deviation))) };
}

/** One vector of the standardized row; zeros behind its columns. */
export function unitOf({ mean, factor }: Standard, row: Local<'i32'>, at: Operand<'i32'>, mask: Value<'v128'> | null): Value<'v128'> {
  return masked(f32x4.mul(f32x4.sub(v128.load(i32.add(row, at)), mean), factor), mask);
}

/** u = (h − mean(h) − x̂ · mean(h ⊙ x̂)) / deviation with h = gain ⊙ (norm(z) − target); without a norm u = z − target. */
export function emitError(code: LaneCode, plan: TrainingPlan, { to, prediction, target }: Extract<TrainingStep, { step: 'error' }>, epsilon: Value<'f32'>): void {
  const { f } = code;
  const { gain, shift, valueDim } = plan;
  overTokens(code, (token) => {
    const [z, wanted, result] = [rowOf(code, prediction, token), rowOf(code, target, token), rowOf(code, to, token)];
    if (gain === null || shift === null) {
      overRow(f, to.stride, (at) => {
        f.do(v128.store(i32.add(result, at), f32x4.sub(v128.load(i32.add(z, at)), v128.load(i32.add(wanted, at)))));
      });
      return;
    }
    const standard = emitStandard(code, z, valueDim, epsilon);
    const [sum, along] = [f.local('sum', 'v128'), f.local('along', 'v128')];
    f.set(sum, constantF32x4(0));
    f.set(along, constantF32x4(0));
    overRow(f, valueDim, (at, mask) => {
      const unit = f.let('unit', unitOf(standard, z, at, mask));
      const gains = f.let('gains', v128.load(i32.add(addressOf(code, gain), at)));
      const normed = multiplyAdd(code, gains, unit, v128.load(i32.add(addressOf(code, shift), at)));
      const h = f.let('h', f32x4.mul(gains, f32x4.sub(normed, v128.load(i32.add(wanted, at)))));
      f.set(sum, f32x4.add(sum, h));
      f.set(along, multiplyAdd(code, h, unit, along));
      f.do(v128.store(i32.add(result, at), h));
    });
    const mean = f.let('mean h', f32x4.splat(f32.div(sumOfLanes(sum), valueDim)));
    const share = f.let('share', f32x4.splat(f32.div(sumOfLanes(along), valueDim)));
    overRow(f, valueDim, (at, mask) => {
      const place = f.let('place', i32.add(result, at));
      const rest = f32x4.sub(f32x4.sub(v128.load(place), mean), f32x4.mul(unitOf(standard, z, at, mask), share));
      f.do(v128.store(place, masked(f32x4.mul(rest, standard.factor), mask)));
    });
  });
}

/** The rows that a piece gives: norm(f(query)) + query where the rule has them. */
export function emitFinish(code: LaneCode, plan: TrainingPlan, from: Matrix, epsilon: Value<'f32'>): void {
  const { f } = code;
  const { gain, shift, valueDim, query, output, residual } = plan;
  overTokens(code, (token) => {
    const [row, result, queries] = [rowOf(code, from, token), rowOf(code, output, token), rowOf(code, query, token)];
    const standard = gain === null ? null : emitStandard(code, row, valueDim, epsilon);
    overRow(f, valueDim, (at, mask) => {
      const read = standard === null || gain === null || shift === null
        ? v128.load(i32.add(row, at))
        : multiplyAdd(code, v128.load(i32.add(addressOf(code, gain), at)), unitOf(standard, row, at, mask), v128.load(i32.add(addressOf(code, shift), at)));
      f.do(v128.store(i32.add(result, at), residual ? f32x4.add(read, v128.load(i32.add(queries, at))) : read));
    });
  });
}
