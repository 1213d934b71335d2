import { AttentionError } from '../errors.ts';
import type { Expression, InputName, InputTypes, Operator, ScalarType, Signature } from './node.ts';
import { inputTypes, operators } from './node.ts';
import { print } from './print.ts';

/** What a method takes for a term of type T: the term, or a plain number (boolean) that becomes a constant. */
export type Operand<T extends ScalarType> = Term<T> | (T extends 'bool' ? boolean : number);

type Numeric = 'f32' | 'i32';

/**
 * An expression in the making: the methods that a variant's author writes with. `node` is the plain data.
 * Integer arithmetic wraps around; there is no silent conversion between i32 and f32, only `toF32`.
 */
export class Term<T extends ScalarType = ScalarType> {
  readonly node: Expression;
  readonly type: T;

  constructor(node: Expression, type: T) {
    this.node = node;
    this.type = type;
  }

  add<N extends Numeric>(this: Term<N>, other: Operand<N>): Term<N> {
    return same(this, 'add', other);
  }
  sub<N extends Numeric>(this: Term<N>, other: Operand<N>): Term<N> {
    return same(this, 'sub', other);
  }
  mul<N extends Numeric>(this: Term<N>, other: Operand<N>): Term<N> {
    return same(this, 'mul', other);
  }
  min<N extends Numeric>(this: Term<N>, other: Operand<N>): Term<N> {
    return same(this, 'min', other);
  }
  max<N extends Numeric>(this: Term<N>, other: Operand<N>): Term<N> {
    return same(this, 'max', other);
  }
  neg<N extends Numeric>(this: Term<N>): Term<N> {
    return same(this, 'neg');
  }
  abs<N extends Numeric>(this: Term<N>): Term<N> {
    return same(this, 'abs');
  }
  div(this: Term<'f32'>, other: Operand<'f32'>): Term<'f32'> {
    return same(this, 'div', other);
  }
  /** base ** exponent, base ≥ 0. */
  pow(this: Term<'f32'>, exponent: Operand<'f32'>): Term<'f32'> {
    return same(this, 'pow', exponent);
  }
  exp(this: Term<'f32'>): Term<'f32'> {
    return same(this, 'exp');
  }
  log(this: Term<'f32'>): Term<'f32'> {
    return same(this, 'log');
  }
  tanh(this: Term<'f32'>): Term<'f32'> {
    return same(this, 'tanh');
  }
  sin(this: Term<'f32'>): Term<'f32'> {
    return same(this, 'sin');
  }
  cos(this: Term<'f32'>): Term<'f32'> {
    return same(this, 'cos');
  }
  /** 1 / (1 + e^(−x)), written so that neither it nor its derivative overflows: (x ≥ 0 ? 1 : e) / (1 + e) with e = e^(−|x|). */
  sigmoid(this: Term<'f32'>): Term<'f32'> {
    const e = this.abs().neg().exp();
    return this.ge(0).select(1, e).div(e.add(1));
  }
  /** Floor of the quotient; the divisor must be positive. */
  floorDiv(this: Term<'i32'>, divisor: Operand<'i32'>): Term<'i32'> {
    return same(this, 'floorDiv', divisor);
  }
  /** 0 … divisor − 1; the divisor must be positive. */
  mod(this: Term<'i32'>, divisor: Operand<'i32'>): Term<'i32'> {
    return same(this, 'mod', divisor);
  }
  eq<N extends Numeric>(this: Term<N>, other: Operand<N>): Term<'bool'> {
    return compare(this, 'eq', other);
  }
  ne<N extends Numeric>(this: Term<N>, other: Operand<N>): Term<'bool'> {
    return compare(this, 'ne', other);
  }
  lt<N extends Numeric>(this: Term<N>, other: Operand<N>): Term<'bool'> {
    return compare(this, 'lt', other);
  }
  le<N extends Numeric>(this: Term<N>, other: Operand<N>): Term<'bool'> {
    return compare(this, 'le', other);
  }
  gt<N extends Numeric>(this: Term<N>, other: Operand<N>): Term<'bool'> {
    return compare(this, 'gt', other);
  }
  ge<N extends Numeric>(this: Term<N>, other: Operand<N>): Term<'bool'> {
    return compare(this, 'ge', other);
  }
  and(this: Term<'bool'>, other: Operand<'bool'>): Term<'bool'> {
    return same(this, 'and', other);
  }
  or(this: Term<'bool'>, other: Operand<'bool'>): Term<'bool'> {
    return same(this, 'or', other);
  }
  not(this: Term<'bool'>): Term<'bool'> {
    return same(this, 'not');
  }
  /** this ? a : b. A number beside a term takes the term's type; two numbers are f32. */
  select<N extends Numeric = 'f32'>(this: Term<'bool'>, a: Operand<N>, b: Operand<N>): Term<N> {
    const type = (a instanceof Term ? a.type : b instanceof Term ? b.type : 'f32') as N;
    return new Term(operation('select', [this.node, lift(a, type), lift(b, type)]), type);
  }
  toF32(this: Term<'i32'> | Term<'bool'>): Term<'f32'> {
    return new Term(operation('toF32', [this.node]), 'f32');
  }
}

