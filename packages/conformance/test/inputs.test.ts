import { attention, causal, toFloat64 } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { expect, test } from 'vitest';
import type { Distribution } from '../src/index.ts';
import { distributions, drawInputs, RandomSource } from '../src/index.ts';
import { smallShape } from '../src/inputs.ts';
import { plainAttention } from '../src/plain.ts';

const shape = { ...smallShape, batch: 1, queryLength: 17, keyLength: 17, queryDim: 40, keyDim: 40 };

function largestScore(distribution: Distribution): number {
  const { query, key, value } = drawInputs(new RandomSource(4), shape, { distribution });
  const { scores } = plainAttention({ ...shape, dim: 40, query: toFloat64(query), key: toFloat64(key), value: toFloat64(value) });
  return scores.reduce((most, score) => Math.max(most, Math.abs(score)), 0);
}

test('numbers of a seed are normal: mean 0, variance 1, no skew', () => {
  const random = new RandomSource(9);
  const numbers = Array.from({ length: 20_000 }, () => random.normal());
  const moment = (power: number): number => numbers.reduce((sum, number) => sum + number ** power, 0) / numbers.length;
  expect(Math.abs(moment(1))).toBeLessThan(0.03);
  expect(Math.abs(moment(2) - 1)).toBeLessThan(0.05);
  expect(Math.abs(moment(3))).toBeLessThan(0.1);
});

test('each distribution is what it says', () => {
  expect(largestScore('normal')).toBeLessThan(8);
  expect(largestScore('hugeScores')).toBeGreaterThan(5000);
  expect(largestScore('denormals')).toBeLessThan(1e-70);
  const rows = (distribution: Distribution): Float64Array => toFloat64(drawInputs(new RandomSource(4), shape, { distribution }).key);
  const equal = rows('equalScores');
  expect(equal.subarray(40, 80)).toEqual(equal.subarray(0, 40));
  const near = rows('nearDuplicateKeys');
  expect(Math.abs((near[40] ?? 0) - (near[0] ?? 0))).toBeLessThan(1e-3);
  expect(near[40]).not.toBe(near[0]);
  expect(Object.keys(distributions)).toHaveLength(6);
});

test('both layouts hold the same numbers', () => {
  const [a, b] = (['bhld', 'blhd'] as const).map((layout) => drawInputs(new RandomSource(4), shape, { layout }).query);
  expect(a?.strides).not.toEqual(b?.strides);
  expect(a && toFloat64(a)).toEqual(b && toFloat64(b));
});

test('the plain formula and the float64 reference agree to rounding', async () => {
  const inputs = drawInputs(new RandomSource(6), shape);
  const kernel = await createReferenceBackend().prepare({ variant: attention({ masking: causal() }), queryDim: 40, keyDim: 40, valueDim: 6, dtypes: { output: 'f64' } });
  const { output } = await kernel.run(inputs);
  const plain = plainAttention({ ...shape, dim: 40, query: toFloat64(inputs.query), key: toFloat64(inputs.key), value: toFloat64(inputs.value), allowed: (at) => at.key <= at.query });
  const got = toFloat64(output as typeof inputs.query);
  for (let index = 0; index < got.length; index++) expect(Math.abs((got[index] ?? 0) - (plain.output[index] ?? 0))).toBeLessThan(1e-13);
});
