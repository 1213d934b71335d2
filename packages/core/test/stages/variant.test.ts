import { describe, expect, test } from 'vitest';
import type { AttentionStages, Modifier } from '../../src/index.ts';
import { additiveBias, alibi, attention, causal, input, Normalization, scaledDot, softcap, softmax, weightedSum, window, write } from '../../src/index.ts';
import { noDeclarations } from '../../src/expression/declarations.ts';
import { expectRefusal } from '../validate/calls.ts';

describe('what is no stage is refused, not left out (L20)', () => {
  // Callers without types.
  const given = (stages: object) => () => attention(stages);
  test('a stage under another name', () => {
    expectRefusal(given({ mask: causal() }), 'invalid-variant', "'mask'", 'masking');
  });
  test('a member that was not called, or of another stage', () => {
    expectRefusal(given({ masking: causal }), 'invalid-variant', 'a function', 'causal()');
    expectRefusal(given({ scoring: softcap(3) }), 'invalid-variant', 'scoring', 'scaledDot()');
    expectRefusal(given({ normalization: null }), 'invalid-variant', 'normalization', 'softmax()');
    expectRefusal(given({ aggregation: 'sum' }), 'invalid-variant', 'aggregation', 'weightedSum()');
    expectRefusal(() => scaledDot().modify(alibi as unknown as Modifier), 'invalid-variant', 'a function');
    expectRefusal(() => causal().and(window as never), 'invalid-variant', 'a function');
    expectRefusal(() => softmax().reweighBy(undefined as never), 'invalid-variant', 'undefined');
  });
  test('a mask among the modifiers, a modifier that changes values', () => {
    expectRefusal(() => scaledDot().modify(causal() as unknown as Modifier), 'invalid-variant', 'a mask', 'masking');
    expectRefusal(given({ aggregation: weightedSum().prepareBy(additiveBias()) }), 'invalid-expression', 'prepare', 'score');
  });
  test('a stage that is undefined is the default', () => {
    expect(attention({ masking: undefined } as unknown as AttentionStages).structure).toBe(attention().structure);
  });
});

test('a sink is one number for a row: it reads no pair (L7, L13)', () => {
  const formula = write('normalize', 'far', ({ keyPosition }) => keyPosition.toF32());
  const far = new Normalization({ ...noDeclarations, name: 'far', rule: { kind: 'softmax', score: input('score').node, sink: formula.expression }, reweigh: input('weight').node });
  expectRefusal(() => attention({ normalization: far }), 'invalid-variant', 'sink', 'L7');
  expect(attention({ normalization: softmax({ sink: true }) }).structure).toContain('sink[head]');
});
