import { createCpuBackend } from '@heed/cpu';
import { createReferenceBackend } from '@heed/core/reference';
import type { Backend } from '@heed/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cacheKinds, type CacheKind } from '../src/caches.ts';
import { Decoder } from '../src/decoder.ts';
import { shapes } from '../src/shapes.ts';

const prompt = [5, 17, 42, 3, 60, 11, 29];

describe.each(['tiny-gpt2', 'tiny-llama'] as const)('a decoder in the shape of %s', (name) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await createCpuBackend({ threads: 2 });
  });
  afterAll(async () => backend.dispose());

  const expectClose = (got: Float64Array, want: Float64Array, allowed: number): void => {
    expect(got.every((value, token) => Math.abs(value - want[token]!) <= allowed * (1 + Math.abs(want[token]!)))).toBe(true);
  };

  test('has the logits of the float64 reference', async () => {
    const reference = createReferenceBackend();
    const [one, other] = [await Decoder.create(backend, shapes[name]), await Decoder.create(reference, shapes[name])];
    expectClose(await one.next(prompt), await other.next(prompt), 1e-4);
    await one.dispose();
    await other.dispose();
    await reference.dispose();
  });

  test.each(Object.keys(cacheKinds) as CacheKind[])('generates with a %s cache what it generates without one', async (kind) => {
    const decoder = await Decoder.create(backend, shapes[name]);
    const caches = (): ReturnType<(typeof cacheKinds)[CacheKind]>[] => decoder.cacheShapes.map((shape) => cacheKinds[kind](shape, 32));
    // Codes of 8 bits are off by up to 0.4 % of the largest number of a row, in every layer.
    const allowed = kind === 'quantised' ? 0.15 : 1e-4;
    const tokens = await decoder.generate(prompt, 6, []);
    const used = caches();
    await decoder.next(prompt, used);
    for (let step = 1; step < tokens.length; step++) expectClose(await decoder.next([tokens[step - 1]!], used), await decoder.next([...prompt, ...tokens.slice(0, step)]), allowed);
    if (kind !== 'quantised') expect(await decoder.generate(prompt, 6, caches())).toEqual(tokens);
    await decoder.dispose();
  });
});
