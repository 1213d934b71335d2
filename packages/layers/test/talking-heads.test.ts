import { tensor, toFloat64, type Backend } from '@heed/core';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { createContiguousCache, createTalkingHeadsAttention } from '../src/index.ts';
import { backends, close, elements, expectClose, plainLinear, Random } from './support.ts';

const [batch, length, dim, scoreHeads, heads, valueHeads, headDim, valueDim] = [2, 5, 7, 3, 4, 2, 4, 5];

describe('talking heads', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends.cpu();
  });
  afterAll(async () => close(backend));

  test('mix scores before the softmax and weights after it, also step by step', async () => {
    const random = new Random(40);
    const weights = { query: random.weight(scoreHeads * headDim, dim), key: random.weight(scoreHeads * headDim, dim), value: random.weight(valueHeads * valueDim, dim), output: random.weight(dim, valueHeads * valueDim), mixScores: random.tensor([scoreHeads, heads]), mixWeights: random.tensor([heads, valueHeads]) };
    const x = random.tensor([batch, length, dim]);
    const [q, k, v] = [weights.query, weights.key, weights.value].map((weight) => plainLinear(toFloat64(x), weight)) as [Float64Array, Float64Array, Float64Array];
    const [before, after] = [toFloat64(weights.mixScores), toFloat64(weights.mixWeights)];
    const attended = new Float64Array(batch * length * valueHeads * valueDim);
    for (let sequence = 0; sequence < batch; sequence++) {
      for (let i = 0; i < length; i++) {
        const at = (rows: Float64Array, row: number, head: number, width: number, count: number, channel: number): number => rows[((sequence * length + row) * count + head) * width + channel]!;
        // Softmax weights [heads][keys] of mixed scores.
        const rows = Array.from({ length: heads }, (_, head) => {
          const scores = Array.from({ length: i + 1 }, (_, j) => {
            let mixed = 0;
            for (let from = 0; from < scoreHeads; from++) {
              let score = 0;
              for (let channel = 0; channel < headDim; channel++) score += at(q, i, from, headDim, scoreHeads, channel) * at(k, j, from, headDim, scoreHeads, channel);
              mixed += (score / Math.sqrt(headDim)) * before[from * heads + head]!;
            }
            return mixed;
          });
          const largest = Math.max(...scores);
          const exponentials = scores.map((score) => Math.exp(score - largest));
          const total = exponentials.reduce((sum, one) => sum + one, 0);
          return exponentials.map((one) => one / total);
        });
        for (let head = 0; head < valueHeads; head++) {
          for (let channel = 0; channel < valueDim; channel++) {
            let sum = 0;
            for (let j = 0; j <= i; j++) {
              let weight = 0;
              for (let from = 0; from < heads; from++) weight += rows[from]![j]! * after[from * valueHeads + head]!;
              sum += weight * at(v, j, head, valueDim, valueHeads, channel);
            }
            attended[((sequence * length + i) * valueHeads + head) * valueDim + channel] = sum;
          }
        }
      }
    }
    const want = plainLinear(attended, weights.output);
    const layer = await createTalkingHeadsAttention({ backend, weights, headDim });
    expectClose(await elements(await layer.forward(x)), want);
    const cache = createContiguousCache({ ...layer.cacheShape, batch, capacity: 2 });
    const source = toFloat64(x);
    for (let step = 0; step < length; step++) {
      const row = tensor(Float32Array.from({ length: batch * dim }, (_, index) => source[(Math.floor(index / dim) * length + step) * dim + (index % dim)]!), [batch, 1, dim]);
      expectClose(await elements(await layer.forward(row, { cache })), Float64Array.from({ length: batch * dim }, (_, index) => want[(Math.floor(index / dim) * length + step) * dim + (index % dim)]!));
    }
    cache.dispose();
    await layer.dispose();
  });
});
