import type { Expression, InputName, Operator, ScalarType } from './node.ts';

/** Where an expression stands: everything it may read. Booleans are 0 or 1. */
export interface Environment {
  input(name: InputName): number;
  uniform(name: string): number;
  table(name: string, indices: readonly number[]): number;
  queryTable(name: string, row: number): number;
  /** The number of a random node at this pair; `seed` is the value of its uniform. */
  random(seed: number, stream: number): number;
}

/** The meaning of an expression: float64 for f32, wrap-around for i32, 0 or 1 for bool. */
export function evaluate(expression: Expression, at: Environment): number {
  switch (expression.kind) {
    case 'constant':
      return expression.value;
    case 'input':
      return at.input(expression.name);
    case 'uniform':
      return at.uniform(expression.name);
    case 'table':
      return at.table(expression.name, expression.indices.map((index) => evaluate(index, at)));
    case 'queryTable':
      return at.queryTable(expression.name, evaluate(expression.row, at));
    case 'random':
      return at.random(at.uniform(expression.seed), expression.stream);
    case 'operation':
      return evaluateOperator(expression.operator, expression.type, expression.operands.map((operand) => evaluate(operand, at)));
  }
}

/** One operator on numbers; what constant folding and evaluation share. */
export function evaluateOperator(operator: Operator, type: ScalarType, operands: readonly number[]): number {
  const [a = 0, b = 0, c = 0] = operands;
  if (type !== 'i32') return meanings[operator](a, b, c);
  return operator === 'mul' ? Math.imul(a, b) : meanings[operator](a, b, c) | 0;
}

/** One row per operator. The caller wraps i32 results, and multiplies i32 exactly, since their product may pass 2⁵³. */
const meanings: Readonly<Record<Operator, (a: number, b: number, c: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  floorDiv: (a, b) => Math.floor(a / b),
  mod: (a, b) => a - b * Math.floor(a / b),
  neg: (a) => -a,
  abs: (a) => Math.abs(a),
  min: (a, b) => Math.min(a, b),
  max: (a, b) => Math.max(a, b),
  exp: (a) => Math.exp(a),
  log: (a) => Math.log(a),
  tanh: (a) => Math.tanh(a),
  sin: (a) => Math.sin(a),
  cos: (a) => Math.cos(a),
  pow: (a, b) => a ** b,
  eq: (a, b) => Number(a === b),
  ne: (a, b) => Number(a !== b),
  lt: (a, b) => Number(a < b),
  le: (a, b) => Number(a <= b),
  gt: (a, b) => Number(a > b),
  ge: (a, b) => Number(a >= b),
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  not: (a) => 1 - a,
  select: (a, b, c) => (a !== 0 ? b : c),
  toF32: (a) => a,
};
