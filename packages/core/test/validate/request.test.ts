import { describe, expect, test } from 'vitest';
import type { AttentionRequest } from '../../src/backend.ts';
import { checkRequest, requestDTypes } from '../../src/validate/request.ts';
import { projection } from '../../src/stages/transforms/projection.ts';
import { rope } from '../../src/stages/transforms/rope.ts';
import { scaledDot } from '../../src/stages/scoring/scaled-dot.ts';
import { softmax } from '../../src/stages/normalization/softmax.ts';
import { causal } from '../../src/stages/masking/causal.ts';
import { documents } from '../../src/stages/masking/documents.ts';
import { additive } from '../../src/stages/scoring/additive.ts';
import { expectRefusal, requestOf } from './calls.ts';

const wrong = (rest: object): AttentionRequest => ({ ...requestOf(), ...rest });

describe('a request', () => {
  test('with defaults is accepted', () => {
    expect(checkRequest(requestOf()).queryWidth).toBe(4);
    expect(requestDTypes(requestOf({}, { dtypes: { query: 'bf16' } }))).toEqual({ query: 'bf16', key: 'f32', value: 'f32', output: 'bf16' });
  });

  test.each([null, undefined, 7, 'x', {}, { variant: {} }, { ...requestOf(), variant: { ...requestOf().variant } }])('that is no request is refused: %#', (request) => {
    expect(() => checkRequest(request as AttentionRequest)).toThrow(/Pass \{ variant|Make one with attention/);
  });

  test.each([0, -1, 1.5, Number.NaN, Infinity, '4', undefined, 2 ** 40])('L11: a dim of %s is refused', (dim) => {
    for (const name of ['queryDim', 'keyDim', 'valueDim']) expectRefusal(() => checkRequest(wrong({ [name]: dim })), 'invalid-shape', name);
  });

  test('of an unknown or integer dtype is refused; i8 only for quantised keys and values', () => {
    expectRefusal(() => checkRequest(wrong({ dtypes: { query: 'f33' } })), 'invalid-dtype', "'f33'", 'query');
    expectRefusal(() => checkRequest(wrong({ dtypes: { output: 'i32' } })), 'invalid-dtype', 'output');
    expectRefusal(() => checkRequest(wrong({ dtypes: { key: 'i8' } })), 'invalid-dtype', 'quantised');
    expectRefusal(() => checkRequest(wrong({ dtypes: { query: 'i8' }, storage: 'quantised' })), 'invalid-dtype');
    expectRefusal(() => checkRequest(wrong({ dtypes: 3 })), 'invalid-dtype');
    expect(() => checkRequest(wrong({ dtypes: { key: 'i8' }, storage: 'quantised' }))).not.toThrow();
  });

  test('of an unknown storage or stage, or a stage named twice, is refused', () => {
    expectRefusal(() => checkRequest(wrong({ storage: 'heap' })), 'invalid-argument', "'heap'");
    expectRefusal(() => checkRequest(wrong({ observe: { stages: ['score'] } })), 'invalid-argument', 'stages');
    expectRefusal(() => checkRequest(wrong({ observe: { stages: ['scores', 'scores'] } })), 'invalid-argument', 'stages');
    expectRefusal(() => checkRequest(wrong({ observe: {} })), 'invalid-argument', 'stages');
    expectRefusal(() => checkRequest(wrong({ observe: { stages: ['scores'], byteBudget: -1 } })), 'invalid-argument', 'byteBudget');
    expect(() => checkRequest(wrong({ observe: { stages: ['scores'], byteBudget: 0 } }))).not.toThrow();
  });

  test('for a gradient that does not exist is refused', () => {
    const sink = requestOf({ normalization: softmax({ sink: true }), masking: documents() });
    expect(() => checkRequest({ ...sink, gradients: ['query', 'key', 'value', 'tables.sink'] })).not.toThrow();
    expectRefusal(() => checkRequest({ ...sink, gradients: ['tables.sinks'] }), 'unknown-table', 'sinks');
    expectRefusal(() => checkRequest({ ...sink, gradients: ['tables.constructor'] }), 'unknown-table');
    expectRefusal(() => checkRequest({ ...sink, gradients: ['tables.queryDocuments'] }), 'invalid-argument', 'i32');
    expectRefusal(() => checkRequest(wrong({ gradients: ['output'] })), 'invalid-argument', "'output'");
    expectRefusal(() => checkRequest(wrong({ gradients: ['key', 'key'] })), 'invalid-argument');
    expectRefusal(() => checkRequest(wrong({ gradients: 'key' })), 'invalid-argument');
  });

  test('whose rows do not meet in width is refused, and accepted once projected', () => {
    expectRefusal(() => checkRequest(wrong({ keyDim: 6 })), 'invalid-shape', '4 wide', '6');
    const projected = requestOf({ scoring: scaledDot().transformKey(projection({ width: 4 })) }, { keyDim: 6 });
    expect(checkRequest(projected).queryWidth).toBe(4);
    expect(checkRequest(requestOf({ scoring: additive({ width: 7 }) }, { keyDim: 6 })).keyWidth).toBe(7);
  });

  test('with a rope wider than the row, or over an odd row, is refused', () => {
    const roped = (width?: number, dim = 4): AttentionRequest => requestOf({ scoring: scaledDot().transform(rope({ pairing: 'half', ...(width === undefined ? {} : { width }) })) }, { queryDim: dim, keyDim: dim });
    expect(() => checkRequest(roped(4))).not.toThrow();
    expectRefusal(() => checkRequest(roped(6)), 'invalid-shape', '6 channels');
    expectRefusal(() => checkRequest(roped(undefined, 5)), 'invalid-shape', '5 channels');
  });

  test('knows which variants depend on positions', () => {
    expect(checkRequest(requestOf()).positionDependent).toBe(false);
    expect(checkRequest(requestOf({ masking: causal() })).positionDependent).toBe(true);
    expect(checkRequest(requestOf({ masking: documents() })).positionDependent).toBe(false);
    expect(checkRequest(requestOf({ scoring: scaledDot().transform(rope({ pairing: 'half' })) })).positionDependent).toBe(true);
  });
});
