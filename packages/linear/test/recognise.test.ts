/** What is recognised as linear, and what is refused: expected reasons are what a sum over keys cannot express (Katharopoulos 2020, section 3). */
import type { AttentionRequest, AttentionStages } from '@heed/core';
import {
  additive, alibi, attention, booleanMask, causal, dot, eluFeatures, full, keyPadding, maximum, none, rowSum, softcap, softmax, weightedSum, window,
} from '@heed/core';
import { expect, test } from 'vitest';
import { readRequest, recognise } from '../src/index.ts';

const scoring = dot().transform(eluFeatures());
const request = (stages: AttentionStages): AttentionRequest => ({ variant: attention(stages), queryDim: 8, keyDim: 8, valueDim: 8 });
const limits = { maxDim: 64, gradients: true };

test.each([
  ['causal', { masking: causal() }, { causal: true, counts: null }],
  ['full', { masking: full() }, { causal: false, counts: null }],
  ['no mask said', {}, { causal: false, counts: null }],
  ['padding on the right', { masking: keyPadding({ side: 'right', table: 'real' }) }, { causal: false, counts: 'real' }],
  ['causal with padding', { masking: causal().and(keyPadding({ side: 'right' })) }, { causal: true, counts: 'keyCounts' }],
  ['padding with causal', { masking: keyPadding({ side: 'right' }).and(causal()) }, { causal: true, counts: 'keyCounts' }],
] as const)('%s is linear', (_, stages, reading) => {
  for (const normalization of [rowSum(), none()]) expect(recognise(request({ scoring, normalization, ...stages })).reading).toMatchObject({ ...reading, width: 8 });
});

test.each([
  ['a window', { masking: window({ left: 3, right: 0 }) }, 'masking', 'window'],
  ['padding on the left', { masking: keyPadding({ side: 'left' }) }, 'masking', 'keyPadding'],
  ['a boolean mask', { masking: booleanMask() }, 'masking', 'neither'],
  ['not causal', { masking: causal().not() }, 'masking', 'neither'],
  ['softmax', { normalization: softmax() }, 'normalization', 'every score'],
  ['a softcap', { scoring: scoring.modify(softcap(3)) }, 'scoring', 'softcap'],
  ['a position bias', { scoring: scoring.modify(alibi()) }, 'scoring', 'alibi'],
  ['an additive scoring', { scoring: additive({ width: 4 }) }, 'scoring', 'product'],
  ['a maximum', { aggregation: maximum() }, 'aggregation', 'weighted sum'],
] as const)('%s is refused with its reason and a remedy', (_, stages, stage, reason) => {
  const { plan, refusals } = readRequest(request({ scoring, normalization: rowSum(), masking: causal(), aggregation: weightedSum(), ...stages }), limits);
  expect(plan).toBeNull();
  const found = refusals.find((one) => one.stage === stage);
  expect(found?.reason).toContain(reason);
  expect(found?.remedy).toMatch(/Use|Leave/);
});

test('every reason is given at once', () => {
  const { refusals } = readRequest({ ...request({ scoring: scoring.modify(softcap(3)), normalization: softmax(), masking: window({ left: 1, right: 1 }) }), queryDim: 65, keyDim: 65, storage: 'paged', gradients: ['query'], observe: { stages: ['weights'] } }, limits);
  expect(new Set(refusals.map(({ stage }) => stage))).toEqual(new Set(['scoring', 'normalization', 'masking', 'dims', 'storage', 'gradients', 'observe']));
});
