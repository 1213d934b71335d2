import { evaluateOperator } from './evaluate.ts';
import type { Expression, InputName, Operation, Operator, ScalarType } from './node.ts';

/** All values from `low` to `high`. A boolean's interval is within [0, 1]: [1, 1] always true, [0, 0] never. */
export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** What is known of a tile: an interval for everything an expression may read. Unknown is {@link everything}. */
export interface BoundEnvironment {
  input(name: InputName): Interval;
  uniform(name: string): number;
  /** Over all elements whose indices lie in these intervals. */
  table(name: string, indices: readonly Interval[]): Interval;
}

/** The interval that says nothing. */
export const everything: Interval = { low: -Infinity, high: Infinity };

const integers: Interval = { low: -(2 ** 31), high: 2 ** 31 - 1 };
const unknown: Readonly<Record<ScalarType, Interval>> = { f32: everything, i32: integers, bool: { low: 0, high: 1 } };

/**
 * Interval arithmetic: every value that `evaluate` can give at any place of the tile lies in the result. Conservative: it may be wider.
 * i32 results that could wrap around become the whole i32 range; f32 results are widened by the rounding of a float32 evaluation.
 */
export function bound(expression: Expression, at: BoundEnvironment): Interval {
  switch (expression.kind) {
    case 'constant':
      return leaf(expression.value, expression.type);
    case 'input':
      return at.input(expression.name);
    case 'uniform':
      return leaf(at.uniform(expression.name), expression.type);
    case 'table':
      return at.table(expression.name, expression.indices.map((index) => bound(index, at)));
    case 'queryTable':
      return everything;
    case 'random':
      return { low: 0, high: 1 };
    case 'operation':
      return boundOperation(expression, at);
  }
}

function boundOperation(node: Operation, at: BoundEnvironment): Interval {
  const [first, second, third] = node.operands;
  const a = first === undefined ? everything : bound(first, at);
  // What one side decides needs no look at the other, which may be a table.
  if (node.operator === 'or' && a.low === 1) return always;
  if (node.operator === 'and' && a.high === 0) return never;
  const b = second === undefined ? everything : bound(second, at);
  const c = third === undefined ? everything : bound(third, at);
  const exact = (first === undefined || isPoint(a)) && (second === undefined || isPoint(b)) && (third === undefined || isPoint(c));
  if (exact && node.type !== 'f32') return point(evaluateOperator(node.operator, node.type, [a.low, b.low, c.low].slice(0, node.operands.length)));
  const result = rules[node.operator](a, b, c);
  if (Number.isNaN(result.low) || Number.isNaN(result.high)) return unknown[node.type];
  if (node.type === 'i32') return result.low < integers.low || result.high > integers.high ? integers : result;
  return node.type === 'f32' ? widen(result) : result;
}

/** One row per operator. */
const rules: Readonly<Record<Operator, (a: Interval, b: Interval, c: Interval) => Interval>> = {
  add: (a, b) => ({ low: a.low + b.low, high: a.high + b.high }),
  sub: (a, b) => ({ low: a.low - b.high, high: a.high - b.low }),
  mul: (a, b) => hull(product(a.low, b.low), product(a.low, b.high), product(a.high, b.low), product(a.high, b.high)),
  div: (a, b) => (b.low > 0 || b.high < 0 ? hull(a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high) : everything),
  floorDiv: (a, b) => (b.low > 0 ? floors(hull(a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high)) : everything),
  mod: (a, b) => boundMod(a, b),
  neg: (a) => ({ low: -a.high, high: -a.low }),
  abs: (a) => ({ low: Math.max(0, a.low, -a.high), high: Math.max(a.high, -a.low) }),
  min: (a, b) => ({ low: Math.min(a.low, b.low), high: Math.min(a.high, b.high) }),
  max: (a, b) => ({ low: Math.max(a.low, b.low), high: Math.max(a.high, b.high) }),
  exp: (a) => ({ low: Math.exp(a.low), high: Math.exp(a.high) }),
  log: (a) => (a.low >= 0 ? { low: Math.log(a.low), high: Math.log(a.high) } : everything),
  tanh: (a) => ({ low: Math.tanh(a.low), high: Math.tanh(a.high) }),
  sin: () => ({ low: -1, high: 1 }),
  cos: () => ({ low: -1, high: 1 }),
  pow: (a, b) => (a.low > 0 ? hull(a.low ** b.low, a.low ** b.high, a.high ** b.low, a.high ** b.high) : everything),
  eq: (a, b) => (disjoint(a, b) ? never : unsure),
  ne: (a, b) => (disjoint(a, b) ? always : unsure),
  lt: (a, b) => ordered(a.high < b.low, a.low >= b.high),
  le: (a, b) => ordered(a.high <= b.low, a.low > b.high),
  gt: (a, b) => ordered(a.low > b.high, a.high <= b.low),
  ge: (a, b) => ordered(a.low >= b.high, a.high < b.low),
  and: (a, b) => ({ low: Math.min(a.low, b.low), high: Math.min(a.high, b.high) }),
  or: (a, b) => ({ low: Math.max(a.low, b.low), high: Math.max(a.high, b.high) }),
  not: (a) => ({ low: 1 - a.high, high: 1 - a.low }),
  select: (a, b, c) => (a.low === 1 ? b : a.high === 0 ? c : { low: Math.min(b.low, c.low), high: Math.max(b.high, c.high) }),
  toF32: (a) => a,
};

const always: Interval = { low: 1, high: 1 };
const never: Interval = { low: 0, high: 0 };
const unsure: Interval = { low: 0, high: 1 };

function ordered(yes: boolean, no: boolean): Interval {
  return yes ? always : no ? never : unsure;
}

function isPoint({ low, high }: Interval): boolean {
  return low === high && Number.isFinite(low);
}

function disjoint(a: Interval, b: Interval): boolean {
  return a.high < b.low || b.high < a.low;
}

/** A window that stays within one period keeps its ends; a wider one may take every rest. */
function boundMod(a: Interval, b: Interval): Interval {
  if (b.low <= 0) return everything;
  const rests: Interval = { low: 0, high: b.high - 1 };
  if (b.low !== b.high || !Number.isFinite(a.low) || !Number.isFinite(a.high)) return rests;
  const period = Math.floor(a.low / b.low);
  if (Math.floor(a.high / b.low) !== period) return rests;
  return { low: a.low - period * b.low, high: a.high - period * b.low };
}

function floors(interval: Interval): Interval {
  return { low: Math.floor(interval.low), high: Math.floor(interval.high) };
}

/** 0 · ∞ bounds a product of finite numbers, so it counts as 0. */
function product(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : a * b;
}

function hull(...values: readonly number[]): Interval {
  return { low: Math.min(...values), high: Math.max(...values) };
}

/** A number as float64 and as float32 have it. */
function leaf(value: number, type: ScalarType): Interval {
  return type === 'f32' ? hull(value, Math.fround(value)) : point(value);
}

function point(value: number): Interval {
  return { low: value, high: value };
}

/** Room for the rounding of float32 evaluation: 2⁻²⁰ relative covers 8 roundings of each operand, and the smallest normal number absolutely; what may overflow is infinite. */
function widen(interval: Interval): Interval {
  const slack = (value: number): number => (Number.isFinite(value) ? Math.abs(value) * 2 ** -20 + 2 ** -126 : 0);
  const low = interval.low - slack(interval.low);
  const high = interval.high + slack(interval.high);
  return { low: low < -largestFloat32 ? -Infinity : low, high: high > largestFloat32 ? Infinity : high };
}

const largestFloat32 = (2 - 2 ** -23) * 2 ** 127;
