import { attention, causal, rope, scaledDot, tensor, toFloat64, type Backend, type HostTensor } from '@heed/core';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { createContiguousCache, createLatentAttention, createPagePool, createPagedCache } from '../src/index.ts';
import { backends, close, elements, expectClose, plainAttention, plainLinear, Random } from './support.ts';

const [batch, length, dim, heads, plainDim, rotaryDim, latentDim, valueDim] = [2, 6, 10, 3, 5, 4, 7, 6];

function weightsOf(random: Random, lowRank: boolean) {
  return {
    query: random.weight(heads * (plainDim + rotaryDim), lowRank ? 8 : dim),
    ...(lowRank ? { queryDown: random.weight(8, dim), queryNorm: random.tensor([8]) } : {}),
    keyDown: random.weight(latentDim + rotaryDim, dim),
    keyNorm: random.tensor([latentDim]),
    keyUp: random.weight(heads * (plainDim + valueDim), latentDim),
    output: random.weight(dim, heads * valueDim),
  };
}

/** row / √(mean(row²) + 1e-6) · gain */
function rmsNorm(rows: Float64Array, gain: HostTensor): Float64Array {
  const gains = toFloat64(gain);
  const width = gains.length;
  return rows.map((value, index) => {
    const row = rows.subarray(index - (index % width), index - (index % width) + width);
    return (value / Math.sqrt(row.reduce((sum, one) => sum + one * one, 0) / width + 1e-6)) * gains[index % width]!;
  });
}

/** Multi-head attention over keys and values that are made from the latent rows of all tokens, head by head. */
async function plainLayer(weights: ReturnType<typeof weightsOf>, x: HostTensor): Promise<Float64Array> {
  const rows = toFloat64(x);
  const low = weights.queryDown === undefined ? rows : rmsNorm(plainLinear(rows, weights.queryDown), weights.queryNorm!);
  const queries = plainLinear(low, weights.query);
  const down = plainLinear(rows, weights.keyDown);
  const count = batch * length;
  const latent = rmsNorm(Float64Array.from({ length: count * latentDim }, (_, index) => down[Math.floor(index / latentDim) * (latentDim + rotaryDim) + (index % latentDim)]!), weights.keyNorm);
  const up = plainLinear(latent, weights.keyUp);
  const gathered = (width: number, at: (row: number, head: number, channel: number) => number): HostTensor =>
    tensor(Float64Array.from({ length: count * heads * width }, (_, index) => at(Math.floor(index / (heads * width)), Math.floor(index / width) % heads, index % width)), [batch, heads, length, width], {
      strides: [length * heads * width, width, heads * width, 1],
    });
  const query = gathered(rotaryDim + plainDim, (row, head, channel) => queries[(row * heads + head) * (plainDim + rotaryDim) + (channel < rotaryDim ? plainDim + channel : channel - rotaryDim)]!);
  const key = gathered(rotaryDim + plainDim, (row, head, channel) => (channel < rotaryDim ? down[row * (latentDim + rotaryDim) + latentDim + channel]! : up[(row * heads + head) * (plainDim + valueDim) + channel - rotaryDim]!));
  const value = gathered(valueDim, (row, head, channel) => up[(row * heads + head) * (plainDim + valueDim) + plainDim + channel]!);
  const variant = attention({ scoring: scaledDot({ scale: (plainDim + rotaryDim) ** -0.5 }).transform(rope({ pairing: 'interleaved', width: rotaryDim })), masking: causal() });
  return plainLinear(await plainAttention(variant, { query, key, value }), weights.output);
}

describe.each(['reference', 'cpu'] as const)('latent attention on %s', (name) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends[name]();
  });
  afterAll(async () => close(backend));

  test.each([false, true])('absorbed and expanded are both the formula; queries through a low rank: %s', async (lowRank) => {
    const random = new Random(20);
    const weights = weightsOf(random, lowRank);
    const x = random.tensor([batch, length, dim]);
    const layer = await createLatentAttention({ backend, heads, rotaryDim, valueDim, weights });
    const want = await plainLayer(weights, x);
    for (const form of ['absorbed', 'expanded'] as const) expectClose(await elements(await layer.forward(x, { form })), want);
    await layer.dispose();
  });

  test('decodes from a cache of one row per token', async () => {
    const random = new Random(21);
    const weights = weightsOf(random, false);
    const x = random.tensor([batch, length, dim]);
    const layer = await createLatentAttention({ backend, heads, rotaryDim, valueDim, weights });
    const want = await elements(await layer.forward(x));
    const part = (first: number, count: number): HostTensor => {
      const source = toFloat64(x);
      return tensor(Float32Array.from({ length: batch * count * dim }, (_, index) => source[(Math.floor(index / (count * dim)) * length + first) * dim + (index % (count * dim))]!), [batch, count, dim]);
    };
    for (const cache of [createContiguousCache({ ...layer.cacheShape, batch, capacity: 1 }), createPagedCache({ pool: createPagePool({ ...layer.cacheShape, pages: 8, pageLength: 2 }), batch })]) {
      let first = 0;
      for (const [count, form] of [[3, undefined], [1, 'expanded'], [1, 'absorbed'], [1, undefined]] as const) {
        const got = await elements(await layer.forward(part(first, count), { cache, form }));
        const expected = Float64Array.from({ length: batch * count * dim }, (_, index) => want[(Math.floor(index / (count * dim)) * length + first) * dim + (index % (count * dim))]!);
        expectClose(got, expected);
        first += count;
      }
      cache.dispose();
    }
    await layer.dispose();
  });
});
