import { describe, expect, test } from 'vitest';
import type { AttentionInputs } from '../../src/backend.ts';
import { bind } from '../../src/bind.ts';
import { alibi } from '../../src/stages/modifiers/alibi.ts';
import { additiveBias } from '../../src/stages/modifiers/additive-bias.ts';
import { modifier } from '../../src/stages/modifiers/modifier.ts';
import { booleanMask } from '../../src/stages/masking/boolean-mask.ts';
import { keyPadding } from '../../src/stages/masking/key-padding.ts';
import { documents } from '../../src/stages/masking/documents.ts';
import { mask } from '../../src/stages/masking/stage.ts';
import { scaledDot } from '../../src/stages/scoring/scaled-dot.ts';
import { softcap } from '../../src/stages/modifiers/softcap.ts';
import { window } from '../../src/stages/masking/window.ts';
import { chunkedLocal } from '../../src/stages/masking/chunked-local.ts';
import { projection } from '../../src/stages/transforms/projection.ts';
import { rope } from '../../src/stages/transforms/rope.ts';
import { favor } from '../../src/stages/transforms/favor.ts';
import { slice, tensor, zeros } from '../../src/tensor.ts';
import type { AttentionStages } from '../../src/variant.ts';
import { expectRefusal, inputsOf, requestOf } from './calls.ts';

function bound(stages: AttentionStages, tables: object | undefined, rest: Partial<AttentionInputs> = {}): ReturnType<typeof bind> {
  return bind(requestOf(stages), { ...inputsOf(), ...rest, ...(tables === undefined ? {} : { tables: tables as never }) });
}

