import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { constant, input, operation } from '../../src/expression/build.ts';
import type { Expression, InputName, Operator } from '../../src/expression/node.ts';
import { inputTypes, operators, sameExpression } from '../../src/expression/node.ts';
import { print } from '../../src/expression/print.ts';
import { expressions, tableTypes, uniformTypes } from './arbitrary.ts';

const infix: Readonly<Record<string, readonly [Operator, number]>> = {
  '||': ['or', 1], '&&': ['and', 2], '==': ['eq', 3], '!=': ['ne', 3], '<': ['lt', 3], '<=': ['le', 3], '>': ['gt', 3], '>=': ['ge', 3],
  '+': ['add', 4], '-': ['sub', 4], '*': ['mul', 5], '/': ['div', 5],
};

/** Reads printed text back, left-associative, knowing only the types of names. That there is such a reader shows that no two trees print alike. */
function parse(text: string): Expression {
  const tokens = text.match(/-?\d+(\.\d+)?(e[+-]\d+)?|-?Infinity|\$?[A-Za-z][\w.]*|\|\||&&|[=!<>]=|[-<>+*/()[\],]/g) ?? [];
  let at = 0;
  const next = (): string => tokens[at++] ?? '';
  const list = (close: string): Expression[] => {
    const items: Expression[] = [];
    while (tokens[at] !== close) {
      items.push(whole(0));
      if (tokens[at] === ',') at++;
    }
    at++;
    return items;
  };
  const part = (): Expression => {
    const token = next();
    if (token === '(') return list(')')[0]!;
    if (/^-?(\d|Infinity)/.test(token)) return token.includes('.') || token.includes('Inf') || token.includes('e') || Math.abs(Number(token)) > 2 ** 31 ? constant(Number(token)).node : constant(Number(token), 'i32').node;
    if (token === 'true' || token === 'false') return constant(token === 'true').node;
    if (token.startsWith('$')) return { kind: 'uniform', type: uniformTypes[token.slice(1)]!, name: token.slice(1) };
    if (tokens[at] === '[') {
      at++;
      return { kind: 'table', type: tableTypes[token] ?? 'f32', name: token, indices: list(']') };
    }
    if (tokens[at] !== '(') return input(token as InputName).node;
    at++;
    const operands = list(')');
    const [first, second] = operands;
    if (token === 'random' && first?.kind === 'uniform' && second?.kind === 'constant') return { kind: 'random', type: 'f32', seed: first.name, stream: second.value };
    if (token === 'dot' && second?.kind === 'table') return { kind: 'queryTable', type: 'f32', name: second.name, row: second.indices[0]! };
    return operation(token as Operator, operands);
  };
  const whole = (least: number): Expression => {
    let left = part();
    for (let row = infix[tokens[at] ?? '']; row !== undefined && row[1] >= least; row = infix[tokens[at] ?? '']) {
      at++;
      left = operation(row[0], [left, whole(row[1] + 1)]);
    }
    return left;
  };
  return whole(0);
}

describe('print', () => {
  // `dot(query, t[row])` reads the word query as a name.
  const readable = (text: string): string => text.replaceAll('dot(query, ', 'dot(score, ');

  test.each(['f32', 'i32', 'bool'] as const)('is read back to the same %s tree, so no two trees print alike', (type) => {
    fc.assert(fc.property(expressions(type), (expression) => {
      expect(sameExpression(parse(readable(print(expression))), expression)).toBe(true);
    }), { numRuns: 1000 });
  });

  test('writes what a person would', () => {
    const score = input('score');
    const distance = input('queryPosition').sub(input('keyPosition'));
    expect(print(score.sub(distance.toF32().mul(0.5)).node)).toBe('score - toF32(queryPosition - keyPosition) * 0.5');
    expect(print(score.sub(score.sub(1)).node)).toBe('score - (score - 1.0)');
    expect(print(score.sub(score).sub(1).node)).toBe('score - score - 1.0');
    expect(print(distance.ge(0).and(distance.lt(4).or(distance.eq(8))).node))
      .toBe('queryPosition - keyPosition >= 0 && (queryPosition - keyPosition < 4 || queryPosition - keyPosition == 8)');
  });

  test('every operator has a text of its own', () => {
    const texts = Object.keys(operators).map((operator) => {
      const { operands } = operators[operator as Operator];
      return print(operation(operator as Operator, operands.map((kind) => (kind === 'bool' ? constant(true) : kind === 'i32' ? constant(1, 'i32') : constant(1)).node)));
    });
    expect(new Set(texts).size).toBe(texts.length);
  });

  test('inputs of all types are known', () => {
    for (const name of Object.keys(inputTypes)) expect(print(input(name as InputName).node)).toBe(name);
  });
});
