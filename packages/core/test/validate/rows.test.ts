import { describe, expect, test } from 'vitest';
import type { AttentionInputs, Runtime } from '../../src/backend.ts';
import { bind, createBinder } from '../../src/bind.ts';
import { createHostRuntime } from '../../src/reference/runtime.ts';
import { projection } from '../../src/stages/transforms/projection.ts';
import { scaledDot } from '../../src/stages/scoring/scaled-dot.ts';
import { restride, tensor, zeros } from '../../src/tensor.ts';
import { expectRefusal, inputsOf, requestOf } from './calls.ts';

const request = requestOf();
const refuse = (rest: object, code: Parameters<typeof expectRefusal>[1], ...parts: readonly string[]): void =>
  expectRefusal(() => bind(request, { ...inputsOf(), ...rest }), code, ...parts);

describe('query, key and value', () => {
  test('that fit are bound with their sizes', () => {
    const call = bind(request, inputsOf({ batch: 3, heads: 6, keyHeads: 2, queryLength: 5, keyLength: 7 }));
    expect(call).toMatchObject({ heads: 6, keyHeads: 2, scoreDim: 4, queryRows: 5, keyRows: 7, outputShape: [3, 6, 5, 3], rowShape: [3, 6, 5], keysTransformed: false });
    expect(call.sequences).toHaveLength(3);
  });

  test('L11: empty axes are accepted, a dim of 0 is not', () => {
    expect(bind(request, inputsOf({ batch: 0 })).sequences).toEqual([]);
    expect(bind(request, inputsOf({ queryLength: 0 })).outputShape).toEqual([2, 4, 0, 3]);
    expect(bind(request, inputsOf({ queryLength: 5, keyLength: 0 })).keyRows).toBe(0);
    refuse({ query: zeros([2, 4, 5, 0]) }, 'invalid-shape', '[2, 4, 5, 0]');
  });

  test.each([undefined, null, 3, {}, [], { shape: [1], strides: [1] }, { ...zeros([2, 4, 5, 4]), shape: [2, 4, -5, 4] }, { ...zeros([2, 4, 5, 4]), strides: [1, 1] }, { ...zeros([2, 4, 5, 4]), view: 3 }])(
    'that are no tensor are refused: %#',
    (query) => expect(() => bind(request, { ...inputsOf(), query } as AttentionInputs)).toThrow(/query|tensor/),
  );

  test('of the wrong rank or width are refused', () => {
    refuse({ query: zeros([2, 4, 20]) }, 'invalid-shape', 'query', '[2, 4, 20]', '[batch, heads, length, 4]');
    refuse({ key: zeros([2, 2, 5, 5]) }, 'invalid-shape', 'key');
    refuse({ value: zeros([2, 2, 5, 4]) }, 'invalid-shape', 'value', '3]');
  });

  test('of another dtype than the request are refused', () => {
    refuse({ key: zeros([2, 2, 5, 4], 'f16') }, 'invalid-dtype', 'key is f16', 'f32');
    expect(() => bind({ ...request, dtypes: { key: 'f16' } }, { ...inputsOf(), key: zeros([2, 2, 5, 4], 'f16') })).not.toThrow();
  });

  test('L6: heads are a multiple of key heads', () => {
    expect(() => bind(request, inputsOf({ heads: 4, keyHeads: 4 }))).not.toThrow();
    expectRefusal(() => bind(request, inputsOf({ heads: 4, keyHeads: 3 })), 'invalid-shape', '4 heads', '3', 'L6');
    expectRefusal(() => bind(request, inputsOf({ heads: 2, keyHeads: 4 })), 'invalid-shape', 'L6');
    expectRefusal(() => bind(request, inputsOf({ heads: 0, keyHeads: 2 })), 'invalid-shape', '0 heads');
    expectRefusal(() => bind(request, inputsOf({ heads: 0, keyHeads: 0 })), 'invalid-shape', '0 heads');
  });

  test('of different batch, key heads or key lengths are refused', () => {
    refuse({ query: zeros([1, 4, 5, 4]) }, 'invalid-shape', 'batch 1', '2');
    refuse({ value: zeros([2, 2, 6, 3]) }, 'invalid-shape', '[2, 2, 6, 3]');
    refuse({ value: zeros([2, 4, 5, 3]) }, 'invalid-shape', '[2, 4, 5, 3]');
  });

  test('whose memory is shorter than shape and strides are refused', () => {
    refuse({ query: { ...zeros([2, 4, 5, 4]), view: () => new Float32Array(159) } }, 'invalid-tensor', '160', '159');
    refuse({ query: { ...zeros([2, 4, 5, 4]), strides: [160, 20, 4, 1] } }, 'invalid-tensor', '240');
    refuse({ query: { ...zeros([2, 4, 5, 4]), view: () => new Float64Array(160) } }, 'invalid-dtype', 'Float64Array');
    refuse({ query: { ...zeros([2, 4, 5, 4]), view: () => 'memory' } }, 'invalid-tensor');
  });

  test('may repeat by a stride of 0', () => {
    const shared = restride(zeros([1, 2, 5, 4]), [2, 2, 5, 4], [0, 20, 4, 1]);
    expect(() => bind(request, { ...inputsOf(), key: shared })).not.toThrow();
  });

  test('of another runtime are refused', () => {
    const [here, there] = [createHostRuntime(), createHostRuntime()];
    const own = (runtime: Runtime): AttentionInputs => ({ query: runtime.tensor([1, 1, 2, 4], 'f32'), key: runtime.tensor([1, 1, 2, 4], 'f32'), value: runtime.tensor([1, 1, 2, 3], 'f32') });
    const { bind: bindHere } = createBinder(request, { runtime: here });
    expect(() => bindHere(own(here))).not.toThrow();
    expect(() => bindHere(inputsOf())).not.toThrow();
    expectRefusal(() => bindHere(own(there)), 'foreign-tensor', 'query');
    expectRefusal(() => bind(request, { ...own(here), value: own(there).value }), 'foreign-tensor');
    const released = own(here);
    here.release(released.key);
    expectRefusal(() => bindHere(released), 'disposed');
  });

  test('keys that were transformed have the width of scores', () => {
    const projected = requestOf({ scoring: scaledDot().transform(projection({ width: 6 })) });
    const tables = { projection: zeros([6, 4]) };
    expect(bind(projected, { ...inputsOf(), tables }).scoreDim).toBe(6);
    const done = { ...inputsOf(), tables, key: zeros([2, 2, 5, 6]), keysTransformed: true };
    expect(bind(projected, done).keysTransformed).toBe(true);
    expectRefusal(() => bind(projected, { ...inputsOf(), tables, keysTransformed: true }), 'invalid-shape', '6]');
    expectRefusal(() => bind(projected, { ...done, keysTransformed: false }), 'invalid-shape', '4]');
    expectRefusal(() => bind(projected, { ...done, keysTransformed: 1 as never }), 'invalid-argument', 'keysTransformed');
  });

  test('in pages are found by a table of pages in range', () => {
    const paged = requestOf({}, { storage: 'paged' });
    const pool = { query: zeros([2, 4, 1, 4]), key: zeros([7, 2, 8, 4]), value: zeros([7, 2, 8, 3]), keyLengths: [9, 16] };
    const table = (pages: readonly number[]): AttentionInputs['pages'] => ({ pages: tensor(Int32Array.from(pages), [2, 2]), pageLength: 8 });
    const call = bind(paged, { ...pool, pages: table([0, 6, 3, 2])! });
    expect(call.sequences.map(({ keyRows, keyLength }) => [keyRows, keyLength])).toEqual([[16, 9], [16, 16]]);
    expectRefusal(() => bind(paged, { ...pool, pages: table([0, 7, 3, 2])! }), 'invalid-argument', '7');
    // What lies past a sequence's length means nothing.
    expect(() => bind(paged, { ...pool, keyLengths: [8, 16], pages: table([0, 99, 3, 2])! })).not.toThrow();
    expectRefusal(() => bind(paged, pool), 'invalid-argument', 'paged');
    expectRefusal(() => bind(requestOf(), { ...inputsOf(), pages: table([0, 1, 2, 3])! }), 'invalid-argument', 'paged');
    expectRefusal(() => bind(paged, { ...pool, pages: { ...table([0, 1, 2, 3])!, pageLength: 4 } }), 'invalid-shape', 'pageLength');
  });
});
