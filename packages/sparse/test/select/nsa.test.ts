import { tensor, toFloat64, type HostTensor } from '@heed/core';
import { createCpuBackend } from '@heed/cpu';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chosenOf, compressBlocks, prepareNsa, selectNsa, sparse, type SparseBackend } from '../../src/index.ts';
import { normals, numbers, plainAttention, random, reader4, worstShare } from '../plain.ts';

const [dim, length, heads, keyHeads] = [8, 61, 4, 2];
let backend: SparseBackend;
beforeAll(async () => {
  backend = sparse(await createCpuBackend({ threads: 1 }));
});
afterAll(() => backend.runtime.dispose());

interface Sizes {
  readonly compressBlock: number;
  readonly stride: number;
  readonly selectBlock: number;
  readonly count: number;
  readonly initial: number;
  readonly local: number;
  readonly window: number;
}
const small: Sizes = { compressBlock: 8, stride: 4, selectBlock: 8, count: 4, initial: 1, local: 2, window: 6 };

function draw(seed: number, { compressBlock, stride }: Sizes): { readonly query: HostTensor; readonly compression: { readonly key: HostTensor; readonly value: HostTensor } } & Record<'selection' | 'window', { readonly key: HostTensor; readonly value: HostTensor }> & { readonly gates: HostTensor } {
  const next = normals(seed);
  const blocks = Math.floor((length - compressBlock) / stride) + 1;
  const branch = (rows: number): { readonly key: HostTensor; readonly value: HostTensor } => ({ key: random(next, [2, keyHeads, rows, dim]), value: random(next, [2, keyHeads, rows, dim]) });
  const gates = random(next, [2, heads, length, 3]);
  return { query: random(next, [2, heads, length, dim]), compression: branch(blocks), selection: branch(length), window: branch(length), gates: tensor(Float32Array.from(toFloat64(gates), (x) => 1 / (1 + Math.exp(-x))), gates.shape) };
}

/** Blocks of a query by the paper's equations 8 to 11, in float64. */
function plainChoice(query: HostTensor, compressed: HostTensor, b: number, group: number, t: number, { compressBlock, stride, selectBlock, count, initial, local }: Sizes): number[] {
  const [q, k] = [reader4(query), reader4(compressed)];
  const own = Math.floor(t / selectBlock);
  const importance = new Array<number>(own + 1).fill(0);
  for (let h = group * 2; h < group * 2 + 2; h++) {
    const visible = Array.from({ length: compressed.shape[2] ?? 0 }, (_, c) => c).filter((c) => c * stride + compressBlock - 1 <= t);
    const scores = visible.map((c) => Array.from({ length: dim }, (_, channel) => q(b, h, t, channel) * k(b, group, c, channel)).reduce((x, y) => x + y, 0) / Math.sqrt(dim));
    const most = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - most));
    const total = weights.reduce((x, y) => x + y, 0);
    // w^cmp[u − n] over the strides u of block J and the offsets n = 0 … l/d − 1.
    for (let block = 0; block <= own; block++) for (let m = 0; m < selectBlock / stride; m++) for (let n = 0; n < compressBlock / stride; n++) {
      const place = visible.indexOf((selectBlock / stride) * block + m - n);
      if (place >= 0) importance[block] = (importance[block] ?? 0) + (weights[place] ?? 0) / total;
    }
  }
  const forced = [...importance.keys()].filter((block) => block < initial || block > own - local);
  const rest = [...importance.keys()].filter((block) => !forced.includes(block)).sort((x, y) => (importance[y] ?? 0) - (importance[x] ?? 0) || x - y);
  return [...forced, ...rest.slice(0, count - initial - local)].sort((x, y) => x - y);
}

const shapes: Readonly<Record<string, Sizes>> = {
  small,
  'blocks of one stride': { ...small, compressBlock: 4 },
  'long compression blocks': { ...small, compressBlock: 16, count: 5, initial: 0, local: 1 },
  'nothing but what is forced': { ...small, count: 3 },
  'more than there are': { ...small, count: 20 },
};

