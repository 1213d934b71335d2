import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Modifier } from '../../src/index.ts';
import {
  additiveBias, alibi, alibiSlopes, attention, decomposedBias, headScale, leakyRelu, lengthScaling, relativeQuery, scalableSoftmax, scaledDot, shaw, softcap, t5Bias, t5BucketTable,
  temperature, temperatureTuning,
} from '../../src/index.ts';
import { codeOf } from '../code-of.ts';
import type { Inputs, Tables } from './place.ts';
import { valueOf, vector } from './place.ts';

function modified(modifier: Modifier, inputs: Inputs, tables: Tables = {}, query: readonly number[] = []): number {
  return valueOf(modifier.expression, modifier, inputs, tables, query);
}

/** The numbers of a table, each telling its place. */
function countedRows(rows: number, dim: number): { readonly sizes: readonly number[]; readonly data: readonly number[]; readonly row: (row: number) => readonly number[] } {
  const data = Array.from({ length: rows * dim }, (_, index) => Math.sin(index + 1));
  return { sizes: [rows, dim], data, row: (row) => data.slice(row * dim, (row + 1) * dim) };
}

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, index) => sum + value * b[index]!, 0);

describe('pointwise', () => {
  // Formulas of the papers, evaluated here.
  test.each<[string, Modifier, number, number]>([
    ['softcap', softcap(50), 30, 50 * Math.tanh(30 / 50)],
    ['softcap of a huge score', softcap(2), 1e6, 2],
    ['temperature', temperature(4), 6, 1.5],
    ['leakyRelu above 0', leakyRelu(), 3, 3],
    ['leakyRelu below 0', leakyRelu(), -3, -3 * 0.2],
    ['leakyRelu with another slope', leakyRelu({ slope: 0.5 }), -3, -1.5],
  ])('%s', (_, modifier, score, expected) => {
    expect(modified(modifier, { score })).toBeCloseTo(expected, 12);
  });

  test('headScale multiplies by the factor of the head', () => {
    expect(modified(headScale(), { score: 3, head: 1 }, { headScale: vector([7, 10, 8]) })).toBe(30);
  });

  test('additiveBias is read by rows', () => {
    const data = Array.from({ length: 2 * 2 * 3 * 4 }, (_, index) => index);
    expect(modified(additiveBias(), { score: 100, batch: 1, head: 0, queryIndex: 2, keyIndex: 3 }, { bias: { sizes: [2, 2, 3, 4], data } })).toBe(100 + 1 * 24 + 0 * 12 + 2 * 4 + 3);
  });
});

describe('alibi', () => {
  test('slopes of a power of two halve at each step for 8 heads', () => {
    expect([...alibiSlopes(8)]).toEqual([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]);
    expect([...alibiSlopes(1)]).toEqual([2 ** -8]);
  });

  test('slopes of other counts append every second slope of twice the power of two below', () => {
    const expected = [...[1, 2, 3, 4, 5, 6, 7, 8].map((step) => 2 ** -step), 0.70710678, 0.35355339, 0.1767767, 0.08838835];
    [...alibiSlopes(12)].forEach((slope, head) => expect(slope).toBeCloseTo(expected[head]!, 7));
  });

  test('the bias falls with the distance on both sides', () => {
    const tables = { slopes: vector([0.5, 0.25]) };
    expect(modified(alibi(), { score: 1, head: 1, queryPosition: 3, keyPosition: 9 }, tables)).toBe(1 - 0.25 * 6);
    expect(modified(alibi(), { score: 1, head: 0, queryPosition: 9, keyPosition: 3 }, tables)).toBe(1 - 0.5 * 6);
  });

  test('a position beyond 2²⁴ keeps its low bit, since positions are subtracted as integers', () => {
    expect(modified(alibi(), { score: 0, head: 0, queryPosition: 2 ** 24 + 1, keyPosition: 2 ** 24 }, { slopes: vector([1]) })).toBe(-1);
  });
});

