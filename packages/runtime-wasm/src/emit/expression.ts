/**
 * Expressions → SIMD: the sixth reading. Straight-line code on four lanes: f32 and i32 as they are, a boolean as all bits or none.
 */
import { partsOf, walk, type Expression, type InputName, type Operator, type QueryTableRead, type Random, type ScalarType, type TableRead } from '@heed/core';
import type { FunctionBuilder } from './function.ts';
import { constantF32x4, constantI32x4, instructions, type Local, type Value } from './instruction.ts';
import { cos, exp, log, pow, sin, tanh, type Lanes } from './math.ts';

const { f32x4, f64x2, i32x4, v128, i8x16 } = instructions;

type Vector = Value<'v128'>;

/** Where an expression stands: four lanes of everything that it may read. */
export interface LaneEnvironment {
  input(name: InputName): Vector;
  uniform(name: string, type: ScalarType): Vector;
  /** One local for each index. */
  table(node: TableRead, indices: readonly Local<'v128'>[]): Vector;
  queryTable(node: QueryTableRead, row: Local<'v128'>): Vector;
  random(node: Random): Vector;
  /** True for an input that is the same wherever the code that `hoist` writes is valid. Default: none is. */
  isFixed?(name: InputName): boolean;
}

export interface LoweringOptions extends Lanes {
  readonly environment: LaneEnvironment;
}

/**
 * Writes expressions into a function. Nodes that are equal objects are computed once between two calls of `begin`;
 * what `hoist` has computed stays.
 */
export class Lowering implements Lanes {
  readonly f: FunctionBuilder;
  readonly fused: boolean;
  readonly #environment: LaneEnvironment;
  readonly #fixed = new Map<Expression, Vector>();
  #known = new Map<Expression, Vector>();

  constructor({ f, fused, environment }: LoweringOptions) {
    this.f = f;
    this.fused = fused;
    this.#environment = environment;
  }

