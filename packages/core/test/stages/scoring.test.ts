import { describe, expect, test } from 'vitest';
import type { RowTransform, Scoring } from '../../src/index.ts';
import {
  addRow, additive, attention, bilinear, cosine, distance, dot, gat, gatV2, gaussian, isProduct, l2Norm, leakyRelu, lowRank, print, projection, rope, scaledDot, scoring, softcap, window,
} from '../../src/index.ts';
import { codeOf } from '../code-of.ts';
import type { Tables } from './place.ts';
import { valueOf, vector } from './place.ts';

/** scale · Σ combine over rows that are transformed already. */
function scoreOf(member: Scoring, query: readonly number[], key: readonly number[], tables: Tables = {}): number {
  const sum = query.reduce((total, queryElement, channel) => total + valueOf(member.combine, member, { queryElement, keyElement: key[channel]!, channel, batch: 0, head: 0, keyHead: 0 }, tables), 0);
  return sum * valueOf(member.scale, member, {}, {}, query);
}

const transformTables = (transforms: readonly RowTransform[]): unknown => transforms.map(({ tables }) => tables);
const [query, key] = [[1, -2, 0.5, 3], [0.25, 1, -4, 2]] as const;
const product = 1 * 0.25 - 2 * 1 + 0.5 * -4 + 3 * 2;
const squared = 0.75 ** 2 + 3 ** 2 + 4.5 ** 2 + 1;

describe('scores', () => {
  // Formulas of the papers, evaluated here.
  test.each<[string, Scoring, number]>([
    ['dot', dot(), product],
    ['scaledDot', scaledDot(), product / 2],
    ['scaledDot with a scale', scaledDot({ scale: 3 }), product * 3],
    ['bilinear, after its projection', bilinear({ width: 4 }), product],
    ['lowRank, after its projections', lowRank({ rank: 4 }), product / 2],
    ['cosine, after its norms', cosine({ scale: 10 }), product * 10],
    ['distance', distance({ scale: 1 }), -squared],
    ['distance, scaled as a product', distance(), -squared / 2],
    ['gaussian', gaussian({ bandwidth: 3 }), -squared / 18],
    ['gat, after its projections', gat(), query.reduce((sum, value, channel) => sum + value + key[channel]!, 0)],
    ['a user\'s own', scoring('manhattan', ({ queryElement, keyElement }) => queryElement.sub(keyElement).abs().neg(), { scale: 1 }), -(0.75 + 3 + 4.5 + 1)],
  ])('%s', (_, member, expected) => {
    expect(scoreOf(member, query, key)).toBeCloseTo(expected, 12);
  });

  const v = [2, -1, 0.5, 4];
  const sums = query.map((value, channel) => value + key[channel]!);

  test('additive is vᵀ tanh(q + k)', () => {
    const expected = sums.reduce((sum, value, channel) => sum + v[channel]! * Math.tanh(value), 0);
    expect(scoreOf(additive({ width: 4 }), query, key, { vector: vector(v) })).toBeCloseTo(expected, 12);
    expect(scoreOf(additive({ width: 4, scale: 3 }), query, key, { vector: vector(v) })).toBeCloseTo(3 * expected, 12);
    expect(scoreOf(additive({ width: 4, perHead: true }), query, key, { vector: { sizes: [1, 4], data: v } })).toBeCloseTo(expected, 12);
  });

  test('gatV2 is a · leakyRelu(q + k)', () => {
    const expected = sums.reduce((sum, value, channel) => sum + v[channel]! * (value < 0 ? 0.2 * value : value), 0);
    expect(scoreOf(gatV2({ width: 4, perHead: false }), query, key, { vector: vector(v) })).toBeCloseTo(expected, 12);
  });

  test('gat rectifies the sum, after it', () => {
    expect(gat().modifiers.map(({ name }) => name)).toEqual(['leakyRelu']);
  });
});

describe('tables', () => {
  test.each<[string, Scoring, unknown, unknown]>([
    ['additive', additive({ width: 8, bias: true }), [{ queryProjection: { type: 'f32', axes: [8, 'queryDim'] }, queryProjectionBias: { type: 'f32', axes: [8] } }], [{ keyProjection: { type: 'f32', axes: [8, 'keyDim'] } }]],
    ['bilinear on the key\'s side', bilinear({ width: 8 }), [], [{ bilinear: { type: 'f32', axes: [8, 'keyDim'] } }]],
    ['bilinear on the query\'s side', bilinear({ width: 8, side: 'query', perHead: true }), [{ bilinear: { type: 'f32', axes: ['head', 8, 'queryDim'] } }], []],
    ['lowRank', lowRank({ rank: 2, perHead: true }), [{ queryFactor: { type: 'f32', axes: ['head', 2, 'queryDim'] } }], [{ keyFactor: { type: 'f32', axes: ['keyHead', 2, 'keyDim'] } }]],
    ['gat', gat(), [{ queryVector: { type: 'f32', axes: ['head', 1, 'queryDim'] } }], [{ keyVector: { type: 'f32', axes: ['keyHead', 1, 'keyDim'] } }]],
    ['gatV2', gatV2({ width: 8 }), [{ queryProjection: { type: 'f32', axes: ['head', 8, 'queryDim'] } }], [{ keyProjection: { type: 'f32', axes: ['keyHead', 8, 'keyDim'] } }]],
  ])('%s declares its projections', (_, member, queryTables, keyTables) => {
    expect(transformTables(member.queryTransforms)).toEqual(queryTables);
    expect(transformTables(member.keyTransforms)).toEqual(keyTables);
  });

  test('every table of a stage is a table of the variant', () => {
    expect(Object.keys(attention({ scoring: gatV2({ width: 8 }) }).tables).sort()).toEqual(['keyProjection', 'queryProjection', 'vector']);
  });
});

