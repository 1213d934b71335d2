// The CPU backend with a worker. All scores are equal and the values count up, so row i is the mean of 0 … i.
import { attention, causal, scaledDot, softmax, tensor, weightedSum } from '@heed/core';
import { createCpuBackend } from '@heed/cpu';

const backend = await createCpuBackend({ threads: 2 });
await backend.runtime.ready();
if (backend.runtime.threads !== 2) throw new Error(`one worker was asked for: ${backend.runtime.describe().join(' ')}`);

const [heads, length, dim] = [4, 300, 8];
const variant = attention({ scoring: scaledDot(), masking: causal(), normalization: softmax(), aggregation: weightedSum() });
const kernel = await backend.prepare({ variant, queryDim: dim, keyDim: dim, valueDim: 1 });
const zeros = tensor(new Float32Array(heads * length * dim), [1, heads, length, dim]);
const counting = Float32Array.from({ length: heads * length }, (_, index) => index % length);
const { output } = await kernel.run({ query: zeros, key: zeros, value: tensor(counting, [1, heads, length, 1]) });
output.view().forEach((mean, index) => {
  const expected = (index % length) / 2;
  if (Math.abs(mean - expected) > 1e-3) throw new Error(`row ${index}: expected ${expected}, got ${mean}`);
});
await backend.dispose();
console.log('right');
