import { attention, causal, tensor, toFloat64, type BlockList, type HostTensor, type Tensor } from '@heed/core';
import { createCpuBackend } from '@heed/cpu';
import { createWebGpuBackend } from '@heed/webgpu';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  gatherQueries, listRows, prepareLsh, prepareNsa, prepareRouting, selectByIndexer, selectLsh, selectMoba, selectNsa, selectRouting, selectTopKeys, sparse, type Selection, type SparseBackend,
} from '../../src/index.ts';
import { normals, numbers, random, worstShare } from '../plain.ts';

// Selectors are the same code on every runtime, tested against brute force on the cpu; here the device's operations are to choose what the cpu's choose, and to attend alike.
const [dim, length, heads, keyHeads] = [8, 24, 2, 1];
let here: SparseBackend;
let device: SparseBackend;
beforeAll(async () => {
  here = sparse(await createCpuBackend({ threads: 1 }));
  device = sparse(await createWebGpuBackend());
});
afterAll(async () => {
  for (const backend of [here, device]) {
    await backend.dispose();
    await backend.runtime.dispose();
  }
});

interface Rows {
  readonly query: HostTensor;
  readonly key: HostTensor;
  readonly value: HostTensor;
}

function draw(seed: number, ofKeys: number = keyHeads): Rows {
  const next = normals(seed);
  return { query: random(next, [1, heads, length, dim]), key: random(next, [1, ofKeys, length, dim]), value: random(next, [1, ofKeys, length, dim]) };
}

/** The same on both, the device's second. */
async function both<T>(make: (backend: SparseBackend) => Promise<T>): Promise<readonly [T, T]> {
  return [await make(here), await make(device)];
}

async function attend(backend: SparseBackend, rows: Rows, blocks: BlockList): Promise<Float64Array> {
  const kernel = await backend.prepare({ variant: attention({ masking: causal() }), queryDim: dim, keyDim: dim, valueDim: dim });
  const uploaded = { query: backend.runtime.upload(rows.query), key: backend.runtime.upload(rows.key), value: backend.runtime.upload(rows.value) };
  const { output, logSumExp } = await kernel.run({ ...uploaded, queryOffset: 0, blocks });
  const found = await numbers(backend.runtime, output);
  for (const one of [output, logSumExp, ...Object.values(uploaded)]) if (one?.runtime === backend.runtime) backend.runtime.release(one);
  await kernel.dispose();
  return found;
}

async function expectAlike(run: (backend: SparseBackend) => Promise<Tensor>): Promise<void> {
  const [want, got] = await both(async (backend) => numbers(backend.runtime, await run(backend)));
  expect(worstShare(got, want)).toBeLessThan(1);
}

const indexer = (): { readonly query: HostTensor; readonly key: HostTensor; readonly weights: HostTensor } => {
  const next = normals(33);
  return { query: random(next, [1, 3, length, 4]), key: random(next, [1, 1, length, 4]), weights: random(next, [1, 3, length]) };
};

test.each<readonly [string, (backend: SparseBackend, rows: Rows) => Promise<Selection>]>([
  ['top keys', ({ runtime }, rows) => selectTopKeys(runtime, rows, { count: 5 })],
  ['MoBA', ({ runtime }, rows) => selectMoba(runtime, rows, { blockLength: 4, count: 3 })],
  ['the lightning indexer', ({ runtime }) => selectByIndexer(runtime, indexer(), { count: 6 })],
])('%s on the device', async (_name, select) => {
  const rows = draw(1);
  const [want, got] = await both((backend) => select(backend, rows));
  expect([...toFloat64(got.indices)]).toEqual([...toFloat64(want.indices)]);
  for (const list of [listRows, (selection: Selection) => gatherQueries(selection, { blockQuery: 8, causalOffset: 0 })]) {
    expect(worstShare(await attend(device, rows, list(got)), await attend(here, rows, list(want)))).toBeLessThan(1);
  }
});

test('native sparse attention on the device', async () => {
  const sizes = { compressBlock: 8, stride: 4, selectBlock: 8, count: 2, initial: 1, local: 1, window: 6 };
  const { query, ...branch } = draw(2);
  const compression = { key: draw(3).key, value: draw(3).value };
  const blocks = Math.floor((length - sizes.compressBlock) / sizes.stride) + 1;
  const cut = (rows: HostTensor): HostTensor => tensor(rows.view().slice(0, blocks * dim), [1, 1, blocks, dim]);
  const compressed = { key: cut(compression.key), value: cut(compression.value) };
  const [want, got] = await both(({ runtime }) => selectNsa(runtime, { query, key: compressed.key }, sizes));
  expect([...toFloat64(got.indices)]).toEqual([...toFloat64(want.indices)]);
  const gates = tensor(new Float32Array(heads * length * 3).fill(0.5), [1, heads, length, 3]);
  await expectAlike(async (backend) => {
    const layer = await prepareNsa(backend, { queryDim: dim, keyDim: dim, valueDim: dim }, sizes);
    const { output } = await layer.run({ query, compression: compressed, selection: branch, window: branch, gates, choice: want });
    await layer.dispose();
    return output;
  });
});

test('LSH attention on the device', async () => {
  const { query, value } = draw(4, heads);
  const [want, got] = await both(({ runtime }) => selectLsh(runtime, query, { rounds: 2, buckets: 4, chunk: 6, seed: 5 }));
  expect([...toFloat64(got.order)]).toEqual([...toFloat64(want.order)]);
  await expectAlike(async (backend) => {
    const layer = await prepareLsh(backend, { dim, valueDim: dim, rounds: 2 });
    const output = await layer.run({ query, value, choice: want });
    await layer.dispose();
    return output;
  });
});

test('routing attention on the device', async () => {
  const rows = { ...draw(6, heads), centroids: random(normals(7), [heads, 3, dim]) };
  const [want, got] = await both(({ runtime }) => selectRouting(runtime, rows, { members: 7 }));
  for (const side of ['queries', 'keys'] as const) expect([...toFloat64(got[side])]).toEqual([...toFloat64(want[side])]);
  await expectAlike(async (backend) => {
    const layer = await prepareRouting(backend, { dim, valueDim: dim });
    const output = await layer.run({ ...rows, choice: want });
    await layer.dispose();
    return output;
  });
});
