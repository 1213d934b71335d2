import { tensor, toFloat64, type Backend } from '@heed/core';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { createTransformerXlAttention } from '../src/index.ts';
import { backends, close, elements, expectClose, plainLinear, Random } from './support.ts';

const [length, dim, heads, headDim, segment] = [12, 8, 2, 4, 3];

function weightsOf(random: Random) {
  const projection = () => random.weight(heads * headDim, dim);
  return { query: projection(), key: projection(), value: projection(), output: random.weight(dim, heads * headDim), relative: projection(), contentBias: random.tensor([heads, headDim]), distanceBias: random.tensor([heads, headDim]) };
}

/** Dai 2019, the four terms (a) to (d), over keys from `first(i)` to i. */
function plainLayer(weights: ReturnType<typeof weightsOf>, x: Float64Array, first: (query: number) => number): Float64Array {
  const [q, k, v] = [weights.query, weights.key, weights.value].map((weight) => plainLinear(x, weight)) as [Float64Array, Float64Array, Float64Array];
  const encodings = Float64Array.from({ length: length * dim }, (_, index) => {
    const [distance, channel] = [Math.floor(index / dim), index % dim];
    const angle = distance * 10000 ** ((-2 * (channel % (dim / 2))) / dim);
    return channel < dim / 2 ? Math.sin(angle) : Math.cos(angle);
  });
  const r = plainLinear(encodings, weights.relative);
  const [u, w] = [toFloat64(weights.contentBias), toFloat64(weights.distanceBias)];
  const out = new Float64Array(length * heads * headDim);
  for (let i = 0; i < length; i++) {
    for (let head = 0; head < heads; head++) {
      const at = (rows: Float64Array, row: number, channel: number): number => rows[(row * heads + head) * headDim + channel]!;
      const keys = Array.from({ length: i + 1 - first(i) }, (_, index) => first(i) + index);
      const scores = keys.map((j) => {
        let score = 0;
        for (let c = 0; c < headDim; c++) score += (at(q, i, c) + u[head * headDim + c]!) * at(k, j, c) + (at(q, i, c) + w[head * headDim + c]!) * at(r, i - j, c);
        return score / Math.sqrt(headDim);
      });
      const largest = Math.max(...scores);
      const exponentials = scores.map((score) => Math.exp(score - largest));
      const total = exponentials.reduce((sum, one) => sum + one, 0);
      for (let c = 0; c < headDim; c++) out[(i * heads + head) * headDim + c] = keys.reduce((sum, j, index) => sum + (exponentials[index]! / total) * at(v, j, c), 0);
    }
  }
  return plainLinear(out, weights.output);
}

describe('Transformer-XL', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends.cpu();
  });
  afterAll(async () => close(backend));

  test.each([
    { memoryLength: length, what: 'the whole history: the whole context' },
    { memoryLength: 4, what: 'less: what it holds, and the segment' },
  ])('a memory of $what', async ({ memoryLength }) => {
    const random = new Random(80);
    const weights = weightsOf(random);
    const x = random.tensor([1, length, dim]);
    const layer = await createTransformerXlAttention({ backend, heads, weights, memoryLength, segmentLength: segment });
    const memory = layer.createMemory(1);
    const got: number[] = [];
    for (let start = 0; start < length; start += segment) {
      const part = tensor(Float32Array.from(toFloat64(x).subarray(start * dim, (start + segment) * dim)), [1, segment, dim]);
      got.push(...(await elements(await layer.forward(part, memory))));
    }
    expectClose(got, plainLayer(weights, toFloat64(x), (query) => Math.max(0, query - (query % segment) - memoryLength)));
    memory.dispose();
    await layer.dispose();
  });
});
