import { describe, expect, test } from 'vitest';
import { favorFrequencies } from '../../src/compute.ts';
import type { Elementwise, RowNorm, RowTransform } from '../../src/index.ts';
import {
  addRow, attention, based, cosformer, dpfp, elementwise, eluFeatures, expFeatures, favor, hedgehog, l2Norm, layerNorm, none, reluFeatures, rmsNorm, rope, scaledDot,
  transformedWidth,
} from '../../src/index.ts';
import { codeOf } from '../code-of.ts';
import type { Tables } from './place.ts';
import { valueOf, vector } from './place.ts';

const changed = (transform: Elementwise, element: number, tables: Tables = {}, place: { readonly channel?: number; readonly head?: number } = {}): number =>
  valueOf(transform.expression, transform, { element, ...place }, tables);

describe('elementwise', () => {
  test.each<[string, Elementwise, number, number]>([
    ['elu + 1 above 0', eluFeatures(), 2, 3],
    ['elu + 1 at 0', eluFeatures(), 0, 1],
    ['elu + 1 below 0', eluFeatures(), -2, Math.exp(-2)],
    ['elu + 1 where e^x overflows', eluFeatures(), 1000, 1001],
    ['relu above 0', reluFeatures(), 2, 2],
    ['relu below 0', reluFeatures(), -2, 0],
    ['exp', expFeatures(), 2, Math.exp(2)],
    ['a user\'s own', elementwise('squared', ({ element }) => element.mul(element)), 3, 9],
  ])('%s', (_, transform, element, expected) => {
    expect(changed(transform, element)).toBe(expected);
  });

  test('addRow adds the channel of its row, or of the row of the head', () => {
    expect(changed(addRow(), 1, { row: vector([10, 20, 30]) }, { channel: 2 })).toBe(31);
    expect(changed(addRow({ perHead: 'keyHead' }), 1, { row: { sizes: [2, 3], data: [0, 0, 0, 10, 20, 30] } }, { head: 1, channel: 0 })).toBe(11);
    expect(addRow({ perHead: 'keyHead', axis: 'keyDim' }).tables).toEqual({ row: { type: 'f32', axes: ['keyHead', 'keyDim'] } });
  });
});

describe('norms', () => {
  const gainOf = (norm: RowNorm, tables: Tables): number => (norm.gain === null ? 1 : valueOf(norm.gain, norm, { channel: 1 }, tables));
  const tables = { w: vector([5, 0.25]), b: vector([7, -3]) };

  test.each<[string, RowNorm, RowNorm['norm'], number]>([
    ['l2Norm', l2Norm(), 'l2', 1e-12],
    ['rmsNorm', rmsNorm(), 'rms', 1e-6],
    ['layerNorm', layerNorm(), 'layer', 1e-5],
    ['rmsNorm with an ε', rmsNorm({ epsilon: 0.5 }), 'rms', 0.5],
  ])('%s', (_, norm, kind, epsilon) => {
    expect(norm).toMatchObject({ kind: 'norm', norm: kind, gain: null, shift: null });
    expect(valueOf(norm.epsilon, norm, {})).toBe(epsilon);
  });

  test('the weight multiplies, plus one where models store it less one', () => {
    expect(gainOf(rmsNorm({ weight: 'w' }), tables)).toBe(0.25);
    expect(gainOf(rmsNorm({ weight: 'w', onePlusWeight: true }), tables)).toBe(1.25);
    expect(gainOf(l2Norm({ weight: 'w' }), tables)).toBe(0.25);
    expect(rmsNorm({ weight: 'w', axis: 'queryDim' }).tables).toEqual({ w: { type: 'f32', axes: ['queryDim'] } });
  });

  test('layerNorm adds its bias last', () => {
    const norm = layerNorm({ weight: 'w', bias: 'b' });
    expect(norm.shift !== null && valueOf(norm.shift, norm, { channel: 1 }, tables)).toBe(-3);
    expect(Object.keys(norm.tables)).toEqual(['w', 'b']);
  });
});

describe('feature maps', () => {
  test('have the width of their formula', () => {
    expect(transformedWidth(hedgehog(), 5)).toBe(10);
    expect(transformedWidth(cosformer({ horizon: 100 }), 5)).toBe(10);
    expect(transformedWidth(based(), 5)).toBe(1 + 5 + 15);
    expect(transformedWidth(dpfp({ order: 3 }), 5)).toBe(30);
    expect(transformedWidth(favor({ features: 77 }), 5)).toBe(77);
    expect(transformedWidth(eluFeatures(), 5)).toBe(5);
  });

  test('say in the structure what they are, without the horizon', () => {
    const structure = (...maps: readonly RowTransform[]): string => attention({ scoring: scaledDot({ scale: 1 }).transform(...maps), normalization: none() }).structure;
    const texts = [hedgehog(), hedgehog({ softmax: true }), based(), dpfp(), dpfp({ order: 2 }), favor({ features: 8 }), cosformer({ horizon: 4 })].map((map) => structure(map));
    expect(new Set(texts).size).toBe(texts.length);
    expect(structure(cosformer({ horizon: 4 }))).toBe(structure(cosformer({ horizon: 5 })));
  });

  test('favor shares its frequencies between queries and keys', () => {
    expect(attention({ scoring: scaledDot({ scale: 1 }).transform(favor({ features: 8 })) }).tables).toEqual({ favorFrequencies: { type: 'f32', axes: [8, 'queryDim'] } });
  });
});

