import { attention, causal, rope, scaledDot, softcap, tensor, toFloat64, window, type AttentionVariant, type Backend, type HostTensor } from '@heed/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createContiguousCache, createMultiHeadAttention, type MultiHeadWeights } from '../src/index.ts';
import { backends, bytesLeft, close, elements, expectClose, plainAttention, plainHeads, plainLinear, Random, take, tried } from './support.ts';

interface Case {
  readonly heads: number;
  readonly keyHeads: number;
  readonly batch: number;
  readonly length: number;
  readonly dim: number;
  readonly headDim: number;
  readonly valueDim: number;
  readonly biased: boolean;
}

const cases: readonly Case[] = [
  { heads: 4, keyHeads: 4, batch: 2, length: 7, dim: 12, headDim: 8, valueDim: 8, biased: true },
  { heads: 6, keyHeads: 2, batch: 1, length: 9, dim: 10, headDim: 4, valueDim: 6, biased: false },
  { heads: 3, keyHeads: 1, batch: 2, length: 5, dim: 8, headDim: 6, valueDim: 5, biased: true },
];

type HostWeights = { readonly [Name in keyof MultiHeadWeights]: HostTensor };

function weightsOf(random: Random, { heads, keyHeads, dim, headDim, valueDim, biased }: Case, contextDim: number = dim): HostWeights {
  const weights = { query: random.weight(heads * headDim, dim), key: random.weight(keyHeads * headDim, contextDim), value: random.weight(keyHeads * valueDim, contextDim), output: random.weight(dim + 1, heads * valueDim) };
  if (!biased) return weights;
  return { ...weights, queryBias: random.tensor([heads * headDim]), keyBias: random.tensor([keyHeads * headDim]), valueBias: random.tensor([keyHeads * valueDim]), outputBias: random.tensor([dim + 1]) };
}

/** The layer as its formula: projections as loops, attention of the reference. */
async function plainLayer(variant: AttentionVariant, weights: HostWeights, { heads, keyHeads }: Case, x: HostTensor, context: HostTensor = x, offset: number = 0): Promise<Float64Array> {
  const [batch = 0, length = 0] = x.shape;
  const contextLength = context.shape[1]!;
  const [rows, contextRows] = [toFloat64(x), toFloat64(context)];
  const attended = await plainAttention(variant, {
    query: plainHeads(plainLinear(rows, weights.query, weights.queryBias), batch, length, heads),
    key: plainHeads(plainLinear(contextRows, weights.key, weights.keyBias), batch, contextLength, keyHeads),
    value: plainHeads(plainLinear(contextRows, weights.value, weights.valueBias), batch, contextLength, keyHeads),
    queryOffset: offset,
  });
  return plainLinear(attended, weights.output, weights.outputBias);
}

const rotary = attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })).modify(softcap(20)), masking: causal() });

