import { describe, expect, test } from 'vitest';
import type { FastWeightInputs, FastWeightRequest } from '../../src/backend.ts';
import { bind, createBinder } from '../../src/bind.ts';
import { bindFastWeights } from '../../src/fast-weights/bind.ts';
import { checkFastWeightRequest } from '../../src/fast-weights/request.ts';
import { fastWeights } from '../../src/fast-weights.ts';
import { deltaRule } from '../../src/fast-weights/rules/delta.ts';
import { zeros } from '../../src/tensor.ts';
import { checkRequest } from '../../src/validate/request.ts';
import { expectRefusal, inputsOf, requestOf } from './calls.ts';

const call = (inputs: object, options: object = {}): unknown => bind(requestOf(), { ...inputsOf(), ...inputs }, options);
const request = (rest: object): unknown => checkRequest({ ...requestOf(), ...rest });

describe('L20: a name that nothing reads is refused, with the nearest one', () => {
  test.each([
    ['keyLenghts', { keyLenghts: [5, 5] }, "'keyLengths'"],
    ['table', { table: {} }, "'tables'"],
    ['QueryOffset', { QueryOffset: 'end' }, "'queryOffset'"],
    ['keys', { packed: { query: [0, 5], key: [0, 5], keys: [0, 5] } }, "'key'"],
    ['row', { observe: { row: [1] } }, "'rows'"],
  ])('of inputs: %s', (name, inputs, near) => {
    expectRefusal(() => call(inputs), 'invalid-argument', `'${name}'`, `Did you mean ${near}?`);
  });

  test('of inputs, far from every name: the names alone', () => {
    expectRefusal(() => call({ positions: [1] }), 'invalid-argument', "'positions'", 'queryPositions', 'keyPositions');
    expect(() => call({ zebra: 1 })).not.toThrow('Did you mean');
  });

  test('of options, also when a signal stands in their place', () => {
    expectRefusal(() => call({}, { sginal: new AbortController().signal }), 'invalid-argument', "'sginal'", "'signal'");
    expectRefusal(() => call({}, { into: { ouput: zeros([2, 4, 5, 3]) } }), 'invalid-argument', "'ouput'", "'output'");
    expectRefusal(() => call({}, new AbortController().signal), 'invalid-argument', 'signal, into');
    expect(() => call({}, { signal: new AbortController().signal })).not.toThrow();
  });

  test('of a request', () => {
    expectRefusal(() => request({ dtype: 'f16' }), 'invalid-argument', "'dtype'", "'dtypes'");
    expectRefusal(() => request({ dtypes: { querry: 'f16' } }), 'invalid-argument', "'querry'", "'query'");
    expectRefusal(() => request({ observe: { stages: [], keymass: true } }), 'invalid-argument', "'keymass'", "'keyMass'");
  });

  test('of the keys that are transformed', () => {
    const { key } = inputsOf();
    expectRefusal(() => createBinder(requestOf()).bindKeys({ key, keyOfset: 1 } as never), 'invalid-argument', "'keyOfset'", "'keyOffset'");
  });

  test('of fast weights', () => {
    const whole: FastWeightRequest = { variant: fastWeights({ rule: deltaRule() }), dim: 4, valueDim: 3 };
    const inputs: FastWeightInputs = { query: zeros([1, 1, 2, 4]), key: zeros([1, 1, 2, 4]), value: zeros([1, 1, 2, 3]), writeStrength: zeros([1, 1, 2]) };
    expect(() => bindFastWeights(whole, inputs)).not.toThrow();
    expectRefusal(() => bindFastWeights(whole, { ...inputs, ofset: 3 } as FastWeightInputs), 'invalid-argument', "'ofset'", "'offset'");
    expectRefusal(() => { checkFastWeightRequest({ ...whole, gradient: [] } as FastWeightRequest); }, 'invalid-argument', "'gradient'", "'gradients'");
    expectRefusal(() => { checkFastWeightRequest({ ...whole, dtypes: { values: 'f32' } } as FastWeightRequest); }, 'invalid-argument', "'values'", "'value'");
  });
});

test.each(['x', null, {}, { aborted: false }, 3])('a signal that cannot be listened to is refused: %j', (signal) => {
  expectRefusal(() => call({}, { signal }), 'invalid-argument', 'signal', 'AbortSignal');
});

test.each([null, 'x', 3])('options that are no object are refused: %j', (options) => {
  expectRefusal(() => call({}, options as never), 'invalid-argument', 'options');
});
