import { expect, test } from 'vitest';
import { coverPairs } from '../src/pairs.ts';
import { RandomSource } from '../src/random.ts';

const axes = { a: [1, 2, 3, 4], b: ['x', 'y', 'z'], c: [0, 1], d: [5, 6, 7] };

test('every pair of values of two axes stands in a row, in far fewer rows than there are', () => {
  const rows = coverPairs(axes, () => true, new RandomSource(1));
  for (const [first, values] of Object.entries(axes)) {
    for (const [second, others] of Object.entries(axes)) {
      if (first === second) continue;
      for (const a of values) for (const b of others) expect(rows.some((row) => row[first] === a && row[second] === b)).toBe(true);
    }
  }
  expect(rows.length).toBeLessThan(24);
});

test('rows obey what fits; pairs that fit are covered still', () => {
  const fits = (row: Readonly<Record<string, string | number>>): boolean => !(row.a === 4 && row.b === 'z');
  const rows = coverPairs(axes, fits, new RandomSource(2));
  expect(rows.every(fits)).toBe(true);
  expect(rows.some((row) => row.a === 4 && row.b === 'y')).toBe(true);
});

test('the same seed gives the same rows', () => {
  expect(coverPairs(axes, () => true, new RandomSource(3))).toEqual(coverPairs(axes, () => true, new RandomSource(3)));
});
