import type { NormalizationRule } from '@heed/core';
import type { FunctionBuilder } from '../emit/function.ts';
import { constantF32x4, instructions, select, type Local, type Operand, type Value } from '../emit/instruction.ts';
import { exp, pow } from '../emit/math.ts';
import type { Arithmetic } from '../emit/matmul.ts';
import { minusInfinity } from './exponential.ts';
import { largestLane, sumOfLanes } from './lanes.ts';

const { f32, f32x4, i32, i32x4, v128 } = instructions;

/** Most Newton steps or halvings; the exact cases end after a few. */
const mostSteps = 48;

/** A whole row of terms. */
export interface TermRow {
  readonly address: Local<'i32'>;
  /** Behind the last of them, in whole vectors. */
  readonly end: Local<'i32'>;
  /** Where softmax leaves its origin and the sum around it, four lanes each. */
  readonly state: Local<'i32'>;
}

export interface RowNormalization {
  readonly rule: NormalizationRule;
  readonly arithmetic: Arithmetic;
  /** Bytes from the state to the origin and to the sum. */
  readonly stateWords: { readonly largest: number; readonly sum: number };
  /** Logit of the sink, −∞ where there is none. Read by softmax. */
  readonly sink: Local<'f32'>;
  /** Added to the sum of rowSum; null where the division is left to later (L13). */
  readonly epsilon: Operand<'f32'> | null;
}

/**
 * Writes: a whole row of terms to weights, in place. Keys that do not count hold −∞ before (0 where each weight is its own term), and 0 after.
 */
export function normalizeRow(f: FunctionBuilder, row: TermRow, { rule, arithmetic, stateWords, sink, epsilon }: RowNormalization): void {
  switch (rule.kind) {
    case 'softmax':
      normalizeSoftmax(f, arithmetic, row, sink, stateWords);
      break;
    case 'threshold':
      normalizeThreshold(f, arithmetic, row, rule.alpha);
      break;
    case 'hardMax':
      normalizeHardMax(f, row);
      break;
    case 'rowSum': {
      if (epsilon === null) break;
      const total = f.let('total', f32.add(sumOf(f, row, (term) => term), epsilon));
      map(f, row, (term) => f32x4.div(term, f32x4.splat(total)));
      break;
    }
    case 'elementwise':
      break;
  }
}

function each(f: FunctionBuilder, { address, end }: TermRow, body: (place: Local<'i32'>) => void): void {
  const place = f.local('place', 'i32');
  f.for(place, { from: address, to: end, step: 16, unsigned: true }, () => {
    body(place);
  });
}

function map(f: FunctionBuilder, row: TermRow, change: (term: Local<'v128'>) => Value<'v128'>): void {
  each(f, row, (place) => {
    f.do(v128.store(place, change(f.let('term', v128.load(place)))));
  });
}

function sumOf(f: FunctionBuilder, row: TermRow, change: (term: Local<'v128'>) => Value<'v128'>): Local<'f32'> {
  const sum = f.local('sum', 'v128');
  f.set(sum, constantF32x4(0));
  each(f, row, (place) => {
    f.set(sum, f32x4.add(sum, change(f.let('term', v128.load(place)))));
  });
  return f.let('total', sumOfLanes(sum));
}

/** The largest term, in four lanes. */
function largestOf(f: FunctionBuilder, row: TermRow): Local<'v128'> {
  const largest = f.local('largest', 'v128');
  f.set(largest, minusInfinity());
  each(f, row, (place) => {
    f.set(largest, f32x4.pmax(v128.load(place), largest));
  });
  largestLane(f, largest);
  return largest;
}

function normalizeSoftmax(f: FunctionBuilder, arithmetic: Arithmetic, row: TermRow, sink: Local<'f32'>, stateWords: RowNormalization['stateWords']): void {
  const lanes = { f, ...arithmetic };
  const sinks = f.let('sinks', f32x4.splat(sink));
  const origin = f.let('origin', f32x4.pmax(largestOf(f, row), sinks));
  f.set(origin, v128.bitselect(constantF32x4(0), origin, f32x4.eq(origin, minusInfinity())));
  const sum = f.local('sum', 'v128');
  f.set(sum, constantF32x4(0));
  each(f, row, (place) => {
    const power = exp(lanes, f32x4.sub(v128.load(place), origin));
    f.set(sum, f32x4.add(sum, power));
    f.do(v128.store(place, power));
  });
  f.do(v128.store(row.state, origin, stateWords.largest));
  f.do(v128.store(row.state, sum, stateWords.sum));
  const whole = f.let('whole', f32x4.add(f32x4.splat(sumOfLanes(sum)), exp(lanes, f32x4.sub(sinks, origin))));
  map(f, row, (term) => f32x4.div(term, whole));
}

