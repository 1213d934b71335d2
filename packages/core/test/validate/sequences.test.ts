import { describe, expect, test } from 'vitest';
import { bind } from '../../src/bind.ts';
import { causal } from '../../src/stages/masking/causal.ts';
import { dropout } from '../../src/stages/reweighing/dropout.ts';
import { softmax } from '../../src/stages/normalization/softmax.ts';
import { tensor, zeros } from '../../src/tensor.ts';
import { expectRefusal, inputsOf, requestOf } from './calls.ts';

const request = requestOf({ masking: causal() });
const bound = (sizes: Parameters<typeof inputsOf>[0], rest: object = {}): ReturnType<typeof bind> => bind(request, { ...inputsOf(sizes), ...rest });

describe('offsets', () => {
  const decode = { queryLength: 2, keyLength: 5 };

  test('L3: lengths that differ need one, and both conventions are named', () => {
    expectRefusal(() => bound(decode), 'ambiguous-offset', "'start'", "'end'", ': 3', '2 queries', '5 keys');
    expect(bound(decode, { queryOffset: 'start' }).sequences[0]!.queryOffset).toBe(0);
    expect(bound(decode, { queryOffset: 'end' }).sequences[0]!.queryOffset).toBe(3);
    expect(bound(decode, { queryOffset: -4 }).sequences[0]!.queryOffset).toBe(-4);
    expect(bound(decode, { queryOffset: [1, 7] }).sequences.map(({ queryOffset }) => queryOffset)).toEqual([1, 7]);
    expect(bound(decode, { keyOffset: Int32Array.of(2, -3), queryOffset: 0 }).sequences.map(({ keyOffset }) => keyOffset)).toEqual([2, -3]);
  });

  test('are not needed where nothing depends on them', () => {
    expect(() => bound({})).not.toThrow();
    expect(() => bind(requestOf(), inputsOf(decode))).not.toThrow();
    expect(() => bound({ queryLength: 0, keyLength: 5 })).not.toThrow();
    expect(() => bound({ queryLength: 5, keyLength: 0 })).not.toThrow();
    expect(() => bound(decode, { queryPositions: zeros([1, 2], 'i32') })).not.toThrow();
  });

  test('are needed by random numbers, which are keyed by position', () => {
    expectRefusal(() => bind(requestOf({ normalization: softmax().reweighBy(dropout({ probability: 0.5, seed: 1 })) }), inputsOf(decode)), 'ambiguous-offset');
  });

  test('count the lengths that count', () => {
    expectRefusal(() => bound({}, { keyLengths: [5, 4] }), 'ambiguous-offset', 'Sequence 1');
    expect(() => bound({}, { keyLengths: [5, 4], queryLengths: [5, 4] })).not.toThrow();
    expect(bound({}, { keyLengths: [5, 4], queryLengths: [1, 2], queryOffset: 'end' }).sequences.map(({ queryOffset }) => queryOffset)).toEqual([4, 2]);
    // A shard of a longer sequence: 'end' is the end of the whole.
    expect(bound(decode, { totalKeyLengths: [9, 5], queryOffset: 'end' }).sequences.map(({ queryOffset }) => queryOffset)).toEqual([7, 3]);
  });

  test.each([1.5, Number.NaN, 2 ** 31, -(2 ** 31) - 1, 'middle', true, [1], [1, 2, 3], [1, 0.5], {}, null])('that are no integers are refused: %s', (queryOffset) => {
    expectRefusal(() => bound({}, { queryOffset }), 'invalid-positions', 'queryOffset');
    expectRefusal(() => bound({}, { keyOffset: queryOffset }), 'invalid-positions', 'keyOffset');
  });

  test('may not leave 32 bits, and keys have no end', () => {
    expect(() => bound({}, { queryOffset: 2 ** 31 - 5 })).not.toThrow();
    expectRefusal(() => bound({}, { queryOffset: 2 ** 31 - 4 }), 'invalid-positions');
    expectRefusal(() => bound({}, { keyOffset: 'end' }), 'invalid-positions');
  });
});

describe('positions', () => {
  test('are given for each sequence or for all, through any strides', () => {
    const own = bound({ queryLength: 3 }, { queryPositions: tensor(Int32Array.of(9, 8, 7, 3, 1, 2), [2, 3]) });
    expect(own.sequences.map(({ queryPositions }) => [...queryPositions!])).toEqual([[9, 8, 7], [3, 1, 2]]);
    const shared = bound({ queryLength: 3 }, { keyPositions: tensor(Int32Array.of(5, 0, 6, 0, 7), [1, 3], { strides: [0, 2] }) });
    expect(shared.sequences.map(({ keyPositions }) => [...keyPositions!])).toEqual([[5, 6, 7], [5, 6, 7]]);
  });

  test('are copied: the caller may change them', () => {
    const given = Int32Array.of(1, 2, 3);
    const call = bound({ queryLength: 3 }, { keyPositions: tensor(given, [1, 3]) });
    given[0] = 99;
    expect(call.sequences[0]!.keyPositions![0]).toBe(1);
  });

  test('of another dtype, shape or place are refused', () => {
    expectRefusal(() => bound({}, { queryPositions: zeros([2, 5]) }), 'invalid-dtype', 'i32');
    expectRefusal(() => bound({}, { queryPositions: zeros([2, 4], 'i32') }), 'invalid-positions', '[2, 4]', '2 or 1, 5');
    expectRefusal(() => bound({}, { queryPositions: zeros([3, 5], 'i32') }), 'invalid-positions');
    expectRefusal(() => bound({}, { queryPositions: zeros([5], 'i32') }), 'invalid-positions');
    expectRefusal(() => bound({}, { keyPositions: [1, 2] }), 'invalid-tensor');
  });
});

