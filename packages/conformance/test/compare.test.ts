import fc from 'fast-check';
import { expect, test } from 'vitest';
import { commonFactor, compare, firstDifferentBit, ulpDistance } from '../src/compare.ts';
import { describeDifference, describePlace } from '../src/difference-text.ts';

const bound = { absolute: 1e-6, relative: 1e-3 };

test('the share of the bound is |got − want| / (absolute + relative · |want|)', () => {
  const { share, absolute, relative, at, got, want } = compare([1, 2.001, 3], [1, 2, 3], bound);
  expect([at, got, want]).toEqual([1, 2.001, 2]);
  expect(absolute).toBeCloseTo(1e-3, 9);
  expect(relative).toBeCloseTo(5e-4, 9);
  expect(share).toBeCloseTo(1e-3 / (1e-6 + 2e-3), 6);
});

test('NaN equals NaN only, an infinity only itself', () => {
  expect(compare([Number.NaN, Infinity, -Infinity], [Number.NaN, Infinity, -Infinity], bound).share).toBe(0);
  for (const [got, want] of [[Number.NaN, 1], [1, Number.NaN], [Infinity, 1e38], [-Infinity, Infinity], [0, Number.NaN]] as const) expect(compare([got], [want], bound).share).toBe(Infinity);
});

test('another length is infinitely far, and a bound of 0 allows nothing', () => {
  expect(compare([1], [1, 2], bound).share).toBe(Infinity);
  expect(compare([1 + 2 ** -52], [1], { absolute: 0, relative: 0 }).share).toBe(Infinity);
});

test('ULP: neighbours are one apart, across 0 too', () => {
  expect(ulpDistance(1, 1 + 2 ** -23, 'f32')).toBe(1);
  expect(ulpDistance(1, 1 + 2 ** -10, 'f16')).toBe(1);
  expect(ulpDistance(1, 1 + 2 ** -7, 'bf16')).toBe(1);
  expect(ulpDistance(-(2 ** -149), 2 ** -149, 'f32')).toBe(2);
});

test('equal bits: +0 and −0 differ, NaN is itself', () => {
  expect(firstDifferentBit([0, 1], [-0, 1])).toBe(0);
  expect(firstDifferentBit([Number.NaN, 1], [Number.NaN, 1])).toBe(-1);
  expect(firstDifferentBit([1, 2], [1, 2, 3])).toBe(2);
});

test('what is within the bound has a share of at most 1', () => {
  fc.assert(fc.property(fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e6, max: 1e6 }), fc.double({ min: -0.999, max: 0.999, noNaN: true }), (want, part) => {
    const got = want + part * (bound.absolute + bound.relative * Math.abs(want));
    expect(compare([got], [want], bound).share).toBeLessThanOrEqual(1);
  }));
});

test('a place is the index along each axis', () => {
  // Row-major: ((1 · 3 + 2) · 4 + 3) · 5 + 4 = 119.
  expect(describePlace(119, { shape: [2, 3, 4, 5], names: ['batch', 'head', 'row', 'channel'] })).toBe('[batch 1, head 2, row 3, channel 4]');
  expect(describePlace(7, { shape: [2, 5], names: [] })).toBe('[1, 2]');
  expect(describePlace(7, undefined)).toBe('element 7');
});

test('a difference is told in percent and in bounds, where there are such', () => {
  const told = (got: number, want: number): string => describeDifference(compare([got], [want], bound), bound);
  // 0.02 / 2 is 1 %, and 0.02 / (1e-6 + 2e-3) is 9.995 bounds.
  expect(told(2.02, 2)).toBe('2.02, expected 2: 1.0 % off, 10 × the bound 1.00e-6 + 1.00e-3 · |expected|');
  expect(told(0.5, 0)).toBe('0.5, expected 0: 500000 × the bound 1.00e-6 + 1.00e-3 · |expected|');
  expect(told(Number.NaN, 2)).toBe('NaN, expected 2: the bound is 1.00e-6 + 1.00e-3 · |expected|');
});

test('a common factor is one that explains every element', () => {
  expect(commonFactor([1.01, 2.02, -3.03, 0], [1, 2, -3, 0], bound)).toBeCloseTo(1.01, 6);
  expect(commonFactor([1.01, 2.02, 3], [1, 2, 3], bound)).toBeNull();
  expect(commonFactor([1.01, Number.NaN], [1, 2], bound)).toBeNull();
  expect(commonFactor([1, 1], [0, 0], bound)).toBeNull();
  expect(commonFactor([-1, -2, -Infinity], [1, 2, -Infinity], bound)).toBe(-1);
});
