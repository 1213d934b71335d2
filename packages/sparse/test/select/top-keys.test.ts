import { attention, causal, tensor, type HostTensor } from '@heed/core';
import { createCpuBackend } from '@heed/cpu';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chosenOf, gatherQueries, listRows, selectByIndexer, selectMoba, selectTopKeys, sparse, type Selection, type SparseBackend } from '../../src/index.ts';
import { normals, numbers, plainAttention, random, reader4, worstShare } from '../plain.ts';

const dim = 8;
const length = 29;
let backend: SparseBackend;
beforeAll(async () => {
  backend = sparse(await createCpuBackend({ threads: 1 }));
});
afterAll(() => backend.runtime.dispose());

function draw(seed: number, batch = 2): { readonly query: HostTensor; readonly key: HostTensor; readonly value: HostTensor } {
  const next = normals(seed);
  return { query: random(next, [batch, 4, length, dim]), key: random(next, [batch, 2, length, dim]), value: random(next, [batch, 2, length, dim]) };
}

/** The `count` largest of scores of keys 0 … end − 1, in float64, lower index on ties. */
function best(scores: (key: number) => number, end: number, count: number): number[] {
  const values = Array.from({ length: end }, (_, key) => scores(key));
  return [...values.keys()].sort((x, y) => (values[y] ?? 0) - (values[x] ?? 0) || x - y).slice(0, count).sort((x, y) => x - y);
}

function product(rows: { readonly query: HostTensor; readonly key: HostTensor }, b: number, h: number, i: number, j: number, keyHead: number): number {
  const [q, k] = [reader4(rows.query), reader4(rows.key)];
  let sum = 0;
  for (let channel = 0; channel < (rows.query.shape[3] ?? 0); channel++) sum += q(b, h, i, channel) * k(b, keyHead, j, channel);
  return sum;
}

async function attend(rows: ReturnType<typeof draw>, selection: Selection, variant = attention({ masking: causal() }), gathered = false): Promise<Float64Array> {
  const kernel = await backend.prepare({ variant, queryDim: dim, keyDim: dim, valueDim: dim });
  const { output } = await kernel.run({ ...rows, queryOffset: 0, blocks: gathered ? gatherQueries(selection) : listRows(selection) });
  await kernel.dispose();
  return numbers(backend.runtime, output);
}

describe('top keys', () => {
  test.each([[1, true], [5, true], [5, false]])('are the best by brute force (count %i, causal %s)', async (count, ordered) => {
    const rows = draw(count);
    const selection = await selectTopKeys(backend.runtime, rows, { count, causal: ordered });
    for (let b = 0; b < 2; b++) for (let h = 0; h < 4; h++) for (let i = 0; i < length; i++) {
      expect([...chosenOf(selection, b, h, i)]).toEqual(best((j) => product(rows, b, h, i, j, h >> 1), ordered ? i + 1 : length, count));
    }
  });

  test('are the lower ones on ties', async () => {
    const rows = { ...draw(1, 1), key: tensor(new Float32Array(2 * length * dim), [1, 2, length, dim]) };
    const selection = await selectTopKeys(backend.runtime, rows, { count: 3 });
    expect(chosenOf(selection, 0, 0, 20)).toEqual([0, 1, 2]);
    expect(chosenOf(selection, 0, 0, 1)).toEqual([0, 1]);
  });

  test('of a step of decoding are those of prefill', async () => {
    const rows = draw(4, 1);
    const prefill = await selectTopKeys(backend.runtime, rows, { count: 4 });
    for (const i of [0, 3, 17, 28]) {
      const cut = (source: HostTensor, heads: number, from: number, to: number): HostTensor => tensor(Float32Array.from({ length: heads * (to - from) * dim }, (_, at) => reader4(source)(0, Math.floor(at / dim / (to - from)), from + (Math.floor(at / dim) % (to - from)), at % dim)), [1, heads, to - from, dim]);
      const step = await selectTopKeys(backend.runtime, { query: cut(rows.query, 4, i, i + 1), key: cut(rows.key, 2, 0, i + 1), queryOffset: 'end' }, { count: 4 });
      for (let h = 0; h < 4; h++) expect(chosenOf(step, 0, h, 0)).toEqual(chosenOf(prefill, 0, h, i));
    }
  });

  test.each([false, true])('give attention over themselves (gathered %s)', async (gathered) => {
    const rows = draw(6);
    const selection = await selectTopKeys(backend.runtime, rows, { count: 5 });
    const want = plainAttention({ ...rows, allowed: (b, h, i, j) => chosenOf(selection, b, h, i).includes(j) });
    expect(worstShare(await attend(rows, selection, undefined, gathered), want)).toBeLessThan(1);
  });

  test('as many as there are, MoBA of every block and an indexer that keeps every key are all dense causal attention', async () => {
    const rows = draw(8);
    const want = plainAttention({ ...rows, allowed: (_b, _h, i, j) => j <= i });
    const next = normals(81);
    const indexer = { query: random(next, [2, 3, length, 4]), key: random(next, [2, 1, length, 4]), weights: random(next, [2, 3, length]) };
    for (const selection of [
      await selectTopKeys(backend.runtime, rows, { count: length }),
      await selectMoba(backend.runtime, rows, { blockLength: 4, count: 8 }),
      await selectByIndexer(backend.runtime, indexer, { count: length + 5 }),
    ]) expect(worstShare(await attend(rows, selection), want)).toBeLessThan(1);
  });

  test('refuse what they cannot choose, and hold nothing', async () => {
    const before = backend.runtime.memory().bytes;
    const rows = draw(9);
    await expect(selectTopKeys(backend.runtime, rows, { count: 0 })).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(selectTopKeys(backend.runtime, { ...rows, packed: { query: [0, 5], key: [0, 5] } }, { count: 1 })).rejects.toMatchObject({ code: 'invalid-argument' });
    await selectTopKeys(backend.runtime, rows, { count: 2 });
    expect(backend.runtime.memory().bytes).toBe(before);
  });
});

