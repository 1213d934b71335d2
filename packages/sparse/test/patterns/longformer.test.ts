import { createCpuBackend } from '@heed/cpu';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { prepareLongformer, sparse, type SparseBackend } from '../../src/index.ts';
import { normals, numbers, plainAttention, random, worstShare } from '../plain.ts';

let backend: SparseBackend;
beforeAll(async () => {
  backend = sparse(await createCpuBackend({ threads: 1 }));
});
afterAll(() => backend.runtime.dispose());

test.each([[[0]], [[0, 17, 18, 40]], [[]]])('global rows %o have projections of their own; a pair that is global and in the window counts once', async (globals) => {
  const [length, dim] = [41, 8];
  const next = normals(globals.length + 1);
  const draw = (): ReturnType<typeof random> => random(next, [2, 3, length, dim]);
  const inputs = { query: draw(), key: draw(), value: draw(), globalQuery: draw(), globalKey: draw(), globalValue: draw(), globals };
  const local = plainAttention({ ...inputs, allowed: (_b, _h, i, j) => Math.abs(i - j) <= 3 || globals.includes(j) });
  const global = plainAttention({ query: inputs.globalQuery, key: inputs.globalKey, value: inputs.globalValue, allowed: () => true });
  const want = local.map((value, at) => (globals.includes(Math.floor(at / dim) % length) ? (global[at] ?? 0) : value));
  const layer = await prepareLongformer(backend, { left: 3, right: 3, queryDim: dim, keyDim: dim, valueDim: dim });
  const before = backend.runtime.memory().bytes;
  const output = await layer.run(inputs);
  expect(output.runtime).toBeNull();
  expect(worstShare(await numbers(backend.runtime, output), want)).toBeLessThan(1);
  expect(backend.runtime.memory().bytes).toBe(before);
  await layer.dispose();
});

test('global rows outside the sequence, or named twice, are refused', async () => {
  const layer = await prepareLongformer(backend, { left: 3, right: 3, queryDim: 4, keyDim: 4, valueDim: 4 });
  const rows = random(normals(1), [1, 1, 5, 4]);
  const inputs = { query: rows, key: rows, value: rows, globalQuery: rows, globalKey: rows, globalValue: rows };
  await expect(layer.run({ ...inputs, globals: [5] })).rejects.toMatchObject({ code: 'invalid-argument' });
  await expect(layer.run({ ...inputs, globals: [1, 1] })).rejects.toMatchObject({ code: 'invalid-argument' });
  await layer.dispose();
});