describe('tables', () => {
  const sloped: AttentionStages = { scoring: scaledDot().modify(alibi()) };

  test('that are missing or unknown are refused by name', () => {
    expect(() => bound(sloped, { slopes: zeros([4]) })).not.toThrow();
    expectRefusal(() => bound(sloped, undefined), 'missing-table', "'slopes'", 'Pass { tables: { slopes: … } }, f32 of shape [4 (head)]');
    expectRefusal(() => bound(sloped, {}), 'missing-table', "'slopes'");
    expectRefusal(() => bound(sloped, { slopes: zeros([4]), slope: zeros([4]) }), 'unknown-table', "'slope'", 'slopes');
    expectRefusal(() => bound(sloped, { slope: zeros([4]) }), 'unknown-table', "Did you mean 'slopes'?");
    expectRefusal(() => bound({}, { toString: zeros([4]) }), 'unknown-table', 'none');
    expectRefusal(() => bound(sloped, 4 as never), 'invalid-table');
    expectRefusal(() => bound(sloped, { slopes: [1, 2, 3, 4] }), 'invalid-tensor', "'slopes'");
  });

  test('have the dtype class that is declared', () => {
    for (const dtype of ['f64', 'f32', 'f16', 'bf16'] as const) expect(() => bound(sloped, { slopes: zeros([4], dtype) })).not.toThrow();
    expectRefusal(() => bound(sloped, { slopes: zeros([4], 'i32') }), 'invalid-table', 'i32', 'f64, f32');
    const documented: AttentionStages = { masking: documents() };
    for (const dtype of ['i32', 'i8', 'u8'] as const) expect(() => bound(documented, { queryDocuments: zeros([2, 5], dtype), keyDocuments: zeros([2, 5], dtype) })).not.toThrow();
    expectRefusal(() => bound(documented, { queryDocuments: zeros([2, 5]), keyDocuments: zeros([2, 5], 'i32') }), 'invalid-table', 'f32');
    expectRefusal(() => bound({ masking: booleanMask() }, { mask: zeros([1, 1, 5, 5], 'i32') }), 'invalid-table', 'u8');
  });

  test('that are boolean hold 0 and 1 only', () => {
    const pairs = new Uint8Array(25).fill(1);
    expect(() => bound({ masking: booleanMask() }, { mask: tensor(pairs, [1, 1, 5, 5]) })).not.toThrow();
    expectRefusal(() => bound({ masking: booleanMask() }, { mask: tensor(pairs.with(24, 2), [1, 1, 5, 5]) }), 'invalid-table', 'boolean');
    // What a view leaves out may be anything.
    const wide = tensor(new Uint8Array(30).fill(1).with(5, 255), [1, 1, 5, 6]);
    expect(() => bound({ masking: booleanMask() }, { mask: slice(wide, 3, 0, 5) })).not.toThrow();
    expectRefusal(() => bound({ masking: booleanMask() }, { mask: slice(wide, 3, 1, 6) }), 'invalid-table', 'boolean');
  });

  test.each(['left', 'right'] as const)('that count keys hold 0 … the rows of the key tensor: padding on the %s', (side) => {
    const counted = (...counts: readonly number[]): unknown => bound({ masking: keyPadding({ side }) }, { keyCounts: tensor(Int32Array.from(counts), [2]) });
    expect(() => counted(0, 5)).not.toThrow();
    expectRefusal(() => counted(0, 6), 'invalid-table', "'keyCounts' holds 6", '0 … 5 (keyLength)');
    expectRefusal(() => counted(-1, 5), 'invalid-table', "'keyCounts' holds -1");
    // The range is no part of what is compiled.
    expect(requestOf({ masking: keyPadding({ side }) }).variant.structure).toMatch(/^keyCounts: i32\[batch\]$/m);
  });

  test('repeat along a known axis of size 1', () => {
    const { tables } = bound({ scoring: scaledDot().modify(additiveBias()) }, { bias: zeros([1, 4, 1, 5]) });
    expect(tables.bias).toMatchObject({ sizes: [2, 4, 5, 5], strides: [0, 5, 0, 1] });
    expectRefusal(() => bound({ scoring: scaledDot().modify(additiveBias()) }, { bias: zeros([3, 4, 1, 5]) }), 'invalid-table', 'batch', '2 or 1');
    expectRefusal(() => bound({ scoring: scaledDot().modify(additiveBias()) }, { bias: zeros([4, 5, 5]) }), 'invalid-table', '[4, 5, 5]', 'expected rank 4, [2 (batch), 4 (head), 5 (queryLength), 5 (keyLength)]');
  });

  test('have exact numeric axes, and one size for each free axis', () => {
    const pair = modifier('pair', ({ score, head, table }) => score.add(table('a', ['head', 'bins'], 'f32').at(head, 0)).add(table('b', [3, 'bins'], 'f32').at(2, 0)));
    const stages: AttentionStages = { scoring: scaledDot().modify(pair) };
    expect(() => bound(stages, { a: zeros([4, 7]), b: zeros([3, 7]) })).not.toThrow();
    expectRefusal(() => bound(stages, { a: zeros([4, 7]), b: zeros([3, 6]) }), 'invalid-table', 'bins', "'a'", '[3, 7 (bins)]');
    expectRefusal(() => bound(stages, { a: zeros([4, 7]), b: zeros([1, 7]) }), 'invalid-table', 'expected 3');
  });

  test('of transforms meet the rows they act on', () => {
    const projected: AttentionStages = { scoring: scaledDot().transform(projection({ width: 6 })) };
    expect(() => bound(projected, { projection: zeros([6, 4]) })).not.toThrow();
    expectRefusal(() => bound(projected, { projection: zeros([6, 5]) }), 'invalid-table', '4 wide');
    const roped: AttentionStages = { scoring: scaledDot().transform(rope({ pairing: 'half', frequencies: 'theta' })) };
    expect(() => bound(roped, { theta: zeros([2]) })).not.toThrow();
    expectRefusal(() => bound(roped, { theta: zeros([4]) }), 'invalid-table', '4 channels');
    const random: AttentionStages = { scoring: scaledDot().transform(favor({ features: 8 })) };
    const [name] = Object.keys(requestOf(random).variant.tables);
    expect(() => bound(random, { [name!]: zeros([8, 4]) })).not.toThrow();
    expectRefusal(() => bound(random, { [name!]: zeros([8, 3]) }), 'invalid-table');
  });

  test('of packed sequences count sequences as batch and the longest one as length', () => {
    const inputs = inputsOf({ batch: 1, queryLength: 6 }, { packed: { query: [0, 4, 6], key: [0, 4, 6] } });
    const request = requestOf({ masking: documents() });
    const table = (rows: number, length: number): ReturnType<typeof zeros> => zeros([rows, length], 'i32');
    expect(() => bind(request, { ...inputs, tables: { queryDocuments: table(2, 4), keyDocuments: table(2, 4) } })).not.toThrow();
    expectRefusal(() => bind(request, { ...inputs, tables: { queryDocuments: table(1, 6), keyDocuments: table(2, 4) } }), 'invalid-table', 'queryLength');
  });
});