describe('favorFrequencies', () => {
  const rowsOf = (table: Float32Array, dim: number): readonly Float32Array[] => Array.from({ length: table.length / dim }, (_, row) => table.subarray(row * dim, (row + 1) * dim));
  const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).reduce((sum, value, index) => sum + value * b[index]!, 0);

  test('are orthogonal within blocks of dim rows', () => {
    const rows = rowsOf(favorFrequencies({ features: 20, dim: 8, seed: 3 }), 8);
    for (let a = 0; a < 20; a++) {
      for (let b = 0; b < a; b++) {
        const cosine = dot(rows[a]!, rows[b]!) / Math.sqrt(dot(rows[a]!, rows[a]!) * dot(rows[b]!, rows[b]!));
        if (Math.floor(a / 8) === Math.floor(b / 8)) expect(Math.abs(cosine)).toBeLessThan(1e-6);
      }
    }
    // Rows of different blocks are independent, so some are not orthogonal.
    expect(Math.abs(dot(rows[0]!, rows[9]!))).toBeGreaterThan(1e-3);
  });

  test('have chi-distributed norms: mean square dim and variance 2 · dim, within four standard errors', () => {
    const [dim, features] = [16, 4000];
    const squares = rowsOf(favorFrequencies({ features, dim, seed: 11 }), dim).map((row) => dot(row, row));
    const mean = squares.reduce((sum, value) => sum + value, 0) / features;
    expect(Math.abs(mean - dim)).toBeLessThan(4 * Math.sqrt((2 * dim) / features));
    const variance = squares.reduce((sum, value) => sum + (value - mean) ** 2, 0) / features;
    // Fourth central moment of chi²: 12 dim (dim + 4).
    expect(Math.abs(variance - 2 * dim)).toBeLessThan(4 * Math.sqrt((12 * dim * (dim + 4) - (2 * dim) ** 2) / features));
  });

  test('make features whose product is e^(q·k / √dim) on average, within four standard errors', () => {
    const [dim, features] = [8, 20_000];
    const [query, key] = [[0.5, -1, 0.25, 0.75, -0.5, 1, 0, 0.3], [0.2, 0.4, -0.6, 0.8, 1, -0.3, 0.5, 0.1]].map((row) => row.map((value) => value / dim ** 0.25));
    const feature = (row: ArrayLike<number>, x: readonly number[]): number => Math.exp(dot(row, x) - dot(x, x) / 2);
    const products = rowsOf(favorFrequencies({ features, dim, seed: 5 }), dim).map((row) => feature(row, query!) * feature(row, key!));
    const mean = products.reduce((sum, value) => sum + value, 0) / features;
    const exact = Math.exp(dot(query!, key!));
    const total = query!.map((value, channel) => value + key![channel]!);
    const deviation = Math.sqrt(exact ** 2 * (Math.exp(dot(total, total)) - 1));
    expect(Math.abs(mean - exact)).toBeLessThan((4 * deviation) / Math.sqrt(features));
  });

  test('are the same for the same seed, and finite for odd and single widths', () => {
    expect(favorFrequencies({ features: 9, dim: 5, seed: 1 })).toEqual(favorFrequencies({ features: 9, dim: 5, seed: 1 }));
    expect(favorFrequencies({ features: 9, dim: 5, seed: 1 })).not.toEqual(favorFrequencies({ features: 9, dim: 5, seed: 2 }));
    expect(favorFrequencies({ features: 4, dim: 1, seed: 1 }).every(Number.isFinite)).toBe(true);
  });

  test('more features begin with the fewer', () => {
    expect(favorFrequencies({ features: 12, dim: 4, seed: 1 }).subarray(0, 20)).toEqual(favorFrequencies({ features: 5, dim: 4, seed: 1 }));
  });
});

describe('arguments', () => {
  test.each<[string, () => unknown]>([
    ['rope without a pairing', () => rope({} as { pairing: 'half' })],
    ['rope of odd width', () => rope({ pairing: 'half', width: 3 })],
    ['l2Norm({ epsilon: 0 })', () => l2Norm({ epsilon: 0 })],
    ['rmsNorm({ epsilon: NaN })', () => rmsNorm({ epsilon: Number.NaN })],
    ['dpfp({ order: 0 })', () => dpfp({ order: 0 })],
    ['cosformer({ horizon: 0 })', () => cosformer({ horizon: 0 })],
    ['favor({ features: 0 })', () => favor({ features: 0 })],
    ['favorFrequencies without a seed', () => favorFrequencies({ features: 4, dim: 4 } as Parameters<typeof favorFrequencies>[0])],
  ])('refuses %s', (_, make) => {
    expect(codeOf(make)).toBe('invalid-argument');
  });
});
