import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AttentionInputs, AttentionRequest } from '../../src/backend.ts';
import { bind, createBinder } from '../../src/bind.ts';
import { isAttentionError } from '../../src/errors.ts';
import { alibi } from '../../src/stages/modifiers/alibi.ts';
import { causal } from '../../src/stages/masking/causal.ts';
import { documents } from '../../src/stages/masking/documents.ts';
import { scaledDot } from '../../src/stages/scoring/scaled-dot.ts';
import { softmax } from '../../src/stages/normalization/softmax.ts';
import { tensor, zeros } from '../../src/tensor.ts';
import { checkRequest } from '../../src/validate/request.ts';
import { inputsOf, requestOf } from './calls.ts';

/** Runs the work; true when it was accepted. Anything but an AttentionError fails the test. */
function accepts(work: () => unknown): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (isAttentionError(error)) return false;
    throw error;
  }
}

const garbage: fc.Arbitrary<unknown> = fc.oneof(
  fc.anything({ withTypedArray: true, withNullPrototype: true, withBigInt: true, withObjectString: true, withSparseArray: true, maxDepth: 3 }),
  fc.constantFrom(Symbol('x'), () => 1, new Proxy({}, {}), Number.NaN, -0, '', new Int32Array(3)),
  fc.record({ dtype: fc.anything(), shape: fc.anything(), strides: fc.anything(), runtime: fc.anything(), view: fc.anything() }, { requiredKeys: [] }),
  fc.record({
    dtype: fc.constantFrom('f32', 'i32', 'u8', 'x'),
    shape: fc.array(fc.oneof(fc.integer({ min: -1, max: 6 }), fc.double()), { maxLength: 5 }),
    strides: fc.array(fc.oneof(fc.integer({ min: -1, max: 99 }), fc.double()), { maxLength: 5 }),
    runtime: fc.constant(null),
    view: fc.constantFrom(() => new Float32Array(64), () => new Int32Array(64), () => null, () => [1, 2]),
  }),
  fc.record({ blockQuery: fc.integer({ min: -1, max: 3 }), blockKey: fc.anything(), counts: fc.constantFrom(zeros([1, 1, 3], 'i32'), zeros([3], 'i32')), indices: fc.constantFrom(zeros([1, 1, 3, 2], 'i32'), null) }, { requiredKeys: [] }),
  fc.record({ query: fc.anything(), key: fc.anything(), starts: fc.constantFrom(zeros([6], 'i32'), zeros([0], 'i32')), keys: fc.constantFrom(zeros([0], 'i32'), zeros([2], 'f32')) }, { requiredKeys: [] }),
);

const request = requestOf({ scoring: scaledDot().modify(alibi()), masking: causal().and(documents()), normalization: softmax({ sink: true }) }, { observe: { stages: ['weights'] } });
const { bind: bindRich } = createBinder(request);
const tables = { slopes: zeros([4]), sink: zeros([4]), queryDocuments: zeros([2, 5], 'i32'), keyDocuments: zeros([2, 5], 'i32') };
const valid = inputsOf({}, { tables });
const fields = [
  'query', 'key', 'value', 'tables', 'uniforms', 'queryOffset', 'keyOffset', 'queryPositions', 'keyPositions', 'queryLengths', 'keyLengths', 'totalKeyLengths', 'packed', 'sequenceIds', 'headOffset',
  'blocks', 'edges', 'pages', 'keysTransformed', 'observe',
] as const;

describe('whatever a call is given', () => {
  test('the control case is accepted', () => {
    expect(accepts(() => bindRich(valid))).toBe(true);
  });

  test('it is bound or refused with a typed error: one field', () => {
    fc.assert(fc.property(fc.constantFrom(...fields), garbage, (field, value) => void accepts(() => bindRich({ ...valid, [field]: value }))), { numRuns: 1000 });
  });

  test('it is bound or refused with a typed error: several fields, tables and outputs', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...fields), garbage), fc.dictionary(fc.constantFrom('slopes', 'sink', 'queryDocuments', 'x', '__proto__'), garbage), garbage, (given, someTables, into) => {
        accepts(() => bindRich({ ...valid, tables: { ...tables, ...someTables }, ...given }, { into: into as never }));
        accepts(() => bindRich({ ...valid, tables: { ...tables, ...someTables } }, { into: { output: into } as never }));
      }),
      { numRuns: 300 },
    );
  });

  test('it is bound or refused with a typed error: anything at all', () => {
    fc.assert(fc.property(garbage, (inputs) => void accepts(() => bindRich(inputs as AttentionInputs))), { numRuns: 500 });
  });

  test('requests are accepted or refused with a typed error', () => {
    const names = ['variant', 'queryDim', 'keyDim', 'valueDim', 'dtypes', 'storage', 'observe', 'gradients'] as const;
    fc.assert(fc.property(fc.dictionary(fc.constantFrom(...names), garbage), (given) => void accepts(() => checkRequest({ ...request, ...given }))), { numRuns: 1000 });
    fc.assert(fc.property(garbage, (given) => void accepts(() => checkRequest(given as AttentionRequest))), { numRuns: 500 });
  });
});