describe('table reads are proven in range', () => {
  const relative = (size: string | number): AttentionStages => ({
    scoring: scaledDot().modify(modifier('relative', ({ score, queryPosition, keyPosition, table }) => score.add(table('bias', [size]).at(queryPosition.sub(keyPosition).add(4))))),
  });

  test('by the positions of the call', () => {
    expect(() => bound(relative('distances'), { bias: zeros([9]) })).not.toThrow();
    expectRefusal(() => bound(relative('distances'), { bias: zeros([8]) }), 'table-out-of-range', 'bias[queryPosition - keyPosition + 4]', '0 … 8', '8 elements', 'max(0).min(7)');
    expectRefusal(() => bound(relative(9), { bias: zeros([9]) }, { queryOffset: -1 }), 'table-out-of-range', '-1 … 7');
    expectRefusal(() => bound(relative(9), { bias: zeros([9]) }, { keyPositions: tensor(Int32Array.of(0, 1, 2, 3, 5), [1, 5]) }), 'table-out-of-range');
  });

  test('only where rows count', () => {
    expect(() => bound(relative(9), { bias: zeros([9]) }, { keyPositions: tensor(Int32Array.of(0, 1, 2, 3, 99), [1, 5]), keyLengths: [4, 4] })).not.toThrow();
    expect(() => bound(relative(1), { bias: zeros([1]) }, { keyLengths: [0, 0] })).not.toThrow();
  });

  test('sequence by sequence where all at once are too coarse', () => {
    const stages: AttentionStages = { scoring: scaledDot().modify(modifier('m', ({ score, batch, queryPosition, table }) => score.add(table('rows', [10]).at(queryPosition.sub(batch.mul(100)))))) };
    expect(() => bound(stages, { rows: zeros([10]) }, { queryOffset: [5, 105] })).not.toThrow();
    expectRefusal(() => bound(stages, { rows: zeros([10]) }, { queryOffset: [5, 106] }), 'table-out-of-range', '6 … 10');
  });

  test('through integer tables, by what they hold', () => {
    const bucketed = mask('bucketed', ({ queryIndex, table }) => table('seen', ['buckets'], 'i32').at(table('bucket', ['queryLength'], 'i32').at(queryIndex)).eq(1));
    const tables = (values: readonly number[], size: number): object => ({ bucket: tensor(Int32Array.from(values), [5]), seen: zeros([size], 'i32') });
    expect(() => bound({ masking: bucketed }, tables([0, 3, 1, 1, 2], 4))).not.toThrow();
    expectRefusal(() => bound({ masking: bucketed }, tables([0, 4, 1, 1, 2], 4)), 'table-out-of-range', 'seen[bucket[queryIndex]]', '0 … 4');
    expectRefusal(() => bound({ masking: bucketed }, tables([0, -1, 1, 1, 2], 4)), 'table-out-of-range');
    // A row that does not count may hold anything.
    expect(() => bound({ masking: bucketed }, tables([0, 3, 1, 1, 99], 4), { queryLengths: [4, 3] })).not.toThrow();
  });

  test('where the device holds the indices, by clamping alone', () => {
    const elsewhere = { dtype: 'i32', shape: [5], strides: [1], runtime: {} } as never;
    const read = (clamped: boolean): AttentionStages => ({
      masking: mask('m', ({ queryIndex, table }) => {
        const index = table('bucket', ['queryLength'], 'i32').at(queryIndex);
        return table('seen', [4], 'i32').at(clamped ? index.max(0).min(3) : index).eq(1);
      }),
    });
    expect(() => bound(read(true), { bucket: elsewhere, seen: zeros([4], 'i32') })).not.toThrow();
    expectRefusal(() => bound(read(false), { bucket: elsewhere, seen: zeros([4], 'i32') }), 'table-out-of-range');
  });

  test('also the rows that queries are multiplied with', () => {
    const read = (clamped: boolean): AttentionStages => ({
      scoring: scaledDot().modify(modifier('m', ({ score, queryPosition, keyPosition, queryTable }) => {
        const row = keyPosition.sub(queryPosition).add(3);
        return score.add(queryTable('vectors', 7, { perHead: true }).at(clamped ? row.max(0).min(6) : row));
      })),
    });
    expect(() => bound(read(true), { vectors: zeros([4, 7, 4]) })).not.toThrow();
    expect(() => bound(read(false), { vectors: zeros([4, 7, 4]) }, { queryLengths: [4, 4], keyLengths: [4, 4] })).not.toThrow();
    expectRefusal(() => bound(read(false), { vectors: zeros([4, 7, 4]) }), 'table-out-of-range', 'vectors', '-1 … 7', '7 elements');
  });

  test('and divisors are proven positive', () => {
    expect(() => bound({ masking: chunkedLocal(4) }, undefined, { uniforms: { 'chunkedLocal.size': 1 } })).not.toThrow();
    expectRefusal(() => bound({ masking: chunkedLocal(4) }, undefined, { uniforms: { 'chunkedLocal.size': 0 } }), 'invalid-uniform', 'chunkedLocal.size');
  });
});