function same<T extends ScalarType>(self: Term<T>, operator: Operator, ...others: readonly Operand<T>[]): Term<T> {
  return new Term(operation(operator, [self.node, ...others.map((other) => lift(other, self.type))]), self.type);
}

function compare<T extends ScalarType>(self: Term<T>, operator: Operator, other: Operand<T>): Term<'bool'> {
  return new Term(operation(operator, [self.node, lift(other, self.type)]), 'bool');
}

function lift(operand: Term | number | boolean, type: ScalarType): Expression {
  return operand instanceof Term ? operand.node : constant(operand, type).node;
}

/** A constant term: a number is f32 unless said, a boolean is bool. */
export function constant(value: number): Term<'f32'>;
export function constant(value: boolean): Term<'bool'>;
export function constant<T extends ScalarType>(value: number | boolean, type: T): Term<T>;
export function constant(value: number | boolean, type?: ScalarType): Term {
  const chosen = type ?? (typeof value === 'boolean' ? 'bool' : 'f32');
  const number = Number(value);
  const fits = typeof value === (chosen === 'bool' ? 'boolean' : 'number') && !Number.isNaN(number) && (chosen !== 'i32' || (number | 0) === number);
  if (!fits) {
    throw new AttentionError('invalid-expression', `Got the constant ${String(value)} where ${chosen} is expected.`, 'Use a 32-bit integer for i32, true or false for bool, toF32() to convert.');
  }
  return new Term(Object.freeze({ kind: 'constant', type: chosen, value: chosen === 'i32' ? number | 0 : number }), chosen);
}

/** The term that reads an input. */
export function input<N extends InputName>(name: N): Term<InputTypes[N]> {
  const type = inputTypes[name];
  return new Term(Object.freeze({ kind: 'input', type, name }), type);
}

/**
 * An operation node whose operand types are checked against the operator's signature.
 * @throws AttentionError `invalid-expression`
 */
export function operation(operator: Operator, operands: readonly Expression[]): Expression {
  const signature: Signature = operators[operator];
  const generic = operands.findLast((_, index) => signature.operands[index] === 'number' || signature.operands[index] === 'any')?.type;
  const fits = operands.length === signature.operands.length && operands.every((operand, index) => fitsKind(operand.type, signature.operands[index], generic));
  if (!fits) {
    throw new AttentionError(
      'invalid-expression',
      `${operator} got ${operands.map((operand) => `${print(operand)} (${operand.type})`).join(' and ')}, expected ${signature.operands.join(' and ').replace(/number and number|any and any/, 'two of one type')}.`,
      'Convert integers with toF32().',
    );
  }
  const type = signature.result === 'number' || signature.result === 'any' ? (generic ?? 'f32') : signature.result;
  return Object.freeze({ kind: 'operation', type, operator, operands: Object.freeze([...operands]) });
}

function fitsKind(type: ScalarType, kind: Signature['operands'][number] | undefined, generic: ScalarType | undefined): boolean {
  if (kind === 'number') return type !== 'bool' && type === generic;
  if (kind === 'any') return type === generic;
  return type === kind;
}
