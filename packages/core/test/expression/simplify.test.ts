import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { constant, input } from '../../src/expression/build.ts';
import { evaluate } from '../../src/expression/evaluate.ts';
import { walk } from '../../src/expression/node.ts';
import { print } from '../../src/expression/print.ts';
import { simplify } from '../../src/expression/simplify.ts';
import { environmentAt, expressions, points } from './arbitrary.ts';

describe('simplify', () => {
  test.each(['f32', 'i32', 'bool'] as const)('keeps every value of %s trees, to the sign of zero', (type) => {
    fc.assert(fc.property(expressions(type), points, (expression, point) => {
      const at = environmentAt(point);
      expect(evaluate(simplify(expression), at)).toBe(evaluate(expression, at));
    }), { numRuns: 1000 });
  });

  test('never makes a tree larger, and is idempotent', () => {
    fc.assert(fc.property(expressions('f32'), (expression) => {
      const once = simplify(expression);
      expect([...walk(once)].length).toBeLessThanOrEqual([...walk(expression)].length);
      expect(print(simplify(once))).toBe(print(once));
    }));
  });

  const { node: x } = input('score');
  const score = input('score');
  const position = input('queryPosition');
  const visible = score.gt(0);
  test.each([
    ['a product with 1', score.mul(1), 'score'],
    ['a quotient by 1', score.div(1), 'score'],
    ['an i32 sum with 0', position.add(0), 'queryPosition'],
    ['an f32 difference with 0', score.sub(0), 'score'],
    ['constant arithmetic', score.add(constant(2).mul(3)), 'score + 6.0'],
    ['i32 wrap-around', constant(2 ** 31 - 1, 'i32').add(1), '-2147483648'],
    ['and with true', visible.and(true), 'score > 0.0'],
    ['and with false', visible.and(false), 'false'],
    ['or with true', visible.or(true), 'true'],
    ['double negation', visible.not().not(), 'score > 0.0'],
    ['a mask and itself', visible.and(visible), 'score > 0.0'],
    ['a known choice', constant(true).select(score, score.exp()), 'score'],
    ['a choice between equals', visible.select(score, score), 'score'],
  ])('reduces %s', (_, term, text) => {
    expect(print(simplify(term.node))).toBe(text);
  });

  test.each([
    ['x · 0, which is NaN for ∞', score.mul(0), 'score * 0.0'],
    ['x − x, which is NaN for ∞', score.sub(score), 'score - score'],
    ['x + 0, which is 0 for −0', score.add(0), 'score + 0.0'],
    ['1 / 0, which has no literal everywhere', constant(1).div(0), '1.0 / 0.0'],
    ['exp of a constant, which engines round differently', constant(1).exp(), 'exp(1.0)'],
    ['a remainder by 0, which means nothing', constant(1, 'i32').mod(0), 'mod(1, 0)'],
  ])('leaves %s', (_, term, text) => {
    expect(print(simplify(term.node))).toBe(text);
  });

  test('returns what it does not change', () => {
    expect(simplify(x)).toBe(x);
  });
});
