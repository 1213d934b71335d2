import { attention, causal, rope, scaledDot, tensor, toFloat64, type Backend } from '@heed/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createContiguousCache, createDifferentialAttention } from '../src/index.ts';
import { backends, close, elements, expectClose, plainAttention, plainLinear, Random } from './support.ts';

const [batch, length, dim, heads, keyHeads, headDim] = [2, 5, 9, 4, 2, 4];
const variant = attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })), masking: causal() });

function weightsOf(random: Random) {
  const lambdas = Object.fromEntries((['lambdaQuery1', 'lambdaKey1', 'lambdaQuery2', 'lambdaKey2'] as const).map((name) => [name, random.tensor([headDim], 0.3)])) as Record<'lambdaQuery1' | 'lambdaKey1' | 'lambdaQuery2' | 'lambdaKey2', ReturnType<Random['tensor']>>;
  return { query: random.weight(heads * 2 * headDim, dim), key: random.weight(keyHeads * 2 * headDim, dim), value: random.weight(keyHeads * 2 * headDim, dim), output: random.weight(dim, heads * 2 * headDim), norm: random.tensor([2 * headDim]), ...lambdas };
}

describe('differential attention', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends.cpu();
  });
  afterAll(async () => close(backend));

  test('is the difference of two attentions, normed head by head', async () => {
    const random = new Random(30);
    const weights = weightsOf(random);
    const x = random.tensor([batch, length, dim]);
    const layer = await createDifferentialAttention({ backend, heads, keyHeads, weights, layerIndex: 1, variant });
    const product = (a: Float64Array, b: Float64Array): number => a.reduce((sum, one, index) => sum + one * b[index]!, 0);
    const initial = 0.8 - 0.6 * Math.exp(-0.3);
    const lambda = Math.exp(product(toFloat64(weights.lambdaQuery1), toFloat64(weights.lambdaKey1))) - Math.exp(product(toFloat64(weights.lambdaQuery2), toFloat64(weights.lambdaKey2))) + initial;
    expect(layer.lambda).toBeCloseTo(lambda, 6);
    const [q, k, v] = [weights.query, weights.key, weights.value].map((weight) => plainLinear(toFloat64(x), weight)) as [Float64Array, Float64Array, Float64Array];
    // Head h of half p stands at (2h + p) · headDim.
    const half = (rows: Float64Array, count: number, p: number) => tensor(rows.subarray(p * headDim), [batch, count, length, headDim], { strides: [length * count * 2 * headDim, 2 * headDim, count * 2 * headDim, 1] });
    const value = tensor(v, [batch, keyHeads, length, 2 * headDim], { strides: [length * keyHeads * 2 * headDim, 2 * headDim, keyHeads * 2 * headDim, 1] });
    const [one, other] = [await plainAttention(variant, { query: half(q, heads, 0), key: half(k, keyHeads, 0), value }), await plainAttention(variant, { query: half(q, heads, 1), key: half(k, keyHeads, 1), value })];
    const mixed = one.map((value, index) => value - lambda * other[index]!);
    const gain = toFloat64(weights.norm);
    const width = 2 * headDim;
    const normed = mixed.map((value, index) => {
      const row = mixed.subarray(index - (index % width), index - (index % width) + width);
      return (value / Math.sqrt(row.reduce((sum, each) => sum + each * each, 0) / width + 1e-5)) * gain[index % width]! * (1 - initial);
    });
    const want = plainLinear(normed, weights.output);
    expectClose(await elements(await layer.forward(x)), want);

    const cache = createContiguousCache({ ...layer.cacheShape, batch, capacity: 2 });
    const source = toFloat64(x);
    for (let step = 0; step < length; step++) {
      const row = tensor(Float32Array.from({ length: batch * dim }, (_, index) => source[(Math.floor(index / dim) * length + step) * dim + (index % dim)]!), [batch, 1, dim]);
      const got = await elements(await layer.forward(row, { cache }));
      expectClose(got, Float64Array.from({ length: batch * dim }, (_, index) => want[(Math.floor(index / dim) * length + step) * dim + (index % dim)]!));
    }
    cache.dispose();
    await layer.dispose();
  });

  // Ye 2024: λ_init of the first layers, counted from 0.
  test.each([[0, 0.2], [1, 0.3555], [2, 0.4707]])('layer %i begins with λ = %f', async (layerIndex, want) => {
    const zero = tensor(new Float32Array(headDim), [headDim]);
    const layer = await createDifferentialAttention({ backend, heads, keyHeads, layerIndex, weights: { ...weightsOf(new Random(31)), lambdaQuery1: zero, lambdaQuery2: zero } });
    expect(layer.lambda).toBeCloseTo(want, 4);
    await layer.dispose();
  });
});