describe.each(tried)('multi-head attention on %s', (name) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends[name]();
  });
  afterAll(async () => close(backend));

  // Devices compile for seconds.
  test.each(name === 'webgpu' ? cases.slice(1, 2) : cases)('is its formula: $heads heads, $keyHeads key heads', async (shape) => {
    const random = new Random(shape.heads);
    const weights = weightsOf(random, shape);
    const x = random.tensor([shape.batch, shape.length, shape.dim]);
    const layer = await createMultiHeadAttention({ backend, heads: shape.heads, keyHeads: shape.keyHeads, weights, variant: rotary });
    expectClose(await elements(await layer.forward(x)), await plainLayer(rotary, weights, shape, x));
    await layer.dispose();
  });

  test('decodes with a cache as it runs at once, in any chunks', async () => {
    const shape = cases[1]!;
    const random = new Random(5);
    const weights = weightsOf(random, shape);
    const x = random.tensor([shape.batch, shape.length, shape.dim]);
    const layer = await createMultiHeadAttention({ backend, heads: shape.heads, keyHeads: shape.keyHeads, weights, variant: rotary });
    const whole = await elements(await layer.forward(x));
    for (const chunks of [[1, 1, 1, 1, 1, 1, 1, 1, 1], [4, 1, 3, 1], [9]]) {
      const cache = createContiguousCache({ ...layer.cacheShape, batch: shape.batch, capacity: 2 });
      const got: number[] = [];
      let start = 0;
      for (const count of chunks) {
        const part = tensor(toFloat64(x).slice(start * shape.dim, (start + count) * shape.dim), [1, count, shape.dim]);
        got.push(...(await elements(await layer.forward(tensor(Float32Array.from(part.view()), part.shape), { cache }))));
        start += count;
      }
      expectClose(got, whole);
      cache.dispose();
    }
    await layer.dispose();
  });

  test('leaves nothing behind, and a step after warm-up allocates nothing', async () => {
    const shape = cases[1]!;
    const random = new Random(6);
    const { runtime } = backend;
    const left = await bytesLeft(runtime, async () => {
      const layer = await createMultiHeadAttention({ backend, heads: shape.heads, keyHeads: shape.keyHeads, weights: weightsOf(random, shape), variant: rotary });
      const cache = createContiguousCache({ ...layer.cacheShape, batch: shape.batch, capacity: 32 });
      const x = runtime.upload(random.tensor([shape.batch, 1, shape.dim]));
      const held: number[] = [];
      for (let step = 0; step < 24; step++) {
        await take(await layer.forward(x, { cache }));
        await runtime.idle();
        held.push(runtime.memory().peakBytes);
      }
      // A kernel keeps the records of its latest calls, eight at most.
      expect(new Set(held.slice(12)).size).toBe(1);
      runtime.release(x);
      cache.dispose();
      await layer.dispose();
    });
    expect(left).toBe(0);
  });
});

describe('multi-head attention on cpu', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends.cpu();
  });
  afterAll(async () => close(backend));

  test('attends to a context, projected once or each time', async () => {
    const shape = cases[0]!;
    const random = new Random(7);
    const weights = weightsOf(random, shape, 9);
    const x = random.tensor([shape.batch, shape.length, shape.dim]);
    const context = random.tensor([shape.batch, 4, 9]);
    const layer = await createMultiHeadAttention({ backend, heads: shape.heads, weights });
    const want = await plainLayer(attention(), weights, shape, x, context);
    expectClose(await elements(await layer.forward(x, { context })), want);
    const memory = await layer.remember(context);
    expectClose(await elements(await layer.forward(x, { context: memory })), want);
    memory.dispose();
    await layer.dispose();
  });

  test('sequences of unequal lengths are each as by itself', async () => {
    const shape = cases[1]!;
    const random = new Random(8);
    const weights = weightsOf(random, shape);
    const variant = attention({ scoring: scaledDot().transform(rope({ pairing: 'interleaved' })), masking: causal().and(window({ left: 4, right: 0 })) });
    const layer = await createMultiHeadAttention({ backend, heads: shape.heads, keyHeads: shape.keyHeads, weights, variant });
    const parts = [[3, 5], [2, 0], [1, 1]] as const;
    const cache = createContiguousCache({ ...layer.cacheShape, batch: 2, capacity: 1 });
    const seen: [number[], number[]] = [[], []];
    const got: [number[], number[]] = [[], []];
    for (const lengths of parts) {
      const length = Math.max(...lengths);
      const x = random.tensor([2, length, shape.dim]);
      const out = await elements(await layer.forward(x, { cache, lengths }));
      const width = out.length / (2 * length);
      lengths.forEach((count, sequence) => {
        seen[sequence]!.push(...toFloat64(x).slice(sequence * length * shape.dim, (sequence * length + count) * shape.dim));
        got[sequence]!.push(...out.slice(sequence * length * width, (sequence * length + count) * width));
      });
    }
    for (const sequence of [0, 1]) {
      const x = tensor(Float32Array.from(seen[sequence]!), [1, 6, shape.dim]);
      expectClose(got[sequence]!, await plainLayer(variant, weights, shape, x));
    }
    cache.dispose();
    await layer.dispose();
  });
});