describe('no wrong shape is accepted, and no right one refused', () => {
  const size = fc.integer({ min: 0, max: 3 });
  const shape = fc.tuple(size, size, size, fc.integer({ min: 2, max: 4 }));

  test('of query, key and value', () => {
    fc.assert(
      fc.property(shape, shape, shape, (query, key, value) => {
        const [batch, heads] = query;
        const right = query[3] === 4 && key[3] === 4 && value[3] === 3 && key[0] === batch && value[0] === batch && key[1] === value[1] && key[2] === value[2] && heads > 0 && key[1] > 0 && heads % key[1] === 0;
        expect(accepts(() => bind(requestOf(), { query: zeros(query), key: zeros(key), value: zeros(value) }))).toBe(right);
      }),
      { numRuns: 1000 },
    );
    // The same, started from calls that fit, so that both answers are frequent.
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 2 }), size, size, fc.nat(2), fc.nat(3), fc.integer({ min: 0, max: 4 }), (batch, keyHeads, queryLength, keyLength, which, axis, changed) => {
        const shapes = [[batch, keyHeads * 2, queryLength, 4], [batch, keyHeads, keyLength, 4], [batch, keyHeads, keyLength, 3]];
        const before = shapes[which]![axis]!;
        shapes[which]![axis] = changed;
        const isHeads = which === 0 && axis === 1 && changed > 0 && changed % keyHeads === 0;
        const isQueryLength = which === 0 && axis === 2;
        expect(accepts(() => bind(requestOf(), { query: zeros(shapes[0]!), key: zeros(shapes[1]!), value: zeros(shapes[2]!) }))).toBe(changed === before || isHeads || isQueryLength);
      }),
      { numRuns: 1000 },
    );
  });

  test('of memory: exactly the elements that shape and strides reach', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 4, maxLength: 4 }), fc.nat(200), (strides, length) => {
        // Independent count: the furthest element, one by one.
        let furthest = -1;
        for (let b = 0; b < 2; b++) for (let h = 0; h < 2; h++) for (let l = 0; l < 3; l++) for (let d = 0; d < 4; d++) furthest = Math.max(furthest, b * strides[0]! + h * strides[1]! + l * strides[2]! + d * strides[3]!);
        const query = { dtype: 'f32' as const, shape: [2, 2, 3, 4], strides, runtime: null, view: () => new Float32Array(length) };
        expect(accepts(() => bind(requestOf(), { ...inputsOf({ heads: 2, queryLength: 3 }), query }))).toBe(length > furthest);
      }),
    );
  });

  test('of lengths and packed offsets', () => {
    const count = fc.integer({ min: -1, max: 6 });
    fc.assert(
      fc.property(fc.array(count, { maxLength: 3 }), (lengths) => {
        const right = lengths.length === 2 && lengths.every((length) => length >= 0 && length <= 5);
        expect(accepts(() => bind(requestOf(), { ...inputsOf(), keyLengths: lengths }))).toBe(right);
      }),
    );
    fc.assert(
      fc.property(fc.array(count, { maxLength: 4 }), fc.array(count, { maxLength: 4 }), (query, key) => {
        const cumulative = (offsets: readonly number[]): boolean => offsets.length > 0 && offsets[0] === 0 && offsets.at(-1) === 5 && offsets.every((offset, index) => index === 0 || offset >= offsets[index - 1]!);
        const right = cumulative(query) && cumulative(key) && query.length === key.length;
        expect(accepts(() => bind(requestOf(), { ...inputsOf({ batch: 1 }), packed: { query, key } }))).toBe(right);
      }),
      { numRuns: 1000 },
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), fc.array(fc.nat(3), { minLength: 4, maxLength: 4 }), (sequences, steps) => {
        const offsets = [0, ...steps.slice(0, sequences)].map((_, index, all) => all.slice(0, index + 1).reduce((sum, step) => sum + step, 0));
        const rows = offsets.at(-1)!;
        const call = bind(requestOf(), { ...inputsOf({ batch: 1, queryLength: rows }), packed: { query: offsets, key: Int32Array.from(offsets) } });
        expect(call.sequences.map(({ queryRows }) => queryRows)).toEqual(steps.slice(0, sequences));
      }),
    );
  });

  test('of tables', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 2 }), (slopes) => {
        expect(accepts(() => bindRich({ ...valid, tables: { ...tables, slopes: zeros(slopes) } }))).toBe(slopes.length === 1 && (slopes[0] === 4 || slopes[0] === 1));
      }),
    );
  });

  test('of edges: unique, in range, ascending starts', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 4, maxLength: 4 }), fc.array(fc.integer({ min: -1, max: 3 }), { maxLength: 4 }), (starts, keys) => {
        const cumulative = starts[0] === 0 && starts[3] === keys.length && starts.every((start, index) => index === 0 || start >= starts[index - 1]!);
        const rows = [0, 1, 2].map((row) => keys.slice(starts[row], starts[row + 1]));
        const right = cumulative && keys.every((key) => key >= 0 && key < 3) && rows.every((row) => new Set(row).size === row.length);
        const edges = { starts: tensor(Int32Array.from(starts), [4]), keys: tensor(Int32Array.from(keys), [keys.length]) };
        expect(accepts(() => bind(requestOf(), { ...inputsOf({ batch: 1, queryLength: 3 }), edges }))).toBe(right);
      }),
      { numRuns: 1000 },
    );
  });
});