describe('lengths', () => {
  test('say which rows count', () => {
    const [first, second] = bound({}, { queryLengths: [5, 0], keyLengths: Int32Array.of(5, 3) }).sequences;
    expect(first).toMatchObject({ queryLength: 5, keyLength: 5, totalKeyLength: 5 });
    expect(second).toMatchObject({ queryLength: 0, keyLength: 3, queryRows: 5, keyRows: 5 });
  });

  test.each([[[5]], [[5, 6]], [[5, -1]], [[5, 2.5]], [5], ['55'], [[5, '5']], [null], [{ length: 2 }], [new Float32Array(2)]])('that do not fit are refused: %s', (lengths) => {
    expectRefusal(() => bound({}, { queryLengths: lengths }), 'invalid-lengths', 'queryLengths');
    expectRefusal(() => bound({}, { keyLengths: lengths }), 'invalid-lengths', 'keyLengths');
  });

  test('of whole sequences are no shorter than their shards', () => {
    expect(bound({}, { totalKeyLengths: [5, 9], queryOffset: 0 }).sequences.map(({ totalKeyLength }) => totalKeyLength)).toEqual([5, 9]);
    expectRefusal(() => bound({}, { totalKeyLengths: [5, 4], queryOffset: 0 }), 'invalid-lengths', 'totalKeyLengths');
  });
});

describe('packed sequences', () => {
  const sizes = { batch: 1, queryLength: 6, keyLength: 9 };
  const packed = { query: [0, 2, 2, 6], key: [0, 4, 5, 9] };

  test('are cut by cumulative offsets', () => {
    const call = bound(sizes, { packed, queryOffset: 'end' });
    expect(call.outputShape).toEqual([1, 4, 6, 3]);
    expect(call.sequences.map(({ tensorBatch, queryStart, queryRows, keyStart, keyRows, queryOffset }) => [tensorBatch, queryStart, queryRows, keyStart, keyRows, queryOffset])).toEqual([
      [0, 0, 2, 0, 4, 2],
      [0, 2, 0, 4, 1, 1],
      [0, 2, 4, 5, 4, 0],
    ]);
  });

  test('have positions and lengths of their own', () => {
    const call = bound(sizes, { packed, keyLengths: [3, 1, 4], queryLengths: [2, 0, 3], queryPositions: tensor(Int32Array.from([5, 6, 0, 1, 2, 3]), [1, 6]) });
    expect(call.sequences.map(({ queryPositions }) => [...queryPositions!])).toEqual([[5, 6], [], [0, 1, 2, 3]]);
    expectRefusal(() => bound(sizes, { packed, keyLengths: [5, 1, 4], queryOffset: 0 }), 'invalid-lengths', 'keyLengths[0]', '4 rows');
    expectRefusal(() => bound(sizes, { packed, queryPositions: zeros([3, 6], 'i32') }), 'invalid-positions');
  });

  test.each([
    [{ query: [0, 2, 6], key: [0, 9] }],
    [{ query: [1, 6], key: [0, 9] }],
    [{ query: [0, 5], key: [0, 9] }],
    [{ query: [0, 7], key: [0, 9] }],
    [{ query: [0, 4, 2, 6], key: [0, 3, 6, 9] }],
    [{ query: [], key: [] }],
    [{ query: [0, 6] }],
    [{ query: [0, 1.5, 6], key: [0, 3, 9] }],
    [7],
    [null],
  ])('with offsets that do not fit are refused: %#', (offsets) => {
    expectRefusal(() => bound(sizes, { packed: offsets, queryOffset: 0 }), 'invalid-lengths', 'packed');
  });

  test('stand in one entry of the batch, and need no edge list', () => {
    expectRefusal(() => bound({ batch: 2, queryLength: 6, keyLength: 9 }, { packed, queryOffset: 0 }), 'invalid-shape', 'batch 2');
    expectRefusal(() => bound(sizes, { packed, queryOffset: 0, edges: { starts: zeros([7], 'i32'), keys: zeros([0], 'i32') } }), 'invalid-edges', 'packed');
  });
});

describe('identities', () => {
  test('default to the order, and may be any 32-bit integers', () => {
    expect(bound({}).sequences.map(({ id }) => id)).toEqual([0, 1]);
    expect(bound({}, { sequenceIds: [-7, 41] }).sequences.map(({ id }) => id)).toEqual([-7, 41]);
    expectRefusal(() => bound({}, { sequenceIds: [1] }), 'invalid-argument', 'sequenceIds');
    expectRefusal(() => bound({}, { sequenceIds: [1, 2 ** 31] }), 'invalid-argument');
    expect(bound({}, { headOffset: 8 }).headOffset).toBe(8);
    for (const headOffset of [-1, 0.5, '1', null]) expectRefusal(() => bound({}, { headOffset }), 'invalid-argument', 'headOffset');
  });
});
