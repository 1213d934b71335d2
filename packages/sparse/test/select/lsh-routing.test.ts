import { tensor, toFloat64, type HostTensor } from '@heed/core';
import { createCpuBackend } from '@heed/cpu';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { prepareLsh, prepareRouting, selectLsh, selectRouting, sparse, type LshChoice, type SparseBackend } from '../../src/index.ts';
import { normals, numbers, plainAttention, random, reader4, worstShare } from '../plain.ts';

const [dim, length, heads] = [8, 45, 2];
let backend: SparseBackend;
beforeAll(async () => {
  backend = sparse(await createCpuBackend({ threads: 1 }));
});
afterAll(() => backend.runtime.dispose());

/** Rows divided by their length, or made of mean 0 and variance 1. */
function normed(rows: HostTensor, norm: 'l2' | 'layer'): HostTensor {
  const values = toFloat64(rows);
  const width = rows.shape[3] ?? 1;
  return tensor(Float64Array.from(values, (value, at) => {
    const own = values.subarray(at - (at % width), at - (at % width) + width);
    const mean = norm === 'l2' ? 0 : own.reduce((x, y) => x + y, 0) / width;
    const square = own.reduce((x, y) => x + (y - mean) ** 2, 0);
    return (value - mean) / Math.sqrt(norm === 'l2' ? square : square / width + 1e-5);
  }), rows.shape);
}

describe('LSH attention', () => {
  const draw = (seed: number): { readonly query: HostTensor; readonly value: HostTensor } => {
    const next = normals(seed);
    return { query: random(next, [2, heads, length, dim]), value: random(next, [2, heads, length, dim]) };
  };
  /** Places of the rows, and pairs that any round has, each once, causal; a row's own key only 1e5 lower. */
  const plain = ({ query, value }: ReturnType<typeof draw>, { order, chunk }: LshChoice): Float64Array => {
    const places = toFloat64(order);
    const [rounds = 0] = order.shape;
    const chunkOf = (round: number, b: number, h: number, row: number): number => {
      const start = ((round * 2 + b) * heads + h) * length;
      return Math.floor(places.subarray(start, start + length).indexOf(row) / chunk);
    };
    const seen = (b: number, h: number, i: number, j: number): boolean => j <= i && Array.from({ length: rounds }, (_, round) => chunkOf(round, b, h, i) - chunkOf(round, b, h, j)).some((back) => back === 0 || back === 1);
    return plainAttention({ query, key: normed(query, 'l2'), value, allowed: seen, modify: (score, _b, _h, i, j) => (i === j ? score - 1e5 : score) });
  };

  test('hashes by the largest of [xR; −xR], so a row and its double meet and a row and its opposite do not', async () => {
    const next = normals(3);
    const half = random(next, [1, 1, 20, dim]).view();
    const doubled = tensor(Float32Array.from({ length: 40 * dim }, (_, at) => (half[at % (20 * dim)] ?? 0) * (at < 20 * dim ? 1 : 2)), [1, 1, 40, dim]);
    const order = [...(await selectLsh(backend.runtime, doubled, { rounds: 1, buckets: 16, chunk: 4 })).order.view()];
    // Sorted by bucket, then position: going through the order, positions fall only where the bucket changes, and row n + 20 comes in the run of row n.
    const runOf = new Map<number, number>();
    let run = 0;
    for (const [place, row] of order.entries()) {
      if (place > 0 && row < (order[place - 1] ?? 0)) run += 1;
      runOf.set(row, run);
    }
    for (let row = 0; row < 20; row++) expect(Math.abs((runOf.get(row) ?? 0) - (runOf.get(row + 20) ?? 0))).toBeLessThanOrEqual(1);
    const opposite = tensor(Float32Array.from({ length: 2 * dim }, (_, at) => (at < dim ? 1 : -1) * (half[at % dim] ?? 0)), [1, 1, 2, dim]);
    const orders = await Promise.all(Array.from({ length: 8 }, async (_, seed) => [...(await selectLsh(backend.runtime, opposite, { rounds: 1, buckets: 2, chunk: 1, seed })).order.view()].join()));
    expect(new Set(orders).size).toBe(2);
  });

  test.each([[1, 4, 8], [3, 4, 6], [4, 8, 5]])('counts each pair of %i rounds once (buckets %i, chunks of %i)', async (rounds, buckets, chunk) => {
    const rows = draw(rounds);
    const choice = await selectLsh(backend.runtime, rows.query, { rounds, buckets, chunk, seed: 5 });
    const layer = await prepareLsh(backend, { dim, valueDim: dim, rounds });
    const output = await layer.run({ ...rows, choice });
    expect(output.runtime).toBeNull();
    expect(worstShare(await numbers(backend.runtime, output), plain(rows, choice))).toBeLessThan(1);
    await layer.dispose();
  });

  test('with one bucket and one chunk is attention of shared queries and keys, whatever the rounds', async () => {
    const rows = draw(8);
    const layer = await prepareLsh(backend, { dim, valueDim: dim, rounds: 3 });
    const output = await layer.run({ ...rows, choice: await selectLsh(backend.runtime, rows.query, { rounds: 3, buckets: 1, chunk: 64 }) });
    const want = plainAttention({ query: rows.query, key: normed(rows.query, 'l2'), value: rows.value, allowed: (_b, _h, i, j) => j <= i, modify: (score, _b, _h, i, j) => (i === j ? score - 1e5 : score) });
    expect(worstShare(await numbers(backend.runtime, output), want)).toBeLessThan(1);
    await layer.dispose();
  });

  test('refuses what it cannot hash, and choices of other rows', async () => {
    const rows = draw(9);
    await expect(selectLsh(backend.runtime, rows.query, { buckets: 3, chunk: 4 })).rejects.toMatchObject({ code: 'invalid-argument' });
    const layer = await prepareLsh(backend, { dim, valueDim: dim, rounds: 2 });
    await expect(layer.run({ ...rows, choice: await selectLsh(backend.runtime, rows.query, { rounds: 3, buckets: 2, chunk: 4 }) })).rejects.toMatchObject({ code: 'invalid-argument' });
    await layer.dispose();
  });
});

