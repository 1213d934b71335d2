/** L14: the same bits on one thread and on several, and from call to call. */
import { causal, sparsemax } from '@heed/core';
import type { AttentionStages } from '@heed/core';
import { expect, test } from 'vitest';
import { createCpuBackend } from '../src/index.ts';
import { inputsOf, numbersOf, requestOf, runOn } from './compare.ts';

test.each<[string, AttentionStages]>([
  ['causal softmax', { masking: causal() }],
  ['sparsemax', { normalization: sparsemax() }],
])('%s gives the same bits on one thread and on three', async (_, stages) => {
  const inputs = inputsOf(5, { batch: 2, heads: 4, keyHeads: 2, queryLength: 150, dim: 24 });
  const request = requestOf(stages, { dim: 24 });
  const results: Float64Array[] = [];
  for (const threads of [1, 3, 3]) {
    const backend = await createCpuBackend({ threads });
    results.push(numbersOf((await runOn(backend, request, inputs)).output));
    await backend.dispose();
  }
  expect(results[1]).toEqual(results[0]);
  expect(results[2]).toEqual(results[0]);
});
