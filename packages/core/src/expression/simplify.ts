import { evaluateOperator } from './evaluate.ts';
import type { Expression, Operation } from './node.ts';
import { rewrite, sameExpression } from './node.ts';

/**
 * An equal, smaller expression: constants folded, neutral elements dropped, booleans absorbed.
 * Floating-point identities that change NaN, ∞ or the sign of zero (x · 0, x − x) are left alone, so every backend keeps L1 and L10.
 */
export function simplify(expression: Expression): Expression {
  return rewrite(expression, (node) => (node.kind === 'operation' ? simplifyOperation(node) : node));
}

function simplifyOperation(node: Operation): Expression {
  const { operator, operands, type } = node;
  const [a, b, c] = operands;
  if (a === undefined) return node;
  if (operands.every((operand) => operand.kind === 'constant') && isFoldable(node)) {
    const value = evaluateOperator(operator, type, operands.map((operand) => operand.value));
    if (Number.isFinite(value)) return Object.freeze({ kind: 'constant', type, value });
  }
  switch (operator) {
    case 'add':
      return isNeutral(b) ? a : isNeutral(a) && b !== undefined ? b : node;
    case 'sub':
      return isConstant(b, 0) ? a : node;
    case 'mul':
      return isConstant(b, 1) ? a : isConstant(a, 1) && b !== undefined ? b : node;
    case 'div':
    case 'floorDiv':
    case 'pow':
      return isConstant(b, 1) ? a : node;
    case 'and':
      if (isConstant(a, 0) || isConstant(b, 1)) return a;
      return (isConstant(a, 1) || isConstant(b, 0)) && b !== undefined ? b : absorb(a, b) ?? node;
    case 'or':
      if (isConstant(a, 1) || isConstant(b, 0)) return a;
      return (isConstant(a, 0) || isConstant(b, 1)) && b !== undefined ? b : absorb(a, b) ?? node;
    case 'not':
      return a.kind === 'operation' && a.operator === 'not' ? (a.operands[0] ?? node) : node;
    case 'neg':
      return a.kind === 'operation' && a.operator === 'neg' ? (a.operands[0] ?? node) : node;
    case 'min':
    case 'max':
      return absorb(a, b) ?? node;
    case 'select':
      if (isConstant(a, 1) && b !== undefined) return b;
      if (isConstant(a, 0) && c !== undefined) return c;
      return b !== undefined && c !== undefined && sameExpression(b, c) ? b : node;
    default:
      return node;
  }
}

/** Functions that engines round differently are not folded: the text of a structure must not depend on where it was made. Nor is what would not be finite. */
function isFoldable(node: Operation): boolean {
  if (node.type !== 'f32') return !(node.operator === 'floorDiv' || node.operator === 'mod') || positiveDivisor(node);
  return ['add', 'sub', 'mul', 'div', 'neg', 'abs', 'min', 'max', 'select', 'toF32'].includes(node.operator);
}

function positiveDivisor(node: Operation): boolean {
  const divisor = node.operands[1];
  return divisor?.kind === 'constant' && divisor.value > 0;
}

function absorb(a: Expression, b: Expression | undefined): Expression | undefined {
  return b !== undefined && sameExpression(a, b) ? a : undefined;
}

function isConstant(node: Expression | undefined, value: number): boolean {
  return node?.kind === 'constant' && node.value === value && !Object.is(node.value, -0);
}

/** The zero that adds nothing: −0 for f32, since −0 + 0 is 0. */
function isNeutral(node: Expression | undefined): boolean {
  return node?.kind === 'constant' && (node.type === 'f32' ? Object.is(node.value, -0) : node.value === 0);
}
