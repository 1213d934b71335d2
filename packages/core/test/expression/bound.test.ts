import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { constant, input } from '../../src/expression/build.ts';
import type { BoundEnvironment, Interval } from '../../src/expression/bound.ts';
import { bound, everything } from '../../src/expression/bound.ts';
import type { Environment } from '../../src/expression/evaluate.ts';
import { evaluate, evaluateOperator } from '../../src/expression/evaluate.ts';
import type { Expression, InputName } from '../../src/expression/node.ts';
import { inputTypes, partsOf, walk } from '../../src/expression/node.ts';
import { environmentAt, expressions, points, tableTypes, tableValue } from './arbitrary.ts';

/** Evaluation as a backend does it: every f32 result rounded to float32. */
function evaluateFloat32(expression: Expression, at: Environment): number {
  if (expression.kind !== 'operation') {
    const value = expression.kind === 'table' || expression.kind === 'queryTable'
      ? evaluate({ ...expression, ...(expression.kind === 'table' ? { indices: indexConstants(expression, at) } : { row: indexConstants(expression, at)[0]! }) }, at)
      : evaluate(expression, at);
    return expression.type === 'f32' ? Math.fround(value) : value;
  }
  const value = evaluateOperator(expression.operator, expression.type, expression.operands.map((operand) => evaluateFloat32(operand, at)));
  return expression.type === 'f32' ? Math.fround(value) : value;
}

function indexConstants(expression: Expression, at: Environment): readonly Expression[] {
  return partsOf(expression).map((index) => constant(evaluateFloat32(index, at), 'i32').node);
}

const tiles = fc.tuple(points, points).map(([first, second]) => {
  const inputs = Object.fromEntries(Object.entries(first.inputs).map(([name, a]) => {
    const b = second.inputs[name as keyof typeof second.inputs];
    return [name, { low: Math.min(a, b), high: Math.max(a, b) }];
  })) as Partial<Record<InputName, Interval>>;
  return { inputs, cap: first.cap, size: first.size };
});

function tileEnvironment(tile: { readonly inputs: Partial<Record<InputName, Interval>>; readonly cap: number; readonly size: number }): BoundEnvironment {
  return {
    input: (name) => tile.inputs[name] ?? everything,
    uniform: (name) => (name === 'cap' ? tile.cap : tile.size),
    table: (name, indices) => {
      const { low, high } = indices[0]!;
      if (high - low > 64) return tableTypes[name] === 'bool' ? { low: 0, high: 1 } : { low: -4, high: 4 };
      const values = Array.from({ length: high - low + 1 }, (_, step) => tableValue(name, low + step));
      return { low: Math.min(...values), high: Math.max(...values) };
    },
  };
}

/** NaN lies in no interval, and what follows from it is not bounded. */
function meetsNaN(expression: Expression, value: (node: Expression) => number): boolean {
  return [...walk(expression)].some((node) => Number.isNaN(value(node)));
}

describe('bound', () => {
  test.each(['f32', 'i32', 'bool'] as const)('contains every value of a %s tree over a tile, in float64 and in float32', (type) => {
    fc.assert(fc.property(expressions(type), tiles, fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 }), (expression, tile, shares) => {
      let next = 0;
      const inputs = Object.fromEntries(Object.entries(tile.inputs).map(([name, { low, high }]) => {
        const value = low + (high - low) * shares[next++]!;
        return [name, inputTypes[name as InputName] === 'i32' ? Math.round(value) : Math.min(high, Math.max(low, Math.fround(value)))];
      }));
      const at = environmentAt({ inputs, cap: tile.cap, size: tile.size });
      const { low, high } = bound(expression, tileEnvironment(tile));
      for (const read of [evaluate, evaluateFloat32]) {
        if (meetsNaN(expression, (node) => read(node, at))) continue;
        const value = read(expression, at);
        expect(value).toBeGreaterThanOrEqual(low);
        expect(value).toBeLessThanOrEqual(high);
      }
    }), { numRuns: 1000 });
  });

  const queries = (low: number, high: number, keyLow: number, keyHigh: number): BoundEnvironment => ({
    input: (name) => (name === 'queryPosition' ? { low, high } : name === 'keyPosition' ? { low: keyLow, high: keyHigh } : everything),
    uniform: () => 4,
    table: () => everything,
  });
  const [query, key] = [input('queryPosition'), input('keyPosition')];

  test.each([
    ['a tile below the diagonal is full', queries(16, 31, 0, 15), { low: 1, high: 1 }],
    ['a tile above it is empty', queries(0, 15, 16, 31), { low: 0, high: 0 }],
    ['a tile on it is mixed', queries(0, 15, 0, 15), { low: 0, high: 1 }],
    ['one key that all queries see is full', queries(3, 9, 3, 3), { low: 1, high: 1 }],
  ])('causal: %s', (_, at, expected) => {
    expect(bound(key.le(query).node, at)).toEqual(expected);
  });

  test('chunks: floorDiv of a tile within one chunk is a point', () => {
    expect(bound(query.floorDiv(16).eq(key.floorDiv(16)).node, queries(16, 31, 16, 31))).toEqual({ low: 1, high: 1 });
    expect(bound(query.floorDiv(16).eq(key.floorDiv(16)).node, queries(16, 31, 32, 40))).toEqual({ low: 0, high: 0 });
  });

  test('a remainder within one period keeps its ends, also below 0', () => {
    expect(bound(query.mod(10).node, queries(13, 17, 0, 0))).toEqual({ low: 3, high: 7 });
    expect(bound(query.mod(10).node, queries(-7, -2, 0, 0))).toEqual({ low: 3, high: 8 });
    expect(bound(query.mod(10).node, queries(8, 12, 0, 0))).toEqual({ low: 0, high: 9 });
  });

  test('a product that overflows float32 but not float64 has no end', () => {
    const doubled = input('score').mul(2).node;
    const { high } = bound(doubled, { input: () => ({ low: 1, high: 2 ** 127 }), uniform: () => 0, table: () => everything });
    expect(high).toBe(Infinity);
    expect(bound(doubled, { input: () => ({ low: 1, high: 2 ** 125 }), uniform: () => 0, table: () => everything }).high).toBeLessThan(2 ** 127);
  });

  test('the absolute value across 0 begins at 0', () => {
    expect(bound(query.abs().node, queries(-3, 5, 0, 0))).toEqual({ low: 0, high: 5 });
  });

  test('an i32 sum that may wrap around says nothing', () => {
    expect(bound(query.add(2 ** 31 - 1).node, queries(0, 1, 0, 0))).toEqual({ low: -(2 ** 31), high: 2 ** 31 - 1 });
  });
});