describe('t5Bias', () => {
  // Raffel 2020 as released: d is keyPosition − queryPosition.
  test.each([[-8, 8], [-16, 10], [-32, 12], [-64, 14], [-128, 15], [1, 17], [8, 24], [127, 31], [0, 0], [-7, 7], [7, 23]])('in both directions, offset %d is in bucket %d', (offset, bucket) => {
    expect(t5BucketTable({ bidirectional: true })[offset + 128]).toBe(bucket);
  });

  test.each([[-15, 15], [-16, 16], [-20, 17], [-32, 21], [-64, 26], [-128, 31], [1, 0], [128, 0], [0, 0]])('causally, offset %d is in bucket %d', (offset, bucket) => {
    expect(t5BucketTable({ bidirectional: false })[offset + 128]).toBe(bucket);
  });

  test('agrees with logarithms wherever they are not on an edge', () => {
    const sizes = fc.record({ buckets: fc.integer({ min: 2, max: 40 }), spread: fc.integer({ min: 1, max: 200 }) });
    fc.assert(fc.property(sizes, ({ buckets, spread }) => {
      const exact = Math.floor(buckets / 2);
      const maxDistance = exact + spread;
      const table = t5BucketTable({ buckets, maxDistance, bidirectional: false });
      for (let distance = exact; distance <= maxDistance; distance++) {
        const place = (Math.log(distance / exact) / Math.log(maxDistance / exact)) * (buckets - exact);
        if (Math.abs(place - Math.round(place)) < 1e-9) continue;
        expect(table[maxDistance - distance]).toBe(exact + Math.floor(place));
      }
    }));
  });

  test('adds the bias of the head and bucket, and everything far is in the last bucket', () => {
    const bias = Array.from({ length: 64 }, (_, index) => index);
    const tables = { t5Bias: { sizes: [2, 32], data: bias }, t5Buckets: vector(t5BucketTable({ bidirectional: true })) };
    expect(modified(t5Bias(), { score: 0.5, head: 1, queryPosition: 20, keyPosition: 4 }, tables)).toBe(0.5 + 32 + 10);
    expect(modified(t5Bias(), { score: 0.5, head: 0, queryPosition: 0, keyPosition: 100_000 }, tables)).toBe(0.5 + 31);
    expect(modified(t5Bias(), { score: 0.5, head: 0, queryPosition: 100_000, keyPosition: 0 }, tables)).toBe(0.5 + 15);
  });
});

describe('vectors by position', () => {
  const query = [0.5, -1, 2];
  const scale = 1 / Math.sqrt(3);

  test('shaw adds the scaled product with the vector of the clipped offset', () => {
    const relativeKeys = countedRows(7, 3);
    for (const [queryPosition, keyPosition, row] of [[5, 5, 3], [5, 6, 4], [5, 3, 1], [5, 90, 6], [90, 5, 0]] as const) {
      expect(modified(shaw({ maxOffset: 3 }), { score: 1, queryPosition, keyPosition }, { relativeKeys }, query)).toBeCloseTo(1 + scale * dot(query, relativeKeys.row(row)), 12);
    }
  });

  test('shaw takes another scale', () => {
    const relativeKeys = countedRows(3, 3);
    expect(modified(shaw({ maxOffset: 1, scale: 2 }), { score: 1, queryPosition: 0, keyPosition: 0 }, { relativeKeys }, query)).toBeCloseTo(1 + 2 * dot(query, relativeKeys.row(1)), 12);
  });

  test('relativeQuery completes Transformer-XL: [(q + u)·k + (q + v)·r] / √dim', () => {
    const [u, v, key] = [[1, 2, 3], [-2, 0.5, 1], [0.25, 4, -1]] as const;
    const rows = 6;
    const relative = countedRows(rows, 3);
    const difference = v.map((value, channel) => value - u[channel]!);
    const bias = Array.from({ length: rows }, (_, row) => dot(difference, relative.row(row)));
    const shifted = query.map((value, channel) => value + u[channel]!);
    const tables: Tables = { relativeRows: { sizes: [1, rows, 3], data: relative.data }, relativeRowsBias: { sizes: [1, rows], data: bias } };
    for (const distance of [0, 2, 5]) {
      const expected = (dot(shifted, key) + dot(query.map((value, channel) => value + v[channel]!), relative.row(distance))) * scale;
      const content = dot(shifted, key) * scale;
      expect(modified(relativeQuery({ rows, bias: true }), { score: content, head: 0, queryPosition: 9, keyPosition: 9 - distance }, tables, shifted)).toBeCloseTo(expected, 12);
    }
  });

  test('relativeQuery starts at `first`, and takes the row at the end beyond it', () => {
    const relativeRows = countedRows(5, 3);
    const modifier = relativeQuery({ rows: 5, first: -2, perHead: false, scale: 1 });
    for (const [distance, row] of [[-9, 0], [-2, 0], [0, 2], [2, 4], [9, 4]] as const) {
      expect(modified(modifier, { score: 0, head: 0, queryPosition: distance, keyPosition: 0 }, { relativeRows }, query)).toBeCloseTo(dot(query, relativeRows.row(row)), 12);
    }
  });

  test('decomposedBias adds the products for row and column distance, unscaled', () => {
    const [height, width] = [3, 4];
    const tables = { relativeHeight: countedRows(5, 3), relativeWidth: countedRows(7, 3) };
    const modifier = decomposedBias({ height, width });
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let keyY = 0; keyY < height; keyY++) {
          for (let keyX = 0; keyX < width; keyX++) {
            const expected = 1 + dot(query, tables.relativeHeight.row(y - keyY + 2)) + dot(query, tables.relativeWidth.row(x - keyX + 3));
            expect(modified(modifier, { score: 1, queryPosition: y * width + x, keyPosition: keyY * width + keyX }, tables, query)).toBeCloseTo(expected, 12);
          }
        }
      }
    }
  });
});

