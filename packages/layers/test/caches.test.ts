import { attention, causal, rope, scaledDot, sinkTokens, softmax, tensor, toFloat64, window, type AttentionVariant, type Backend, type HostTensor, type Tensor } from '@heed/core';
import { isAttentionError } from '@heed/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createContiguousCache, createMultiHeadAttention, createPagePool, createPagedCache, createPrefixedCache, createQuantisedCache, createRingCache, type CacheShape, type KeyValueCache, type MultiHeadAttention } from '../src/index.ts';
import { backends, bytesLeft, close, elements, expectClose, Random, tried } from './support.ts';

const dim = 12;
const heads = 4;
const keyHeads = 2;
const headDim = 8;
const length = 13;

const scoring = scaledDot().transform(rope({ pairing: 'half' }));
const streaming = attention({ scoring, masking: causal().and(window({ left: 4, right: 0 }).or(sinkTokens(2))) });
const whole = attention({ scoring, masking: causal() });

/** A cache of each kind with what it is for, made for a batch. */
interface Kind {
  readonly variant: AttentionVariant;
  readonly allowed?: number;
  readonly make: (shape: CacheShape, batch: number) => KeyValueCache;
}

const kinds: Readonly<Record<string, Kind>> = {
  'contiguous cache that grows': { variant: whole, make: (shape, batch) => createContiguousCache({ ...shape, batch, capacity: 1 }) },
  'ring with sink tokens': { variant: streaming, make: (shape, batch) => createRingCache({ ...shape, batch, left: 4, sinkTokens: 2, chunk: 3 }) },
  'paged cache': { variant: whole, make: (shape, batch) => createPagedCache({ pool: createPagePool({ ...shape, pages: 16, pageLength: 4 }), batch }) },
  // Codes of 8 bits of unit numbers are off by at most 3/254, and outputs are averages of a few.
  'quantised cache': { variant: whole, allowed: 0.06, make: (shape, batch) => createQuantisedCache({ ...shape, batch, capacity: 1, block: 4 }) },
};

async function layerOf(backend: Backend, variant: AttentionVariant): Promise<MultiHeadAttention> {
  const random = new Random(3);
  const weights = { query: random.weight(heads * headDim, dim), key: random.weight(keyHeads * headDim, dim), value: random.weight(keyHeads * headDim, dim), output: random.weight(dim, heads * headDim) };
  return createMultiHeadAttention({ backend, heads, keyHeads, weights, variant });
}

function rowsOf(x: HostTensor, first: number, count: number): HostTensor {
  const [batch = 0, rows = 0, width = 0] = x.shape;
  const source = toFloat64(x);
  return tensor(Float32Array.from({ length: batch * count * width }, (_, index) => {
    const [sequence, rest] = [Math.floor(index / (count * width)), index % (count * width)];
    return source[(sequence * rows + first) * width + rest]!;
  }), [batch, count, width]);
}

/** Runs a layer over x in chunks with a cache; [batch, length, dim] in all. */
async function inChunks(layer: MultiHeadAttention, cache: KeyValueCache, x: HostTensor, chunks: readonly number[]): Promise<Float64Array> {
  const [batch = 0, rows = 0] = x.shape;
  const out = new Float64Array(batch * rows * dim);
  let first = 0;
  for (const count of chunks) {
    const part = await elements(await layer.forward(rowsOf(x, first, count), { cache }));
    for (let sequence = 0; sequence < batch; sequence++) out.set(part.subarray(sequence * count * dim, (sequence + 1) * count * dim), (sequence * rows + first) * dim);
    first += count;
  }
  return out;
}

const ones = (count: number): readonly number[] => Array.from({ length: count }, () => 1);

describe.each(tried)('caches on %s', (name) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends[name]();
  });
  afterAll(async () => close(backend));

  test.each(Object.keys(kinds))('%s: at once, in chunks and token by token are the layer without a cache', async (kind) => {
    const { variant, allowed, make } = kinds[kind]!;
    const layer = await layerOf(backend, variant);
    const x = new Random(9).tensor([2, length, dim]);
    const want = await elements(await layer.forward(x));
    for (const chunks of name === 'webgpu' ? [[9, 3, 1]] : [[length], [5, 1, 4, 3], ones(length)]) {
      const cache = make(layer.cacheShape, 2);
      expectClose(await inChunks(layer, cache, x, chunks), want, allowed ?? 2e-5);
      expect(cache.lengths).toEqual([length, length]);
      cache.dispose();
    }
    await layer.dispose();
  });

  test.each(Object.keys(kinds))('%s: what is rolled back is forgotten', async (kind) => {
    const { variant, allowed, make } = kinds[kind]!;
    const layer = await layerOf(backend, variant);
    const x = new Random(10).tensor([1, length, dim]);
    const want = await elements(await layer.forward(x));
    const cache = make(layer.cacheShape, 1);
    await layer.forward(rowsOf(x, 0, 9), { cache });
    await layer.forward(new Random(11).tensor([1, 2, dim]), { cache });
    cache.rollback(2);
    const rest = await elements(await layer.forward(rowsOf(x, 9, 4), { cache }));
    expectClose(rest, want.subarray(9 * dim), allowed ?? 2e-5);
    cache.dispose();
    await layer.dispose();
  });
});

