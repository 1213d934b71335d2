import type { Expression, Operator } from './node.ts';

/** How an operator is written: infix with a binding strength, or as a function. One row per infix operator. */
const infix: Readonly<Partial<Record<Operator, readonly [symbol: string, strength: number]>>> = {
  or: ['||', 1],
  and: ['&&', 2],
  eq: ['==', 3],
  ne: ['!=', 3],
  lt: ['<', 3],
  le: ['<=', 3],
  gt: ['>', 3],
  ge: ['>=', 3],
  add: ['+', 4],
  sub: ['-', 4],
  mul: ['*', 5],
  div: ['/', 5],
};

/**
 * The expression as text that a person reads: `score - slopes[head] * toF32(queryPosition - keyPosition)`.
 * The same tree always prints the same text, and different trees print differently, so the text serves as a structural key.
 */
export function print(expression: Expression): string {
  return printAt(expression, 0);
}

function printAt(node: Expression, strength: number): string {
  switch (node.kind) {
    case 'constant':
      return printConstant(node.value, node.type);
    case 'input':
      return node.name;
    case 'uniform':
      return `$${node.name}`;
    case 'table':
      return `${node.name}[${node.indices.map((index) => print(index)).join(', ')}]`;
    case 'queryTable':
      return `dot(query, ${node.name}[${print(node.row)}])`;
    case 'random':
      return `random($${node.seed}, ${node.stream})`;
    case 'operation': {
      const [a, b] = node.operands;
      const row = infix[node.operator];
      if (row === undefined || a === undefined || b === undefined) {
        return `${node.operator}(${node.operands.map((operand) => print(operand)).join(', ')})`;
      }
      const [symbol, own] = row;
      const text = `${printAt(a, own)} ${symbol} ${printAt(b, own + 1)}`;
      return own < strength ? `(${text})` : text;
    }
  }
}

function printConstant(value: number, type: string): string {
  if (type === 'bool') return value === 0 ? 'false' : 'true';
  if (Object.is(value, -0)) return '-0.0';
  if (type === 'i32' || !Number.isInteger(value) || Math.abs(value) > 1e15) return String(value);
  return `${value}.0`;
}
