/** Few queries against many keys: keys are split into parts of 512, read where they lie and merged. Expected values come from the float64 reference. */
import { alibi, causal, scaledDot, sigmoid, softcap, softmax, tensor, window } from '@heed/core';
import type { AttentionStages, Backend } from '@heed/core';
import { RandomSource } from '@heed/conformance';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createCpuBackend } from '../src/index.ts';
import { expectReference, inputsOf, normal, numbersOf, requestOf, runOn } from './compare.ts';

let backend: Backend;
beforeAll(async () => {
  backend = await createCpuBackend({ threads: 2 });
});
afterAll(async () => {
  await backend.dispose();
});

describe.each([1, 2, 4])('%i queries of four heads on one key head', (queryLength) => {
  test.each([1, 5, 16, 70, 511, 512, 513, 1100])('and %i keys', async (keyLength) => {
    const inputs = { ...inputsOf(keyLength, { batch: 2, heads: 4, keyHeads: 1, queryLength, keyLength, dim: 16, valueDim: 12 }), queryOffset: 'end' as const };
    await expectReference(backend, requestOf({ masking: causal() }, { dim: 16, valueDim: 12 }), inputs);
  });
});

test('every stage applies: softcap, ALiBi, window and sink', async () => {
  const stages: AttentionStages = { masking: causal().and(window({ left: 300, right: 0 })), scoring: scaledDot().modify(softcap(5), alibi()), normalization: softmax({ sink: true }) };
  const tables = { slopes: tensor(Float32Array.of(0.5, 0.25, 0.125, 0.1, 0.05, 0.01), [6]), sink: normal(new RandomSource(9), [6]) };
  await expectReference(backend, requestOf(stages, {}), { ...inputsOf(4, { heads: 6, keyHeads: 2, queryLength: 2, keyLength: 700 }), queryOffset: 'end', tables });
});

test('weights that need no sum are merged too', async () => {
  await expectReference(backend, requestOf({ normalization: sigmoid() }, {}), inputsOf(4, { batch: 2, heads: 4, keyHeads: 2, queryLength: 1, keyLength: 1200 }));
});

test('lengths that end inside a part, or before it', async () => {
  await expectReference(backend, requestOf({}, {}), { ...inputsOf(4, { batch: 3, heads: 4, keyHeads: 2, queryLength: 1, keyLength: 600 }), keyLengths: [600, 17, 0] });
});

test('a key that is not seen leaves no bit, whatever its value (L10, L15)', async () => {
  const request = requestOf({ masking: causal() }, {});
  const inputs = { ...inputsOf(6, { heads: 4, keyHeads: 2, queryLength: 3, keyLength: 100 }), queryOffset: 50 };
  const whole = numbersOf((await runOn(backend, request, inputs)).output);
  const value = Float32Array.from(numbersOf(inputs.value));
  value.fill(Number.NaN, 90 * 8, 91 * 8);
  const poisoned = numbersOf((await runOn(backend, request, { ...inputs, value: tensor(value, inputs.value.shape) })).output);
  expect(poisoned).toEqual(whole);
});