describe('caches on cpu', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends.cpu();
  });
  afterAll(async () => close(backend));

  /** Rows to append, of all heads. */
  const rows = (count: number, batch: number = 1): { readonly key: Tensor; readonly value: Tensor } => {
    const random = new Random(count);
    return { key: backend.runtime.upload(random.tensor([batch, keyHeads, count, headDim])), value: backend.runtime.upload(random.tensor([batch, keyHeads, count, headDim])) };
  };
  const shape = (): CacheShape => ({ runtime: backend.runtime, keyHeads, keyDim: headDim, valueDim: headDim });
  const code = (act: () => unknown): string => {
    try {
      act();
    } catch (error) {
      return isAttentionError(error) ? error.code : String(error);
    }
    return 'none';
  };

  test.each(Object.keys(kinds))('%s refuses bad input and is as it was', (kind) => {
    const cache = kinds[kind]!.make(shape(), 2);
    cache.append(rows(3, 2));
    const before = [cache.lengths, cache.nextPositions];
    expect(code(() => cache.append({ ...rows(1, 2), position: 2 }))).toBe('invalid-positions');
    expect(code(() => cache.append({ ...rows(1, 2), position: [3, 4] }))).toBe('invalid-positions');
    expect(code(() => cache.append(rows(1, 1)))).toBe('invalid-shape');
    expect(code(() => cache.append({ ...rows(2, 2), lengths: [1, 3] }))).toBe('invalid-lengths');
    expect(code(() => cache.append({ ...rows(2, 2), lengths: [1] }))).toBe('invalid-lengths');
    expect(code(() => cache.append({ key: rows(1, 2).key }))).toBe('invalid-argument');
    expect(code(() => cache.append({ key: rows(1, 2).key, value: backend.runtime.tensor([2, keyHeads, 1, headDim], 'f16') }))).toBe('invalid-dtype');
    expect(code(() => cache.rollback(4))).toBe('invalid-argument');
    expect(code(() => cache.rollback([0, -1]))).toBe('invalid-argument');
    expect([cache.lengths, cache.nextPositions]).toEqual(before);
    cache.append({ ...rows(1, 2), position: 3 });
    expect(cache.lengths).toEqual([4, 4]);
    cache.dispose();
  });

  test('a full cache says so', () => {
    const contiguous = createContiguousCache({ ...shape(), batch: 1, maxLength: 4 });
    contiguous.append(rows(3));
    expect(code(() => contiguous.append(rows(2)))).toBe('cache-full');
    expect(contiguous.lengths).toEqual([3]);
    contiguous.append(rows(1));
    const ring = createRingCache({ ...shape(), batch: 1, left: 2, chunk: 2 });
    expect(code(() => ring.append(rows(3)))).toBe('cache-full');
    const pool = createPagePool({ ...shape(), pages: 2, pageLength: 2 });
    const paged = createPagedCache({ pool, batch: 2 });
    paged.append({ ...rows(3, 2), lengths: [1, 1] });
    expect(code(() => paged.append({ ...rows(2, 2), lengths: [0, 2] }))).toBe('cache-full');
    expect(paged.lengths).toEqual([1, 1]);
    expect(pool.freePages).toBe(0);
    for (const cache of [contiguous, ring, paged]) cache.dispose();
    expect(pool.freePages).toBe(2);
  });

  test('a ring forgets no more than one append once it has gone round', () => {
    const ring = createRingCache({ ...shape(), batch: 1, left: 4, chunk: 2 });
    for (let token = 0; token < 9; token++) ring.append(rows(1));
    expect(code(() => ring.rollback(3))).toBe('invalid-argument');
    ring.rollback(2);
    expect(ring.lengths).toEqual([7]);
    expect(code(() => ring.rollback(1))).toBe('invalid-argument');
    ring.dispose();
  });

  test('block tables that point nowhere, twice, or at pages in use are refused', () => {
    const pool = createPagePool({ ...shape(), pages: 4, pageLength: 2 });
    for (const tables of [[[4]], [[-1]], [[0], [0]], [[1, 1]], [[0.5]]]) {
      expect(code(() => createPagedCache({ pool, tables, lengths: tables.map((table) => 2 * table.length) }))).toBe('invalid-pages');
    }
    expect(code(() => createPagedCache({ pool, tables: [[0, 1]], lengths: [2] }))).toBe('invalid-pages');
    const cache = createPagedCache({ pool, tables: [[2, 0]], lengths: [3] });
    expect(code(() => createPagedCache({ pool, tables: [[2]], lengths: [1] }))).toBe('invalid-pages');
    expect([cache.tables, pool.freePages]).toEqual([[[2, 0]], 2]);
    cache.dispose();
    expect(pool.freePages).toBe(4);
  });

  test('forks share pages until one of them writes', async () => {
    const layer = await layerOf(backend, whole);
    const pool = createPagePool({ ...layer.cacheShape, pages: 8, pageLength: 4 });
    const random = new Random(12);
    const [start, one, other] = [random.tensor([1, 6, dim]), random.tensor([1, 3, dim]), random.tensor([1, 3, dim])];
    const cache = createPagedCache({ pool });
    await layer.forward(start, { cache });
    const fork = cache.fork([0]);
    expect(pool.freePages).toBe(6);
    const got = [await elements(await layer.forward(one, { cache })), await elements(await layer.forward(other, { cache: fork }))];
    expect(cache.tables[0]![0]).toBe(fork.tables[0]![0]);
    expect(cache.tables[0]![1]).not.toBe(fork.tables[0]![1]);
    for (const [index, rest] of [one, other].entries()) {
      const joined = tensor(Float32Array.from([...toFloat64(start), ...toFloat64(rest)]), [1, 9, dim]);
      expectClose(got[index]!, (await elements(await layer.forward(joined))).subarray(6 * dim));
    }
    fork.pop();
    expect(fork.batch).toBe(0);
    cache.dispose();
    expect(pool.freePages).toBe(8);
    await layer.dispose();
  });

  test.each(['contiguous', 'paged'] as const)('a shared prefix before a %s cache is the sequences with the prefix in each', async (kind) => {
    const variant = attention({ scoring, masking: causal(), normalization: softmax({ sink: true }) });
    const random = new Random(13);
    const weights = { query: random.weight(heads * headDim, dim), key: random.weight(keyHeads * headDim, dim), value: random.weight(keyHeads * headDim, dim), output: random.weight(dim, heads * headDim), gate: random.weight(heads * headDim, dim) };
    const layer = await createMultiHeadAttention({ backend, heads, keyHeads, weights, variant, tables: { sink: random.tensor([heads]) } });
    const [start, rest] = [random.tensor([1, 5, dim]), random.tensor([3, 4, dim])];
    const prefix = createContiguousCache({ ...layer.cacheShape, batch: 1 });
    await layer.forward(start, { cache: prefix });
    const firstPosition = prefix.nextPositions[0]!;
    const suffix = kind === 'contiguous' ? createContiguousCache({ ...layer.cacheShape, batch: 3, firstPosition }) : createPagedCache({ pool: createPagePool({ ...layer.cacheShape, pages: 9 }), batch: 3, firstPosition });
    const cache = createPrefixedCache({ prefix, suffix });
    const got = await inChunks(layer, cache, rest, [2, 1, 1]);
    for (const sequence of [0, 1, 2]) {
      const joined = tensor(Float32Array.from([...toFloat64(start), ...toFloat64(rest).subarray(sequence * 4 * dim, (sequence + 1) * 4 * dim)]), [1, 9, dim]);
      expectClose(got.subarray(sequence * 4 * dim, (sequence + 1) * 4 * dim), (await elements(await layer.forward(joined))).subarray(5 * dim));
    }
    expect(code(() => cache.rollback(5))).toBe('invalid-argument');
    expect(code(() => createPrefixedCache({ prefix, suffix: createContiguousCache({ ...layer.cacheShape, batch: 1 }) }))).toBe('invalid-positions');
    cache.dispose();
    prefix.dispose();
    await layer.dispose();
  });

  test.each(Object.keys(kinds))('%s leaves nothing behind', async (kind) => {
    const { variant, make } = kinds[kind]!;
    const left = await bytesLeft(backend.runtime, async () => {
      const layer = await layerOf(backend, variant);
      const cache = make(layer.cacheShape, 1);
      await inChunks(layer, cache, new Random(14).tensor([1, length, dim]), [6, 1, 1, 5]);
      cache.dispose();
      await layer.dispose();
    });
    // The pool of a paged cache is its maker's.
    expect(left).toBe(kind === 'paged cache' ? 2 * 16 * 4 * keyHeads * headDim * 4 : 0);
  });
});