/**
 * [z − τ]₊^p with p = 1/(α − 1), z = (α − 1)(t − largest), and τ in [−1, 0) such that the row sums to 1. For p ≥ 1 the sum is convex in τ, so Newton from −1
 * rises to τ and never beyond it: at α = 2 that is the exact threshold after a few steps. For p < 1 the interval is halved.
 */
function normalizeThreshold(f: FunctionBuilder, arithmetic: Arithmetic, row: TermRow, alpha: number): void {
  const lanes = { f, ...arithmetic };
  const exponent = 1 / (alpha - 1);
  const largest = largestOf(f, row);
  const origin = f.let('origin', v128.bitselect(constantF32x4(0), largest, f32x4.eq(largest, minusInfinity())));
  map(f, row, (term) => f32x4.mul(f32x4.sub(term, origin), constantF32x4(alpha - 1)));
  const [threshold, step, sum, slope] = [f.local('threshold', 'f32'), f.local('step', 'i32'), f.local('sumLanes', 'v128'), f.local('slopeLanes', 'v128')];
  const weightOf = (above: Local<'v128'>): Value<'v128'> => {
    if (alpha === 2) return above;
    if (alpha === 1.5) return f32x4.mul(above, above);
    return pow(lanes, above, constantF32x4(exponent));
  };
  const aboveOf = (place: Local<'i32'>): Local<'v128'> => f.let('above', f32x4.pmax(f32x4.sub(v128.load(place), f32x4.splat(threshold)), constantF32x4(0)));
  const measure = (withSlope: boolean): Local<'f32'> => {
    f.set(sum, constantF32x4(0));
    f.set(slope, constantF32x4(0));
    each(f, row, (place) => {
      const above = aboveOf(place);
      const weight = f.let('weight', weightOf(above));
      f.set(sum, f32x4.add(sum, weight));
      if (!withSlope) return;
      // p · above^(p − 1), which is 0 or 1 at α = 2.
      const isAbove = f32x4.gt(above, constantF32x4(0));
      const rise = alpha === 2 ? v128.and(constantF32x4(1), isAbove) : v128.and(f32x4.div(f32x4.mul(weight, constantF32x4(exponent)), above), isAbove);
      f.set(slope, f32x4.add(slope, rise));
    });
    return f.let('excess', f32.sub(sumOfLanes(sum), 1));
  };
  if (exponent >= 1) {
    f.set(threshold, -1);
    f.block('found', (found) => {
      f.for(step, { to: mostSteps, atLeastOnce: true }, () => {
        const excess = measure(true);
        const next = f.let('next', f32.add(threshold, f32.div(excess, sumOfLanes(slope))));
        // Also leaves when nothing counts, or nothing is a number.
        f.brIf(found, i32.eqz(f32.gt(next, threshold)));
        f.set(threshold, next);
      });
    });
  } else {
    const [low, high] = [f.local('low', 'f32'), f.local('high', 'f32')];
    f.set(low, -1);
    f.set(high, 0);
    f.for(step, { to: mostSteps, atLeastOnce: true }, () => {
      f.set(threshold, f32.mul(f32.add(low, high), 0.5));
      const excess = measure(false);
      const isBelow = f.let('isBelow', f32.ge(excess, 0));
      f.set(low, select(threshold, low, isBelow));
      f.set(high, select(high, threshold, isBelow));
    });
    f.set(threshold, low);
  }
  each(f, row, (place) => {
    f.do(v128.store(place, weightOf(aboveOf(place))));
  });
  if (alpha === 2 || alpha === 1.5) return;
  const total = sumOf(f, row, (term) => term);
  f.if(f32.gt(total, 0), () => {
    map(f, row, (term) => f32x4.div(term, f32x4.splat(total)));
  });
}

/** 1 at the first of the largest terms. */
function normalizeHardMax(f: FunctionBuilder, row: TermRow): void {
  const largest = largestOf(f, row);
  const isOpen = f.local('isOpen', 'i32');
  f.set(isOpen, f32.gt(f32x4.extract_lane(largest, 0), -Infinity));
  each(f, row, (place) => {
    const lanes = f.let('lanes', i32x4.bitmask(f32x4.eq(v128.load(place), largest)));
    f.do(v128.store(place, constantF32x4(0)));
    f.if(i32.and(isOpen, i32.ne(lanes, 0)), () => {
      f.do(f32.store(i32.add(place, i32.shl(i32.ctz(lanes), 2)), 1));
      f.set(isOpen, 0);
    });
  });
}