describe('structure', () => {
  test('is the text of a variant, stage by stage', () => {
    const variant = attention({ scoring: scaledDot().transformQuery(addRow({ table: 'u', perHead: 'head' })).modify(softcap(30)), masking: window({ left: 3, right: 0 }) });
    expect(variant.structure).toBe([
      'query ← element + u[head, channel]',
      'score = $scale · Σ queryElement * keyElement',
      'score ← $softcap.cap * tanh(score / $softcap.cap)',
      'allowed = queryPosition - keyPosition <= $window.left && keyPosition - queryPosition <= $window.right',
      'weight = softmax(score, sink none)',
      'weight ← weight',
      'value ← value',
      'output = sum',
      'output ← output',
      '$scale: f32',
      '$softcap.cap: f32',
      '$window.left: i32',
      '$window.right: i32',
      'u: f32[head, scoreDim]',
    ].join('\n'));
  });

  test('products are known as such, whatever their name', () => {
    for (const member of [dot(), scaledDot(), bilinear({ width: 4 }), lowRank({ rank: 4 }), cosine()]) expect(isProduct(member.combine)).toBe(true);
    for (const member of [distance(), additive({ width: 4 }), gat()]) expect(isProduct(member.combine)).toBe(false);
    expect(attention({ scoring: dot() }).structure).toBe(attention({ scoring: scaledDot() }).structure);
  });

  test('both sides of a transform keep their own uniforms', () => {
    const { queryTransforms, keyTransforms, uniforms } = scaledDot().transform(rope({ pairing: 'half', base: 500_000 }));
    expect(Object.keys(uniforms)).toEqual(['scale', 'rope.base', 'rope.magnitude', 'rope.base#2', 'rope.magnitude#2']);
    expect(Object.keys(queryTransforms[0]!.uniforms)).toEqual(['rope.base', 'rope.magnitude']);
    expect(Object.keys(keyTransforms[0]!.uniforms)).toEqual(['rope.base#2', 'rope.magnitude#2']);
  });

  test('two transforms of one side keep their own uniforms', () => {
    const { queryTransforms, uniforms } = scaledDot().transformQuery(l2Norm({ epsilon: 0.5 }), l2Norm({ epsilon: 0.25 }));
    expect(uniforms).toMatchObject({ 'l2Norm.epsilon': { value: 0.5 }, 'l2Norm.epsilon#2': { value: 0.25 } });
    expect(queryTransforms.map((transform) => transform.kind === 'norm' && print(transform.epsilon))).toEqual(['$l2Norm.epsilon', '$l2Norm.epsilon#2']);
  });

  test('methods make new stages and leave the old ones', () => {
    const plain = scaledDot();
    const changed = plain.transform(projection({ width: 4 })).modify(leakyRelu());
    expect([plain.queryTransforms.length, plain.modifiers.length, Object.keys(plain.tables).length]).toEqual([0, 0, 0]);
    expect([changed.queryTransforms.length, changed.keyTransforms.length, changed.modifiers.length]).toEqual([1, 1, 1]);
    expect(Object.isFrozen(changed)).toBe(true);
  });

  test('a stage out of a variant can be extended again', () => {
    const { masking, scoring: inside } = attention({ scoring: scaledDot().modify(softcap(3)), masking: window({ left: 1, right: 0 }) });
    expect(attention({ scoring: inside.modify(softcap(4)), masking: masking.and(window({ left: 2, right: 2 })) }).structure).toContain('$window.left#2');
  });
});

describe('arguments', () => {
  test.each<[string, () => unknown]>([
    ['additive({ width: 0 })', () => additive({ width: 0 })],
    ['bilinear({ width: 1.5 })', () => bilinear({ width: 1.5 })],
    ['lowRank({ rank: -1 })', () => lowRank({ rank: -1 })],
    ['cosine({ epsilon: 0 })', () => cosine({ epsilon: 0 })],
    ['gaussian({ bandwidth: 0 })', () => gaussian({ bandwidth: 0 })],
    ['gatV2 without a width', () => gatV2({} as { width: number })],
    ['projection({ width: 2 ** 31 })', () => projection({ width: 2 ** 31 })],
  ])('refuses %s', (_, make) => {
    expect(codeOf(make)).toBe('invalid-argument');
  });

  test('a scale that is not a number is refused', () => {
    expect(codeOf(() => scaledDot({ scale: Number.NaN }))).toBe('invalid-uniform');
  });
});
