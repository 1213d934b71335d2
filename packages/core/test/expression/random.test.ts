import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { randomAt, randomKey, threefry2x32, unitInterval } from '../../src/expression/random.ts';

const hex = (words: readonly number[]): string => words.map((word) => (word >>> 0).toString(16).padStart(8, '0')).join(' ');

describe('random', () => {
  // Random123 1.14, tests/kat_vectors, "threefry2x32 20": counter, key, result.
  test.each([
    [[0, 0], [0, 0], '6b200159 99ba4efe'],
    [[-1, -1], [-1, -1], '1cb996fc bb002be7'],
    [[0x243f6a88, 0x85a308d3], [0x13198a2e, 0x03707344], 'c4923a9c 483df7a0'],
  ] as const)('threefry2x32 of counter %j, key %j', ([counter0, counter1], [key0, key1], expected) => {
    expect(hex(threefry2x32(key0, key1, counter0, counter1))).toBe(expected);
  });

  test('numbers are strictly between 0 and 1 and exact in float32', () => {
    fc.assert(fc.property(fc.integer(), (word) => {
      const number = unitInterval(word);
      expect(number > 0 && number < 1 && Math.fround(number) === number).toBe(true);
    }));
    expect(unitInterval(0)).toBe(2 ** -24);
    expect(unitInterval(-1)).toBe(1 - 2 ** -24);
  });

  test('every part of the key matters', () => {
    const base = [5, 1, 2, 3, 7, 11] as const;
    const numbers = base.map((_, changed) => randomAt(...(base.map((value, index) => (index === changed ? value + 1 : value)) as unknown as typeof base)));
    expect(new Set([...numbers, randomAt(...base)]).size).toBe(base.length + 1);
    expect(randomKey(1, 2, 3, 4)).not.toEqual(randomKey(2, 1, 3, 4));
  });

  test('numbers are uniform: mean 1/2 and variance 1/12 within four standard errors', () => {
    const count = 20_000;
    const numbers = Array.from({ length: count }, (_, index) => randomAt(1, 0, 0, 0, index % 100, Math.floor(index / 100)));
    const mean = numbers.reduce((sum, value) => sum + value, 0) / count;
    const variance = numbers.reduce((sum, value) => sum + (value - 0.5) ** 2, 0) / count;
    expect(Math.abs(mean - 1 / 2)).toBeLessThan(4 * Math.sqrt(1 / 12 / count));
    expect(Math.abs(variance - 1 / 12)).toBeLessThan(4 * Math.sqrt(1 / 180 / count));
  });
});
