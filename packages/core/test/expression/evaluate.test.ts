import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { constant, input } from '../../src/expression/build.ts';
import type { Environment } from '../../src/expression/evaluate.ts';
import { evaluate, evaluateOperator } from '../../src/expression/evaluate.ts';

const nothing: Environment = { input: () => Number.NaN, uniform: () => Number.NaN, table: () => Number.NaN, queryTable: () => Number.NaN, random: () => Number.NaN };
const i32 = fc.integer();

describe('evaluate', () => {
  // BigInt arithmetic is exact; asIntN is two's complement.
  test.each([
    ['add', (a: bigint, b: bigint) => a + b],
    ['sub', (a: bigint, b: bigint) => a - b],
    ['mul', (a: bigint, b: bigint) => a * b],
  ] as const)('i32 %s wraps around', (operator, exact) => {
    fc.assert(fc.property(i32, i32, (a, b) => {
      expect(evaluateOperator(operator, 'i32', [a, b])).toBe(Number(BigInt.asIntN(32, exact(BigInt(a), BigInt(b)))));
    }));
  });

  test('i32 neg and abs of the least number wrap to it', () => {
    expect(evaluateOperator('neg', 'i32', [-(2 ** 31)])).toBe(-(2 ** 31));
    expect(evaluateOperator('abs', 'i32', [-(2 ** 31)])).toBe(-(2 ** 31));
  });

  test('floorDiv and mod have floor semantics: a = b · floorDiv + mod with 0 ≤ mod < b', () => {
    fc.assert(fc.property(i32, fc.integer({ min: 1 }), (a, b) => {
      const quotient = evaluateOperator('floorDiv', 'i32', [a, b]);
      const rest = evaluateOperator('mod', 'i32', [a, b]);
      expect(BigInt(quotient) * BigInt(b) + BigInt(rest)).toBe(BigInt(a));
      expect(rest >= 0 && rest < b).toBe(true);
    }));
    expect(evaluateOperator('floorDiv', 'i32', [-1, 4])).toBe(-1);
    expect(evaluateOperator('mod', 'i32', [-1, 4])).toBe(3);
  });

  test('the branch not taken has no effect, even if it is NaN', () => {
    const bad = constant(0).div(constant(0));
    expect(evaluate(constant(true).select(constant(1), bad).node, nothing)).toBe(1);
    expect(evaluate(constant(false).select(bad, constant(1)).node, nothing)).toBe(1);
  });

  test('f32 is computed in float64', () => {
    expect(evaluate(constant(0.1).add(0.2).node, nothing)).toBe(0.1 + 0.2);
  });

  test('comparisons with NaN are false, but for ≠', () => {
    const score = input('score');
    for (const term of [score.lt(0), score.le(0), score.gt(0), score.ge(0), score.eq(score)]) expect(evaluate(term.node, nothing)).toBe(0);
    expect(evaluate(score.ne(score).node, nothing)).toBe(1);
  });

  test('a table is read at the values of its indices, a random node at its seed', () => {
    const at: Environment = { ...nothing, input: () => 3, uniform: () => 42, table: (name, indices) => (name === 't' ? 10 * (indices[0] ?? 0) + (indices[1] ?? 0) : 0), random: (seed, stream) => seed + stream };
    expect(evaluate({ kind: 'table', type: 'f32', name: 't', indices: [input('head').node, constant(4, 'i32').node] }, at)).toBe(34);
    expect(evaluate({ kind: 'random', type: 'f32', seed: 'seed', stream: 1 }, at)).toBe(43);
  });
});
