import type { HostTensor } from '@heed/core';
import { attention, causal, slice, tensor } from '@heed/core';
import { createCpuBackend } from '@heed/cpu';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chosenOf, gatherQueries, listRows, PooledKeys, selectMoba, sparse, type Selection, type SparseBackend } from '../../src/index.ts';
import { normals, numbers, plainAttention, random, reader4, worstShare } from '../plain.ts';

const dim = 8;
let backend: SparseBackend;
beforeAll(async () => {
  backend = sparse(await createCpuBackend({ threads: 1 }));
});
afterAll(() => backend.runtime.dispose());

interface Rows {
  readonly query: HostTensor;
  readonly key: HostTensor;
  readonly value: HostTensor;
}

function draw(seed: number, { batch = 1, heads = 4, keyHeads = 2, length = 37 } = {}): Rows {
  const next = normals(seed);
  return { query: random(next, [batch, heads, length, dim]), key: random(next, [batch, keyHeads, length, dim]), value: random(next, [batch, keyHeads, length, dim]) };
}

/** The gate of the paper in float64: q · mean of the block's keys, own block +∞, later blocks −∞, the `count` largest, lower index on ties. */
function plainChoice({ query, key }: Rows, b: number, h: number, row: number, { blockLength, count, offset = 0 }: { blockLength: number; count: number; offset?: number }): number[] {
  const [, heads = 1] = query.shape;
  const [, keyHeads = 1] = key.shape;
  const keyHead = Math.floor((h * keyHeads) / heads);
  const [q, k] = [reader4(query), reader4(key)];
  const own = Math.floor((row + offset) / blockLength);
  const gates = Array.from({ length: own }, (_, block) => {
    let gate = 0;
    for (let channel = 0; channel < dim; channel++) {
      let mean = 0;
      for (let place = 0; place < blockLength; place++) mean += k(b, keyHead, block * blockLength + place, channel) / blockLength;
      gate += q(b, h, row, channel) * mean;
    }
    return gate;
  });
  const best = [...gates.keys()].sort((x, y) => (gates[y] ?? 0) - (gates[x] ?? 0) || x - y).slice(0, count - 1);
  return [...best, own].sort((x, y) => x - y);
}

function everyRow(selection: Selection): number[][] {
  const [batch = 0, heads = 0, rows = 0] = selection.indices.shape;
  const all: number[][] = [];
  for (let b = 0; b < batch; b++) for (let h = 0; h < heads; h++) for (let row = 0; row < rows; row++) all.push([...chosenOf(selection, b, h, row)]);
  return all;
}

async function attend(rows: Rows, selection: Selection, how: 'gathered' | 'rows' = 'gathered', offset = 0): Promise<Float64Array> {
  const kernel = await backend.prepare({ variant: attention({ masking: causal() }), queryDim: dim, keyDim: dim, valueDim: dim });
  const blocks = how === 'rows' ? listRows(selection) : gatherQueries(selection, { blockQuery: 4, causalOffset: offset });
  const { output } = await kernel.run({ ...rows, queryOffset: offset, blocks });
  await kernel.dispose();
  return numbers(backend.runtime, output);
}

