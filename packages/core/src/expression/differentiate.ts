import { AttentionError } from '../errors.ts';
import { constant, operation } from './build.ts';
import type { Expression, Operation, Operator } from './node.ts';
import { sameExpression, walk } from './node.ts';
import { simplify } from './simplify.ts';

/**
 * The derivative of an f32 expression with respect to one leaf (an input, a table read, a query-table read or a uniform), as an expression.
 * At kinks (min, max, abs, select at its border) it is the derivative of the branch that `evaluate` takes. Integers and booleans are constants.
 */
export function differentiate(expression: Expression, leaf: Expression): Expression {
  return simplify(derivative(expression, leaf));
}

/** The f32 leaves of an expression that a gradient may ask for, each once. */
export function differentiableLeaves(expression: Expression): readonly Expression[] {
  const leaves: Expression[] = [];
  for (const node of walk(expression)) {
    const isLeaf = node.type === 'f32' && (node.kind === 'input' || node.kind === 'table' || node.kind === 'queryTable' || node.kind === 'uniform');
    if (isLeaf && !leaves.some((known) => sameExpression(known, node))) leaves.push(node);
  }
  return leaves;
}

function derivative(node: Expression, leaf: Expression): Expression {
  if (sameExpression(node, leaf)) return one;
  if (node.kind !== 'operation' || node.type !== 'f32') return zero;
  const rule = rules[node.operator];
  if (rule === undefined) throw new AttentionError('internal', `No derivative is known for ${node.operator}.`, 'Add its row in differentiate.ts.');
  return rule(node, (operand) => (operand === undefined ? zero : derivative(operand, leaf)));
}

const zero: Expression = constant(0).node;
const one: Expression = constant(1).node;

type Rule = (node: Operation, d: (operand: Expression | undefined) => Expression) => Expression;

/** Sums and products that skip zero terms: a term whose factor does not depend on the leaf must not bring 0 · ∞ into the sum. */
function add(a: Expression, b: Expression): Expression {
  return a === zero ? b : b === zero ? a : operation('add', [a, b]);
}

function sub(a: Expression, b: Expression): Expression {
  return b === zero ? a : a === zero ? operation('neg', [b]) : operation('sub', [a, b]);
}

function mul(a: Expression, b: Expression): Expression {
  return a === zero || b === zero ? zero : a === one ? b : b === one ? a : operation('mul', [a, b]);
}

function div(a: Expression, b: Expression): Expression {
  return a === zero ? zero : operation('div', [a, b]);
}

function select(condition: Expression, a: Expression, b: Expression): Expression {
  return a === zero && b === zero ? zero : operation('select', [condition, a, b]);
}

function operandsOf(node: Operation): readonly [Expression, Expression, Expression] {
  const [a = zero, b = zero, c = zero] = node.operands;
  return [a, b, c];
}

/** One row per operator with an f32 result. */
const rules: Readonly<Partial<Record<Operator, Rule>>> = {
  add: (node, d) => add(d(node.operands[0]), d(node.operands[1])),
  sub: (node, d) => sub(d(node.operands[0]), d(node.operands[1])),
  mul: (node, d) => {
    const [a, b] = operandsOf(node);
    return add(mul(d(a), b), mul(a, d(b)));
  },
  div: (node, d) => {
    const [a, b] = operandsOf(node);
    return sub(div(d(a), b), mul(d(b), div(a, operation('mul', [b, b]))));
  },
  neg: (node, d) => sub(zero, d(node.operands[0])),
  abs: (node, d) => {
    const [a] = operandsOf(node);
    const inner = d(a);
    return select(operation('lt', [a, zero]), sub(zero, inner), inner);
  },
  min: (node, d) => {
    const [a, b] = operandsOf(node);
    return select(operation('le', [a, b]), d(a), d(b));
  },
  max: (node, d) => {
    const [a, b] = operandsOf(node);
    return select(operation('ge', [a, b]), d(a), d(b));
  },
  exp: (node, d) => mul(d(node.operands[0]), node),
  log: (node, d) => div(d(node.operands[0]), operandsOf(node)[0]),
  tanh: (node, d) => mul(d(node.operands[0]), operation('sub', [one, operation('mul', [node, node])])),
  sin: (node, d) => mul(d(node.operands[0]), operation('cos', [operandsOf(node)[0]])),
  cos: (node, d) => sub(zero, mul(d(node.operands[0]), operation('sin', [operandsOf(node)[0]]))),
  pow: (node, d) => {
    const [base, exponent] = operandsOf(node);
    const byBase = mul(d(base), operation('mul', [exponent, operation('pow', [base, operation('sub', [exponent, one])])]));
    return add(byBase, mul(d(exponent), operation('mul', [node, operation('log', [base])])));
  },
  select: (node, d) => {
    const [condition, a, b] = operandsOf(node);
    return select(condition, d(a), d(b));
  },
  toF32: () => zero,
};
