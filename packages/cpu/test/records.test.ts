/** One kernel, many calls: what is kept from one call serves only calls that it is right for. Expected values come from the float64 reference. */
import { causal, tensor, window } from '@heed/core';
import type { AttentionInputs } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { expect, test } from 'vitest';
import { createCpuBackend } from '../src/index.ts';
import { expectClose, inputsOf, requestOf } from './compare.ts';

const request = requestOf({ masking: causal().and(window({ left: 40, right: 0 })) }, {});
const [left = ''] = Object.keys(request.variant.uniforms);

/** Blocks of queries and few queries; other lengths, offsets, windows and positions; more shapes than are kept. */
const calls: readonly AttentionInputs[] = [
  ...[33, 70].map((queryLength) => inputsOf(queryLength, { queryLength })),
  { ...inputsOf(3, { queryLength: 33 }), uniforms: { [left]: 3 } },
  { ...inputsOf(4, { queryLength: 33 }), queryPositions: tensor(Int32Array.from({ length: 33 }, (_, row) => 32 - row), [1, 33]) },
  { ...inputsOf(5, { queryLength: 33 }), keyLengths: [20], queryOffset: 'start' },
  { ...inputsOf(6, { queryLength: 1, keyLength: 600 }), queryOffset: 'end' },
  { ...inputsOf(6, { queryLength: 1, keyLength: 600 }), queryOffset: 300 },
  ...Array.from({ length: 8 }, (_, step): AttentionInputs => ({ ...inputsOf(step, { queryLength: 1, keyLength: 40 + step }), queryOffset: 'end' })),
];

test('calls of one kernel in any order give what each gives alone', async () => {
  const [backend, reference] = [await createCpuBackend({ threads: 2 }), createReferenceBackend()];
  const [kernel, meaning] = [await backend.prepare(request), await reference.prepare(request)];
  for (const inputs of [...calls, ...calls.toReversed(), ...calls.flatMap((one) => [one, one])]) {
    expectClose((await kernel.run(inputs)).output, (await meaning.run(inputs)).output, 1e-5);
  }
  await kernel.dispose();
  expect(backend.runtime.memory().bytes).toBe(0);
  await backend.dispose();
});