describe('routing attention', () => {
  const clusters = 4;
  const draw = (seed: number): Record<'query' | 'key' | 'value' | 'centroids', HostTensor> => {
    const next = normals(seed);
    const rows = (): HostTensor => random(next, [2, heads, length, dim]);
    return { query: rows(), key: rows(), value: rows(), centroids: random(next, [heads, clusters, dim]) };
  };
  const plainMembers = (rows: HostTensor, centroids: HostTensor, b: number, h: number, cluster: number, members: number): number[] => {
    const [x, mu] = [reader4(normed(rows, 'layer')), toFloat64(centroids)];
    const products = Array.from({ length }, (_, row) => Array.from({ length: dim }, (_unused, channel) => x(b, h, row, channel) * (mu[(h * clusters + cluster) * dim + channel] ?? 0)).reduce((s, t) => s + t, 0));
    return [...products.keys()].sort((s, t) => (products[t] ?? 0) - (products[s] ?? 0) || s - t).slice(0, members).sort((s, t) => s - t);
  };

  test('takes the rows nearest to each centroid, by brute force', async () => {
    const rows = draw(1);
    const choice = await selectRouting(backend.runtime, rows, { members: 7 });
    for (const [side, own] of [['queries', rows.query], ['keys', rows.key]] as const) {
      const found = [...choice[side].view()];
      for (let b = 0; b < 2; b++) for (let h = 0; h < heads; h++) for (let cluster = 0; cluster < clusters; cluster++) {
        const start = ((b * heads + h) * clusters + cluster) * 7;
        expect(found.slice(start, start + 7)).toEqual(plainMembers(own, rows.centroids, b, h, cluster, 7));
      }
    }
    expect((await selectRouting(backend.runtime, { ...rows, key: rows.query }, { members: 7 })).keys.view()).toEqual(choice.queries.view());
  });

  test('is causal attention within each cluster, summed over the clusters of a row, and 0 in none', async () => {
    const rows = draw(2);
    const members = 9;
    const want = new Float64Array(2 * heads * length * dim);
    const inCluster = (own: HostTensor, cluster: number): Set<string> => {
      const all = new Set<string>();
      for (let b = 0; b < 2; b++) for (let h = 0; h < heads; h++) for (const row of plainMembers(own, rows.centroids, b, h, cluster, members)) all.add(`${b} ${h} ${row}`);
      return all;
    };
    for (let cluster = 0; cluster < clusters; cluster++) {
      const [queries, keys] = [inCluster(rows.query, cluster), inCluster(rows.key, cluster)];
      const output = plainAttention({ query: normed(rows.query, 'layer'), key: normed(rows.key, 'layer'), value: rows.value, allowed: (b, h, i, j) => j <= i && queries.has(`${b} ${h} ${i}`) && keys.has(`${b} ${h} ${j}`) });
      for (const [at, value] of output.entries()) want[at] = (want[at] ?? 0) + value;
    }
    const layer = await prepareRouting(backend, { dim, valueDim: dim });
    const output = await layer.run({ ...rows, choice: await selectRouting(backend.runtime, rows, { members }) });
    expect(worstShare(await numbers(backend.runtime, output), want)).toBeLessThan(1);
    await layer.dispose();
  });

  test('refuses more members than rows', async () => {
    await expect(selectRouting(backend.runtime, draw(3), { members: length + 1 })).rejects.toMatchObject({ code: 'invalid-argument' });
  });
});
