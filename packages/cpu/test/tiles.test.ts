/** Expected values come from the float64 reference. Shapes stand on both sides of every tile's edge: register tiles of 6 × 8, steps of 16 keys, tiles of 128, steps of 24 and blocks of 48 queries. */
import { causal, entmax, hardMax, laser, maximum, scaledDot, scoring, sigmoid, softcap, softmax, sparsemax, tensor, window } from '@heed/core';
import type { AttentionStages, Backend } from '@heed/core';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { createCpuBackend } from '../src/index.ts';
import { expectReference, inputsOf, requestOf } from './compare.ts';

let backend: Backend;
beforeAll(async () => {
  backend = await createCpuBackend({ threads: 1 });
});
afterAll(async () => {
  await backend.dispose();
});

const masked = { masking: causal().and(window({ left: 40, right: 0 })) };
const variants: Readonly<Record<string, AttentionStages>> = {
  causal: { masking: causal() },
  'softcap in a window': { scoring: scaledDot().modify(softcap(2)), ...masked },
  sigmoid: { normalization: sigmoid(), ...masked },
  sparsemax: { normalization: sparsemax(), ...masked },
  'entmax 1.5': { normalization: entmax(1.5), ...masked },
  'entmax 1.25': { normalization: entmax(1.25), ...masked },
  'hard max': { normalization: hardMax(), ...masked },
  LASER: { aggregation: laser(), ...masked },
  maximum: { aggregation: maximum(), ...masked },
  manhattan: { scoring: scoring('manhattan', ({ queryElement, keyElement }) => queryElement.sub(keyElement).abs().neg()), ...masked },
};

describe.each(Object.entries(variants))('%s equals the reference', (_, stages) => {
  test.each([1, 3, 15, 16, 17, 23, 25, 47, 48, 49, 129])('at length %i', async (queryLength) => {
    await expectReference(backend, requestOf(stages, {}), inputsOf(queryLength, { queryLength }));
  });
  test.each([
    [1, 1],
    [3, 5],
    [40, 9],
    [64, 80],
  ])('with rows of %i and values of %i', async (dim, valueDim) => {
    await expectReference(backend, requestOf(stages, { dim, valueDim }), inputsOf(dim, { queryLength: 37, heads: 4, keyHeads: 2, dim, valueDim }));
  });
});

test('entmax 3 equals the reference as far as a square root of rounded numbers can', async () => {
  // A weight is the square root of a difference, so that one near 0 carries the root of the rounding error.
  await expectReference(backend, requestOf({ normalization: entmax(3), ...masked }, {}), inputsOf(64, { queryLength: 64 }), 2 * Math.sqrt(2 ** -23));
});

describe('values that are not finite', () => {
  test.each([Number.NaN, Infinity, -Infinity])('%f in a value is seen by the rows that may see it, and by no other (L10)', async (odd) => {
    for (const queryLength of [20, 70]) {
      const inputs = inputsOf(7, { queryLength });
      const value = Float32Array.from(inputs.value.shape.length === 4 ? { length: 2 * queryLength * 8 } : [], (_, index) => (Math.floor(index / 8) % queryLength === 15 && index % 3 === 0 ? odd : Math.sin(index)));
      await expectReference(backend, requestOf({ masking: causal() }, {}), { ...inputs, value: tensor(value, [1, 2, queryLength, 8]) });
    }
  });
});

test('a sink takes its share, also of rows that see nothing (L1, L7)', async () => {
  const stages = { normalization: softmax({ sink: true }), masking: window({ left: 2, right: 0 }) };
  const inputs = { ...inputsOf(3, { queryLength: 20, keyLength: 9 }), queryOffset: 0, tables: { sink: tensor(Float32Array.of(0.5, -3), [2]) } };
  await expectReference(backend, requestOf(stages, {}), inputs);
});
