import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { constant, input } from '../../src/expression/build.ts';
import type { Term } from '../../src/expression/build.ts';
import { differentiableLeaves, differentiate } from '../../src/expression/differentiate.ts';
import type { Environment } from '../../src/expression/evaluate.ts';
import { evaluate } from '../../src/expression/evaluate.ts';
import type { Expression, Operator } from '../../src/expression/node.ts';
import { walk } from '../../src/expression/node.ts';
import { print } from '../../src/expression/print.ts';
import { environmentAt, expressions, points } from './arbitrary.ts';

const score = input('score');

function valueAt(term: Term<'f32'>, at: number): number {
  return evaluate(term.node, environmentAt({ inputs: { score: at }, cap: 1, size: 1 }));
}

function slopeAt(term: Term<'f32'>, at: number): number {
  return evaluate(differentiate(term.node, score.node), environmentAt({ inputs: { score: at }, cap: 1, size: 1 }));
}

/** True when nothing is large, every choice falls alike at all places, without a tie, and divisors, logarithms and bases of powers stay away from 0. */
function isSmooth(expression: Expression, places: readonly Environment[]): boolean {
  return [...walk(expression)].every((node) => {
    if (node.kind !== 'operation' || !places.every((at) => Math.abs(evaluate(node, at)) < 1e3)) return node.kind !== 'operation';
    const operands = places.map((at) => node.operands.map((operand) => evaluate(operand, at)));
    switch (node.operator) {
      case 'pow':
      case 'log':
        return operands.every(([a = 0]) => a > 0.05);
      case 'div':
        return operands.every(([, b = 0]) => Math.abs(b) > 0.05);
      case 'abs':
        return operands.every(([a = 0]) => a * (operands[0]?.[0] ?? 0) > 0);
      case 'min':
      case 'max':
      case 'lt':
        return operands.every(([a = 0, b = 0]) => (a - b) * ((operands[0]?.[0] ?? 0) - (operands[0]?.[1] ?? 0)) > 0);
      default:
        return true;
    }
  });
}

describe('differentiate', () => {
  const arithmetic: readonly Operator[] = ['add', 'sub', 'mul', 'div', 'neg', 'abs', 'min', 'max', 'exp', 'log', 'tanh', 'sin', 'cos', 'pow', 'select', 'lt', 'toF32'];

  const tamePoints = points.map((point) => ({ ...point, inputs: { ...point.inputs, score: Math.round(point.inputs.score * 64) / 64 }, cap: Math.round(point.cap * 64) / 64 }));

  test('agrees with central differences where two step widths agree with each other', () => {
    let compared = 0;
    fc.assert(fc.property(expressions('f32', 3, arithmetic), tamePoints, (expression, point) => {
      const shifted = (change: number): Environment => environmentAt({ ...point, inputs: { ...point.inputs, score: point.inputs.score + change } });
      const at = (change: number): number => evaluate(expression, shifted(change));
      fc.pre(isSmooth(expression, [-2e-4, 0, 2e-4].map(shifted)));
      const difference = (step: number): number => (at(step) - at(-step)) / (2 * step);
      const [wide, narrow] = [difference(2e-4), difference(1e-4)];
      fc.pre(Math.abs(wide - narrow) <= 1e-6 * (1 + Math.abs(narrow)));
      const slope = evaluate(differentiate(expression, score.node), environmentAt(point));
      expect(Math.abs(slope - narrow)).toBeLessThanOrEqual(1e-5 * (1 + Math.abs(narrow)));
      compared++;
    }), { numRuns: 2000 });
    expect(compared).toBeGreaterThan(600);
  });

  test.each([
    ['|x| at 0', score.abs(), 0, 1],
    ['max(x, 0) at 0 takes x', score.max(0), 0, 1],
    ['min(0, x) at 0 takes 0', constant(0).min(score), 0, 0],
    ['a choice at its border', score.ge(0).select(score.mul(3), score), 0, 3],
  ])('at a kink it is the branch that evaluate takes: %s', (_, term, at, slope) => {
    expect(slopeAt(term, at)).toBe(slope);
  });

  test.each([-1e4, -40, -1, 0, 1, 40, 1e4])('the sigmoid and its slope are finite and right at %d', (at) => {
    const exact = 1 / (1 + Math.exp(-at));
    expect(valueAt(score.sigmoid(), at)).toBeCloseTo(exact, 14);
    expect(slopeAt(score.sigmoid(), at)).toBeCloseTo(Number.isFinite(Math.exp(-at)) ? exact * (1 - exact) : 0, 14);
  });

  test('integers are constants', () => {
    expect(print(differentiate(score.mul(input('queryPosition').toF32()).node, score.node))).toBe('toF32(queryPosition)');
    expect(print(differentiate(input('queryPosition').toF32().node, score.node))).toBe('0.0');
  });

  test('a factor that may be infinite is not multiplied by a zero slope', () => {
    const other = { kind: 'uniform', type: 'f32', name: 'cap' } as const;
    expect(print(differentiate(score.mul(score.exp()).node, other))).toBe('0.0');
  });

  test('leaves are listed once, integers never', () => {
    const term = score.mul(score).add(input('queryPosition').toF32());
    expect(differentiableLeaves(term.node).map(print)).toEqual(['score']);
  });
});