describe('the lightning indexer', () => {
  const draws = (seed: number): { readonly query: HostTensor; readonly key: HostTensor; readonly weights: HostTensor } => {
    const next = normals(seed);
    return { query: random(next, [2, 3, length, 4]), key: random(next, [2, 1, length, 4]), weights: random(next, [2, 3, length]) };
  };
  const score = (indexer: ReturnType<typeof draws>, b: number, i: number, j: number): number => {
    const weights = indexer.weights.view();
    return [0, 1, 2].reduce((sum, h) => sum + (weights[(b * 3 + h) * length + i] ?? 0) * Math.max(0, product(indexer, b, h, i, j, 0)), 0);
  };

  test('chooses the keys with the largest Σ w · ReLU(q · k), by brute force', async () => {
    const indexer = draws(2);
    const selection = await selectByIndexer(backend.runtime, indexer, { count: 6 });
    expect(selection.indices.shape).toEqual([2, 1, length, 6]);
    for (let b = 0; b < 2; b++) for (let i = 0; i < length; i++) expect([...chosenOf(selection, b, 0, i)]).toEqual(best((j) => score(indexer, b, i, j), i + 1, 6));
  });

  test('chooses in packed sequences as in each by itself', async () => {
    const indexer = draws(5);
    const one = { query: tensor(indexer.query.view().slice(0, 3 * length * 4), [1, 3, length, 4]), key: tensor(indexer.key.view().slice(0, length * 4), [1, 1, length, 4]), weights: tensor(indexer.weights.view().slice(0, 3 * length), [1, 3, length]) };
    const selection = await selectByIndexer(backend.runtime, { ...one, packed: { query: [0, 12, length], key: [0, 12, length] } }, { count: 4 });
    for (let i = 0; i < 17; i++) expect([...chosenOf(selection, 1, 0, i)]).toEqual(best((j) => score(one, 0, 12 + i, 12 + j), i + 1, 4));
  });

  test('shares its choice among all heads of the attention', async () => {
    const rows = draw(12);
    const indexer = draws(13);
    const selection = await selectByIndexer(backend.runtime, indexer, { count: 6 });
    const want = plainAttention({ ...rows, allowed: (b, _h, i, j) => best((key) => score(indexer, b, i, key), i + 1, 6).includes(j) });
    expect(worstShare(await attend(rows, selection), want)).toBeLessThan(1);
  });
});
