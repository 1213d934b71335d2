import { additiveBias, attention, causal, scaledDot, rope, softmax, tensor, toFloat64, type AttentionVariant, type Backend, type HostTensor, type Tensor } from '@heed/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { alibiBias, createContiguousCache, createMultiHeadAttention, leftPaddedPositions, leftPadding, queryKeyNorm, ropeFrequencies, t5SharedBias, type MultiHeadWeights } from '../src/index.ts';
import { backends, close, elements, expectClose, plainAttention, plainHeads, plainLinear, Random } from './support.ts';

const [batch, length, dim, heads, headDim] = [2, 6, 10, 4, 8];

const weightsOf = (random: Random) => ({ query: random.weight(heads * headDim, dim), key: random.weight(heads * headDim, dim), value: random.weight(heads * headDim, dim), output: random.weight(dim, heads * headDim) }) satisfies MultiHeadWeights;

describe('what models do with multi-head attention', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends.cpu();
  });
  afterAll(async () => close(backend));

  async function plain(variant: AttentionVariant, weights: ReturnType<typeof weightsOf>, x: HostTensor, tables: Readonly<Record<string, HostTensor>>): Promise<Float64Array> {
    const rows = (weight: HostTensor): HostTensor => plainHeads(plainLinear(toFloat64(x), weight), batch, length, heads);
    return plainAttention(variant, { query: rows(weights.query), key: rows(weights.key), value: rows(weights.value), tables });
  }

  test.each(['rms', 'layer', 'l2'] as const)('queries and keys under the %s norm before they are rotated', async (norm) => {
    const random = new Random(90);
    const weights = weightsOf(random);
    const gains = { queryNorm: random.tensor([headDim]), keyNorm: random.tensor([headDim]) };
    const tables: Record<string, HostTensor> = norm === 'l2' ? {} : norm === 'rms' ? gains : { ...gains, queryNormBias: random.tensor([headDim]), keyNormBias: random.tensor([headDim]) };
    const variant = attention({ scoring: queryKeyNorm({ norm, then: [rope({ pairing: 'half' })] }), masking: causal() });
    const x = random.tensor([batch, length, dim]);
    const layer = await createMultiHeadAttention({ backend, heads, weights, variant, tables });
    expectClose(await elements(await layer.forward(x)), plainLinear(await plain(variant, weights, x, tables), weights.output));
    await layer.dispose();
  });

  test('outputs are gated by the rows that ask, before they are projected', async () => {
    const random = new Random(91);
    const weights = { ...weightsOf(random), gate: random.weight(heads * headDim, dim), gateBias: random.tensor([heads * headDim]) };
    const variant = attention({ masking: causal() });
    const x = random.tensor([batch, length, dim]);
    const layer = await createMultiHeadAttention({ backend, heads, weights, variant });
    const gate = plainLinear(toFloat64(x), weights.gate, weights.gateBias);
    const gated = (await plain(variant, weights, x, {})).map((value, index) => value / (1 + Math.exp(-gate[index]!)));
    const want = plainLinear(gated, weights.output);
    expectClose(await elements(await layer.forward(x)), want);
    await layer.dispose();
  });

  test('layers share one bias of T5, and its tables', async () => {
    const random = new Random(92);
    const weight = random.tensor([32, heads]);
    const bias = t5SharedBias({ weight, bidirectional: false, runtime: backend.runtime });
    const variant = attention({ scoring: scaledDot({ scale: 1 }).modify(bias.modifier), masking: causal() });
    const x = random.tensor([batch, length, dim]);
    // Distances below 16 have a bucket each.
    for (const seed of [1, 2]) {
      const weights = weightsOf(new Random(seed));
      const layer = await createMultiHeadAttention({ backend, heads, weights, variant, tables: bias.tables });
      const additive = tensor(Float32Array.from({ length: heads * length * length }, (_, index) => toFloat64(weight)[Math.max(0, (Math.floor(index / length) % length) - (index % length)) * heads + Math.floor(index / length ** 2)]!), [1, heads, length, length]);
      const want = await plain(attention({ scoring: scaledDot({ scale: 1 }).modify(additiveBias()), masking: causal() }), weights, x, { bias: additive });
      expectClose(await elements(await layer.forward(x)), plainLinear(want, weights.output));
      await layer.dispose();
    }
    bias.dispose();
  });

  test('ALiBi: slopes of the paper, by distance', async () => {
    const random = new Random(93);
    const weights = weightsOf(random);
    const { modifier, tables } = alibiBias(heads);
    expect(Array.from(toFloat64(tables['slopes']!))).toEqual([1 / 4, 1 / 16, 1 / 64, 1 / 256]);
    const variant = attention({ scoring: scaledDot().modify(modifier), masking: causal() });
    const x = random.tensor([batch, length, dim]);
    const layer = await createMultiHeadAttention({ backend, heads, weights, variant, tables });
    expectClose(await elements(await layer.forward(x)), plainLinear(await plain(variant, weights, x, { ...tables }), weights.output));
    await layer.dispose();
  });

  test('padding on the left shifts positions: a padded sequence is as by itself, at once and from a cache', async () => {
    const random = new Random(94);
    const weights = weightsOf(random);
    const { frequencies } = ropeFrequencies({ width: headDim, scaling: { kind: 'ntk', factor: 4 } });
    const variant = attention({ scoring: scaledDot().transform(rope({ pairing: 'half', frequencies: 'frequencies' })), masking: causal().and(leftPadding()), normalization: softmax({ sink: false }) });
    const layer = await createMultiHeadAttention({ backend, heads, weights, variant, tables: { frequencies } });
    const lengths = [4, 6];
    const alone = lengths.map((count) => random.tensor([1, count, dim]));
    const x = tensor(Float32Array.from({ length: batch * length * dim }, (_, index) => {
      const [sequence, row, channel] = [Math.floor(index / (length * dim)), Math.floor(index / dim) % length, index % dim];
      const own = row - (length - lengths[sequence]!);
      return own < 0 ? 7 : toFloat64(alone[sequence]!)[own * dim + channel]!;
    }), [batch, length, dim]);
    const position = leftPaddedPositions(lengths, length);
    expect(position).toEqual([-2, 0]);
    const cache = createContiguousCache({ ...layer.cacheShape, batch, firstPosition: position });
    for (const got of [await elements(await layer.forward(x, { position })), await elements(await layer.forward(x, { cache }))]) {
      for (const [sequence, own] of alone.entries()) {
        const want = await elements(await layer.forward(own));
        expectClose(got.subarray((sequence + 1) * length * dim - want.length, (sequence + 1) * length * dim), want);
      }
    }
    cache.dispose();
    await layer.dispose();
  });

  test('explicit positions stand for themselves, and not beside a cache', async () => {
    const random = new Random(95);
    const variant = attention({ scoring: scaledDot().transform(rope({ pairing: 'interleaved' })), masking: causal() });
    const layer = await createMultiHeadAttention({ backend, heads, weights: weightsOf(random), variant });
    const x = random.tensor([batch, length, dim]);
    const positions = (first: number): Tensor => tensor(Int32Array.from({ length }, (_, row) => first + row), [1, length]);
    expectClose(await elements(await layer.forward(x, { positions: positions(40) })), await elements(await layer.forward(x)), 1e-4);
    const cache = createContiguousCache({ ...layer.cacheShape, batch });
    await expect(layer.forward(x, { cache, positions: positions(0) })).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(layer.forward(x, { cache, position: 3 })).rejects.toMatchObject({ code: 'invalid-positions' });
    await expect(layer.forward(x, { casual: true } as never)).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(cache.lengths).toEqual([0, 0]);
    cache.dispose();
    await layer.dispose();
  });

  test('weights that do not fit are all named at once', async () => {
    const random = new Random(96);
    const weights = { ...weightsOf(random), value: random.weight(heads * headDim, dim + 1), output: random.weight(dim, 3), queryBias: random.tensor([5]) };
    const failure = createMultiHeadAttention({ backend, heads, weights });
    await expect(failure).rejects.toMatchObject({ code: 'invalid-shape' });
    await expect(failure).rejects.toThrow(/value is \[32, 11\], expected \[32, 10\].*output is \[10, 3\].*queryBias is \[5\]/);
  });
});