describe('lengths', () => {
  test('lengthScaling multiplies by ln n / ln trained, n the keys that a causal query sees', () => {
    const at = (queryPosition: number): number => modified(lengthScaling({ trained: 512 }), { score: 2, queryPosition, keyLength: 9 });
    expect(at(511)).toBeCloseTo(2, 12);
    expect(at(512 ** 2 - 1)).toBeCloseTo(4, 12);
    expect(at(0)).toBe(0);
  });

  test('lengthScaling by keys does not see the position', () => {
    expect(modified(lengthScaling({ trained: 16, measure: 'keys' }), { score: 2, queryPosition: 0, keyLength: 256 })).toBeCloseTo(4, 12);
  });

  test('lengthScaling onlyLonger leaves short rows alone', () => {
    const at = (queryPosition: number): number => modified(lengthScaling({ trained: 512, onlyLonger: true }), { score: 2, queryPosition, keyLength: 9 });
    expect(at(3)).toBe(2);
    expect(at(512 ** 2 - 1)).toBeCloseTo(4, 12);
  });

  test('scalableSoftmax multiplies by a ln n', () => {
    expect(modified(scalableSoftmax(), { score: 2, head: 1, queryPosition: 99, keyLength: 1 }, { lengthFactors: vector([9, 0.43]) })).toBeCloseTo(2 * 0.43 * Math.log(100), 12);
  });

  test('temperatureTuning steps at every 8192nd key', () => {
    const factor = (queryPosition: number): number => modified(temperatureTuning(), { score: 1, queryPosition });
    expect(factor(0)).toBe(1);
    expect(factor(8190)).toBe(1);
    expect(factor(8191)).toBeCloseTo(1 + 0.1 * Math.log(2), 12);
    expect(factor(131_071)).toBeCloseTo(1 + 0.1 * Math.log(17), 12);
  });
});

describe('in a variant', () => {
  test('two of a kind keep their own parameters, and other values are the same structure', () => {
    const twice = (first: number, second: number): ReturnType<typeof attention> => attention({ scoring: scaledDot().modify(softcap(first), softcap(second)) });
    const variant = twice(30, 50);
    expect(variant.uniforms['softcap.cap']?.value).toBe(30);
    expect(variant.uniforms['softcap.cap#2']?.value).toBe(50);
    expect(variant.structure).toBe(twice(7, 7).structure);
    expect(variant.structure).not.toBe(attention({ scoring: scaledDot().modify(softcap(30)) }).structure);
  });

  test('the order of modifiers is the order of the variant', () => {
    const structure = (...modifiers: readonly Modifier[]): string => attention({ scoring: scaledDot().modify(...modifiers) }).structure;
    expect(structure(softcap(30), alibi())).not.toBe(structure(alibi(), softcap(30)));
  });

  test('the variant is frozen through and through', () => {
    const frozen = (value: unknown): boolean => typeof value !== 'object' || value === null || (Object.isFrozen(value) && Object.values(value).every(frozen));
    expect(frozen(attention({ scoring: scaledDot().modify(shaw({ maxOffset: 2 }), t5Bias()) }))).toBe(true);
  });
});

describe('arguments', () => {
  test.each<[string, () => unknown]>([
    ['softcap(0)', () => softcap(0)],
    ['softcap(Infinity)', () => softcap(Infinity)],
    ['temperature(-1)', () => temperature(-1)],
    ['temperature of a string', () => temperature('1' as unknown as number)],
    ['alibiSlopes(0)', () => alibiSlopes(0)],
    ['lengthScaling({ trained: 1 })', () => lengthScaling({ trained: 1 })],
    ['temperatureTuning({ step: 0 })', () => temperatureTuning({ step: 0 })],
    ['t5BucketTable with an odd number for two directions', () => t5BucketTable({ buckets: 31, bidirectional: true })],
    ['t5BucketTable with a distance below the exact ones', () => t5BucketTable({ buckets: 32, maxDistance: 16, bidirectional: false })],
    ['t5Bias({ buckets: 0 })', () => t5Bias({ buckets: 0 })],
    ['shaw({ maxOffset: 0 })', () => shaw({ maxOffset: 0 })],
    ['relativeQuery({ rows: 0 })', () => relativeQuery({ rows: 0 })],
    ['decomposedBias({ width: 0 })', () => decomposedBias({ height: 4, width: 0 })],
  ])('refuses %s', (_, make) => {
    expect(codeOf(make)).toBe('invalid-argument');
  });
});