describe.each(Object.entries(shapes))('native sparse attention, %s', (_name, sizes) => {
  test('selects what the equations of the paper select, one choice for the heads of a group', async () => {
    const { query, compression } = draw(1, sizes);
    const selection = await selectNsa(backend.runtime, { query, key: compression.key }, sizes);
    expect(selection.indices.shape).toEqual([2, keyHeads, length, sizes.count]);
    for (let b = 0; b < 2; b++) for (let g = 0; g < keyHeads; g++) for (let t = 0; t < length; t++) expect([...chosenOf(selection, b, g, t)], `row ${t}`).toEqual(plainChoice(query, compression.key, b, g, t, sizes));
  });

  test('is the gated sum of its branches in float64', async () => {
    const inputs = draw(2, sizes);
    const branch = (rows: { readonly key: HostTensor; readonly value: HostTensor }, allowed: Parameters<typeof plainAttention>[0]['allowed']): Float64Array => plainAttention({ query: inputs.query, ...rows, allowed });
    const outputs = [
      branch(inputs.compression, (_b, _h, t, c) => c * sizes.stride + sizes.compressBlock - 1 <= t),
      branch(inputs.selection, (b, h, t, j) => j <= t && plainChoice(inputs.query, inputs.compression.key, b, h >> 1, t, sizes).includes(Math.floor(j / sizes.selectBlock))),
      branch(inputs.window, (_b, _h, t, j) => j <= t && t - j < sizes.window),
    ];
    const gates = toFloat64(inputs.gates);
    const want = (outputs[0] ?? new Float64Array()).map((_, at) => outputs.reduce((sum, output, index) => sum + (gates[Math.floor(at / dim) * 3 + index] ?? 0) * (output[at] ?? 0), 0));
    const layer = await prepareNsa(backend, { queryDim: dim, keyDim: dim, valueDim: dim }, sizes);
    const { output, choice } = await layer.run(inputs);
    expect(worstShare(await numbers(backend.runtime, output), want)).toBeLessThan(1);
    // Kernels keep what calls of one shape share; calls themselves hold nothing.
    const before = backend.runtime.memory().bytes;
    await layer.run(inputs);
    expect(backend.runtime.memory().bytes).toBe(before);
    const again = await layer.run({ ...inputs, choice });
    expect(await numbers(backend.runtime, again.output)).toEqual(await numbers(backend.runtime, output));
    await layer.dispose();
  });
});

test('a step of decoding selects what prefill selects', async () => {
  const { query, compression } = draw(3, small);
  const prefill = await selectNsa(backend.runtime, { query, key: compression.key }, small);
  const [q, k] = [reader4(query), reader4(compression.key)];
  for (const t of [0, 6, 7, 30, 60]) {
    const blocks = Math.max(0, Math.floor((t + 1 - small.compressBlock) / small.stride) + 1);
    const step = await selectNsa(backend.runtime, {
      query: tensor(Float32Array.from({ length: 2 * heads * dim }, (_, at) => q(Math.floor(at / dim / heads), Math.floor(at / dim) % heads, t, at % dim)), [2, heads, 1, dim]),
      key: tensor(Float32Array.from({ length: 2 * keyHeads * blocks * dim }, (_, at) => k(Math.floor(at / dim / blocks / keyHeads), Math.floor(at / dim / blocks) % keyHeads, Math.floor(at / dim) % blocks, at % dim)), [2, keyHeads, blocks, dim]),
      queryOffset: t,
    }, small);
    for (let b = 0; b < 2; b++) for (let g = 0; g < keyHeads; g++) expect(chosenOf(step, b, g, 0)).toEqual(chosenOf(prefill, b, g, t));
  }
});

test('compression is the perceptron over a block’s rows and places, blocks overlapping', async () => {
  const next = normals(9);
  const hidden = 5;
  const rows = random(next, [1, 2, 23, dim]);
  const weights = { positions: random(next, [8, dim]), first: random(next, [8 * dim, hidden]), second: random(next, [hidden, dim]), firstBias: random(next, [hidden]), secondBias: random(next, [dim]) };
  const { runtime } = backend;
  const here = Object.fromEntries(Object.entries({ rows, ...weights }).map(([name, each]) => [name, runtime.upload(each)])) as Record<keyof typeof weights | 'rows', ReturnType<typeof runtime.upload>>;
  const got = await numbers(runtime, compressBlocks(runtime, here.rows, here, small));
  const [x, p, w1, w2, b1, b2] = [reader4(rows), ...[weights.positions, weights.first, weights.second, weights.firstBias, weights.secondBias].map((each) => toFloat64(each))] as [ReturnType<typeof reader4>, Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];
  const want: number[] = [];
  for (let h = 0; h < 2; h++) for (let block = 0; block < 4; block++) {
    const layer = Array.from({ length: hidden }, (_, unit) => {
      let sum = b1[unit] ?? 0;
      for (let place = 0; place < 8; place++) for (let channel = 0; channel < dim; channel++) sum += (x(0, h, block * 4 + place, channel) + (p[place * dim + channel] ?? 0)) * (w1[(place * dim + channel) * hidden + unit] ?? 0);
      return Math.max(0, sum);
    });
    for (let channel = 0; channel < dim; channel++) want.push(layer.reduce((sum, value, unit) => sum + value * (w2[unit * dim + channel] ?? 0), b2[channel] ?? 0));
  }
  expect(worstShare(got, want)).toBeLessThan(1);
});

test('sizes that make no sense are refused', async () => {
  const { query, compression } = draw(4, small);
  for (const wrong of [{ stride: 3 }, { count: 2 }, { selectBlock: 6 }, { window: 0 }]) await expect(selectNsa(backend.runtime, { query, key: compression.key }, { ...small, ...wrong })).rejects.toMatchObject({ code: 'invalid-argument' });
});