describe('uniforms', () => {
  test('have their defaults, and 1/√dim is that of the rows combined', () => {
    expect(bound({}, undefined).uniforms).toEqual({ scale: 0.5 });
    const wide = requestOf({ scoring: scaledDot().transform(projection({ width: 16 })) });
    expect(bind(wide, { ...inputsOf(), tables: { projection: zeros([16, 4]) } }).uniforms).toEqual({ scale: 0.25 });
  });

  test('are replaced by name; others, NaN and fractions of integers are refused', () => {
    const capped: AttentionStages = { scoring: scaledDot().modify(softcap(30)), masking: window({ left: 3, right: 0 }) };
    expect(bound(capped, undefined, { uniforms: { scale: 2 } }).uniforms).toEqual({ scale: 2, 'softcap.cap': 30, 'window.left': 3, 'window.right': 0 });
    expectRefusal(() => bound(capped, undefined, { uniforms: { cap: 2 } }), 'unknown-uniform', "'cap'", 'softcap.cap');
    expectRefusal(() => bound(capped, undefined, { uniforms: { constructor: 2 } }), 'unknown-uniform');
    expectRefusal(() => bound(capped, undefined, { uniforms: { scale: Number.NaN } }), 'invalid-uniform', 'NaN');
    expectRefusal(() => bound(capped, undefined, { uniforms: { scale: '2' as never } }), 'invalid-uniform');
    expectRefusal(() => bound(capped, undefined, { uniforms: { scale: 'inverseSqrtDim' as never } }), 'invalid-uniform');
    expectRefusal(() => bound(capped, undefined, { uniforms: { 'window.left': 1.5 } }), 'invalid-uniform', 'window.left');
    expectRefusal(() => bound(capped, undefined, { uniforms: 3 as never }), 'invalid-uniform');
  });
});
