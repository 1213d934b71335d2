import { describe, expect, test } from 'vitest';
import type { AttentionInputs, AttentionRequest, EnqueueOptions } from '../../src/backend.ts';
import { bind, createBinder } from '../../src/bind.ts';
import { sigmoid } from '../../src/stages/normalization/sigmoid.ts';
import { scaledDot } from '../../src/stages/scoring/scaled-dot.ts';
import { alibi } from '../../src/stages/modifiers/alibi.ts';
import { projection } from '../../src/stages/transforms/projection.ts';
import { tensor, zeros } from '../../src/tensor.ts';
import { expectRefusal, inputsOf, requestOf } from './calls.ts';

describe('tensors to write to', () => {
  const into = (given: EnqueueOptions['into'], request: AttentionRequest = requestOf()): unknown => bind(request, inputsOf(), { into: given! });

  test('have the shape and dtype of the result, in any layout', () => {
    expect(() => into({ output: zeros([2, 4, 5, 3]), logSumExp: zeros([2, 4, 5]) })).not.toThrow();
    expect(() => into({ output: tensor(new Float32Array(120), [2, 4, 5, 3], { layout: 'blhd' }) })).not.toThrow();
    expectRefusal(() => into({ output: zeros([2, 4, 5, 4]) }), 'invalid-shape', 'into.output', '[2, 4, 5, 3]');
    expectRefusal(() => into({ output: zeros([2, 4, 5, 3], 'f16') }), 'invalid-dtype', 'f16');
    expectRefusal(() => into({ logSumExp: zeros([2, 4, 5, 1]) }), 'invalid-shape', 'into.logSumExp');
    expectRefusal(() => into(3 as never), 'invalid-argument');
  });

  test('do not overlap themselves', () => {
    expectRefusal(() => into({ output: tensor(new Float32Array(120), [2, 4, 5, 3], { strides: [60, 15, 3, 0] }) }), 'invalid-tensor', 'share memory');
    expectRefusal(() => into({ output: tensor(new Float32Array(120), [2, 4, 5, 3], { strides: [60, 15, 2, 1] }) }), 'invalid-tensor', 'share memory');
  });

  test('L5: logSumExp exists for softmax only', () => {
    expectRefusal(() => into({ logSumExp: zeros([2, 4, 5]) }, requestOf({ normalization: sigmoid() })), 'invalid-argument', 'logSumExp');
  });
});

describe('observed stages', () => {
  const observing = (observe: Partial<NonNullable<AttentionRequest['observe']>> = {}): AttentionRequest => requestOf({}, { observe: { stages: ['scores', 'weights'], ...observe } });
  const look = (observe: AttentionInputs['observe'], request = observing()): unknown => bind(request, { ...inputsOf(), observe: observe! });

  test('are of rows and heads that exist', () => {
    expect(() => look({ rows: [4, 0], heads: Int32Array.of(3) })).not.toThrow();
    expectRefusal(() => look({ rows: [5] }), 'invalid-argument', 'observe.rows', '4');
    expectRefusal(() => look({ heads: [-1] }), 'invalid-argument', 'observe.heads');
    expectRefusal(() => look({ heads: 2 as never }), 'invalid-argument');
    expectRefusal(() => look(2 as never), 'invalid-argument');
    expectRefusal(() => look({ rows: [0] }, requestOf()), 'invalid-argument', 'observes nothing');
  });

  test('stay within their budget, to the byte', () => {
    // 2 stages × batch 2 × 4 heads × 5 rows × 5 keys × 4 bytes.
    expect(() => look({}, observing({ byteBudget: 1600 }))).not.toThrow();
    expectRefusal(() => look({}, observing({ byteBudget: 1599 })), 'byte-budget', '1600', '1599');
    expect(() => look({ rows: [1], heads: [1] }, observing({ byteBudget: 80 }))).not.toThrow();
    expectRefusal(() => look({ rows: [1], heads: [1] }, observing({ byteBudget: 119, keyMass: true })), 'byte-budget', '120');
  });
});

describe('keys alone', () => {
  const scoring = scaledDot().transformQuery(projection({ width: 6, table: 'forQueries' })).transformKey(projection({ width: 6, table: 'forKeys' })).modify(alibi());
  const { bindKeys } = createBinder(requestOf({ scoring }));
  const key = zeros([2, 2, 5, 4]);

  test('need only what key transforms read', () => {
    const call = bindKeys({ key, tables: { forKeys: zeros([6, 4]) }, keyOffset: 3 });
    expect(call).toMatchObject({ heads: 2, keyHeads: 2, scoreDim: 6, keyRows: 5 });
    expect(Object.keys(call.tables)).toEqual(['forKeys']);
    expect(call.sequences.map(({ keyOffset, keyLength, queryLength }) => [keyOffset, keyLength, queryLength])).toEqual([[3, 5, 0], [3, 5, 0]]);
    // Other tables of the variant may come along; their sizes are the whole call's matter.
    expect(() => bindKeys({ key, tables: { forKeys: zeros([6, 4]), slopes: zeros([4]) } })).not.toThrow();
  });

  test('are refused as in a call', () => {
    expectRefusal(() => bindKeys({ key }), 'missing-table', 'forKeys');
    expectRefusal(() => bindKeys({ key, tables: { forKeys: zeros([6, 5]) } }), 'invalid-table');
    expectRefusal(() => bindKeys({ key, tables: { other: zeros([6, 5]) } }), 'unknown-table');
    expectRefusal(() => bindKeys({ key: zeros([2, 2, 5, 5]) }), 'invalid-shape');
    expectRefusal(() => bindKeys(null as never), 'invalid-argument');
    expectRefusal(() => bindKeys({ key, tables: { forKeys: zeros([6, 4]) }, packed: { query: [0], key: [0, 4] } }), 'invalid-lengths');
  });

  test('may be packed', () => {
    const packed = { query: [0, 9], key: [0, 2, 5] };
    const call = bindKeys({ key: zeros([1, 2, 5, 4]), tables: { forKeys: zeros([6, 4]) }, packed });
    expect(call.sequences.map(({ keyStart, keyRows }) => [keyStart, keyRows])).toEqual([[0, 2], [2, 3]]);
  });
});