describe('MoBA chooses', () => {
  test.each([[1, 1, 1], [4, 2, 3], [5, 5, 2], [8, 8, 8]])('the own block and the best before it, by brute force (block %i, count %i)', async (blockLength, count, batch) => {
    const rows = draw(blockLength * 100 + count, { batch });
    const selection = await selectMoba(backend.runtime, rows, { blockLength, count });
    const want: number[][] = [];
    for (let b = 0; b < batch; b++) for (let h = 0; h < 4; h++) for (let row = 0; row < 37; row++) want.push(plainChoice(rows, b, h, row, { blockLength, count }));
    expect(everyRow(selection)).toEqual(want);
  });

  test('the lower block on ties', async () => {
    const rows = { ...draw(1), key: tensor(new Float32Array(2 * 37 * dim).fill(1), [1, 2, 37, dim]) };
    const selection = await selectMoba(backend.runtime, rows, { blockLength: 4, count: 3 });
    expect(chosenOf(selection, 0, 3, 36)).toEqual([0, 1, 9]);
    expect(chosenOf(selection, 0, 0, 5)).toEqual([0, 1]);
  });

  test('alike in prefill and step by step, from pooled keys of which a block counts once it is whole', async () => {
    const rows = draw(7, { batch: 2 });
    const prefill = everyRow(await selectMoba(backend.runtime, rows, { blockLength: 4, count: 3 }));
    const pooled = new PooledKeys(backend.runtime, 4);
    // A prompt of 6, then one by one, then a chunk of 9, then one by one.
    const steps = [6, 1, 1, 1, 1, 9, ...new Array<number>(18).fill(1)];
    let at = 0;
    for (const step of steps) {
      const query = slice(rows.query, 2, at, at + step);
      pooled.append(slice(rows.key, 2, at, at + step));
      const selection = await selectMoba(backend.runtime, { query, key: slice(rows.key, 2, 0, at + step), queryOffset: at, pooled }, { blockLength: 4, count: 3 });
      for (let b = 0; b < 2; b++) for (let h = 0; h < 4; h++) for (let row = 0; row < step; row++) expect([...chosenOf(selection, b, h, row)], `row ${at + row}`).toEqual(prefill[(b * 4 + h) * 37 + at + row]);
      at += step;
    }
    expect([at, pooled.length, pooled.blocks]).toEqual([37, 37, 9]);
    pooled.dispose();
  });

  test('in packed sequences as in each by itself', async () => {
    const rows = draw(9, { length: 30 });
    const packed = { query: [0, 11, 11, 30], key: [0, 11, 11, 30] };
    const selection = await selectMoba(backend.runtime, { ...rows, packed }, { blockLength: 3, count: 2 });
    for (const [sequence, from, to] of [[0, 0, 11], [2, 11, 30]] as const) {
      const own = { query: slice(rows.query, 2, from, to), key: slice(rows.key, 2, from, to), value: slice(rows.value, 2, from, to) };
      for (let row = 0; row < to - from; row++) expect([...chosenOf(selection, sequence, 2, row)]).toEqual(plainChoice(own, 0, 2, row, { blockLength: 3, count: 2 }));
    }
    const kernel = await backend.prepare({ variant: attention({ masking: causal() }), queryDim: dim, keyDim: dim, valueDim: dim });
    const { output } = await kernel.run({ ...rows, packed, blocks: gatherQueries(selection, { blockQuery: 4, causalOffset: 0 }) });
    const want = plainAttention({ ...rows, allowed: (_b, h, i, j) => {
      const [sequence, from] = i < 11 ? [0, 0] as const : [2, 11] as const;
      return j <= i && j >= from && chosenOf(selection, sequence, h, i - from).includes(Math.floor((j - from) / 3));
    } });
    expect(worstShare(await numbers(backend.runtime, output), want)).toBeLessThan(1);
    await kernel.dispose();
  });

  test('within the call: what it cannot do is refused, and what it made is given back', async () => {
    const { runtime } = backend;
    const before = runtime.memory().bytes;
    const rows = draw(3);
    await expect(selectMoba(runtime, rows, { blockLength: 0, count: 1 })).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(selectMoba(runtime, { ...rows, queryOffset: 50 }, { blockLength: 4, count: 2 })).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(selectMoba(runtime, { ...rows, key: rows.query.shape[3] === 8 ? random(normals(1), [1, 3, 37, 8]) : rows.key }, { blockLength: 4, count: 2 })).rejects.toMatchObject({ code: 'invalid-shape' });
    await selectMoba(runtime, rows, { blockLength: 4, count: 3 });
    expect(runtime.memory().bytes).toBe(before);
  });
});

describe('attention over what MoBA chose', () => {
  test.each(['gathered', 'rows'] as const)('equals the gate and the softmax of the paper in float64 (%s)', async (how) => {
    const rows = draw(21, { batch: 2 });
    const options = { blockLength: 4, count: 3 };
    const got = await attend(rows, await selectMoba(backend.runtime, rows, options), how);
    const want = plainAttention({ ...rows, allowed: (b, h, i, j) => j <= i && plainChoice(rows, b, h, i, options).includes(Math.floor(j / 4)) });
    expect(worstShare(got, want)).toBeLessThan(1);
  });

  test('of every block is dense causal attention; of one, attention within blocks', async () => {
    const rows = draw(22);
    const all = await attend(rows, await selectMoba(backend.runtime, rows, { blockLength: 4, count: 10 }));
    expect(worstShare(all, plainAttention({ ...rows, allowed: (_b, _h, i, j) => j <= i }))).toBeLessThan(1);
    const one = await attend(rows, await selectMoba(backend.runtime, rows, { blockLength: 4, count: 1 }));
    expect(worstShare(one, plainAttention({ ...rows, allowed: (_b, _h, i, j) => j <= i && Math.floor(i / 4) === Math.floor(j / 4) }))).toBeLessThan(1);
  });

  test('is what it was with a choice that was saved and given back', async () => {
    const rows = draw(23);
    const selection = await selectMoba(backend.runtime, rows, { blockLength: 4, count: 3 });
    const saved = structuredClone({ unit: selection.unit, shape: selection.indices.shape, indices: [...selection.indices.view()] });
    const back: Selection = { unit: saved.unit, indices: tensor(Int32Array.from(saved.indices), saved.shape) };
    expect(await attend(rows, back)).toEqual(await attend(rows, selection));
  });
});