  /** Computes here, before a loop, the largest parts that stay the same in it. */
  hoist(expression: Expression): void {
    if (expression.kind === 'constant' || this.#fixed.has(expression)) return;
    if (this.#isFixed(expression)) this.#fixed.set(expression, this.f.let('fixed', this.lower(expression)));
    else {
      for (const part of partsOf(expression)) this.hoist(part);
    }
  }

  /** Begins a round: values of the last one are forgotten. */
  begin(): void {
    this.#known = new Map();
  }

  /** The value of the expression in four lanes. */
  lower(expression: Expression): Vector {
    if (expression.kind === 'constant') return constantOf(expression.value, expression.type);
    const known = this.#fixed.get(expression) ?? this.#known.get(expression);
    if (known !== undefined) return known;
    const value = this.local(this.#write(expression));
    this.#known.set(expression, value);
    return value;
  }

  /** Keeps a value, unless it is kept. */
  local(value: Vector): Local<'v128'> {
    return value.kind === 'local' ? value : this.f.let('value', value);
  }

  #isFixed(expression: Expression): boolean {
    for (const node of walk(expression)) {
      if (node.kind === 'random') return false;
      if (node.kind === 'input' && this.#environment.isFixed?.(node.name) !== true) return false;
    }
    return true;
  }

  #write(expression: Exclude<Expression, { kind: 'constant' }>): Vector {
    switch (expression.kind) {
      case 'input':
        return this.#environment.input(expression.name);
      case 'uniform':
        return this.#environment.uniform(expression.name, expression.type);
      case 'table':
        return this.#environment.table(expression, expression.indices.map((index) => this.local(this.lower(index))));
      case 'queryTable':
        return this.#environment.queryTable(expression, this.local(this.lower(expression.row)));
      case 'random':
        return this.#environment.random(expression);
      case 'operation': {
        const [a, b, c] = expression.operands;
        if (a === undefined) throw new RangeError(`${expression.operator} has no operand`);
        const operand = (one: Expression): Vector => this.local(this.lower(one));
        const first = operand(a);
        return operatorRows[expression.operator]({
          lanes: this,
          a: first,
          b: b === undefined ? first : operand(b),
          c: c === undefined ? first : operand(c),
          type: a.type,
          right: b,
        });
      }
    }
  }
}

function constantOf(value: number, type: ScalarType): Vector {
  if (type === 'f32') return constantF32x4(value);
  return constantI32x4(type === 'bool' ? -value : value);
}

interface Operands {
  readonly lanes: Lanes;
  readonly a: Vector;
  readonly b: Vector;
  readonly c: Vector;
  /** Of the first operand. */
  readonly type: ScalarType;
  /** The second operand as it was written, for code that knows constants. */
  readonly right: Expression | undefined;
}

type OperatorRow = (operands: Operands) => Vector;
type Binary = (a: Vector, b: Vector) => Vector;

/** One instruction for f32, another for i32 and booleans. */
const either =
  (float: Binary, integer: Binary): OperatorRow =>
  ({ a, b, type }) =>
    type === 'f32' ? float(a, b) : integer(a, b);

/** One row per operator. */
const operatorRows: Readonly<Record<Operator, OperatorRow>> = {
  add: either(f32x4.add, i32x4.add),
  sub: either(f32x4.sub, i32x4.sub),
  mul: either(f32x4.mul, i32x4.mul),
  div: ({ a, b }) => f32x4.div(a, b),
  floorDiv: (operands) => floorDivision(operands).quotient(),
  mod: (operands) => floorDivision(operands).rest(),
  neg: ({ a, type }) => (type === 'f32' ? f32x4.neg(a) : i32x4.neg(a)),
  abs: ({ a, type }) => (type === 'f32' ? f32x4.abs(a) : i32x4.abs(a)),
  min: either(f32x4.min, i32x4.min_s),
  max: either(f32x4.max, i32x4.max_s),
  exp: ({ lanes, a }) => exp(lanes, a),
  log: ({ lanes, a }) => log(lanes, a),
  tanh: ({ lanes, a }) => tanh(lanes, a),
  sin: ({ lanes, a }) => sin(lanes, a),
  cos: ({ lanes, a }) => cos(lanes, a),
  pow: ({ lanes, a, b }) => pow(lanes, a, b),
  eq: either(f32x4.eq, i32x4.eq),
  ne: either(f32x4.ne, i32x4.ne),
  lt: either(f32x4.lt, i32x4.lt_s),
  le: either(f32x4.le, i32x4.le_s),
  gt: either(f32x4.gt, i32x4.gt_s),
  ge: either(f32x4.ge, i32x4.ge_s),
  and: ({ a, b }) => v128.and(a, b),
  or: ({ a, b }) => v128.or(a, b),
  not: ({ a }) => v128.not(a),
  select: ({ a, b, c }) => v128.bitselect(b, c, a),
  toF32: ({ a, type }) => (type === 'bool' ? v128.and(a, constantF32x4(1)) : type === 'i32' ? f32x4.convert_i32x4_s(a) : a),
};

/** Powers of two are shifts and masks; other divisors go through float64, whose quotient of two int32 never rounds across an integer. */
function floorDivision({ lanes: { f }, a, b, right }: Operands): { readonly quotient: () => Vector; readonly rest: () => Vector } {
  const divisor = right?.kind === 'constant' ? right.value : 0;
  if (divisor > 0 && (divisor & (divisor - 1)) === 0) {
    return {
      quotient: () => i32x4.shr_s(a, Math.log2(divisor)),
      rest: () => v128.and(a, constantI32x4(divisor - 1)),
    };
  }
  const quotient = (): Vector => {
    const halves = [
      [a, b],
      [highHalf(a), highHalf(b)],
    ].map(([dividend = a, by = b]) => {
      const exact = f64x2.floor(f64x2.div(f64x2.convert_low_i32x4_s(dividend), f64x2.convert_low_i32x4_s(by)));
      return f.let('quotient', i32x4.trunc_sat_f64x2_s_zero(exact));
    });
    const [low = a, high = a] = halves;
    return i8x16.shuffle(low, high, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
  };
  return { quotient, rest: () => i32x4.sub(a, i32x4.mul(quotient(), b)) };
}

function highHalf(x: Vector): Vector {
  return i8x16.shuffle(x, x, [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15]);
}
