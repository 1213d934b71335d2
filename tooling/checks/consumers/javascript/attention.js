// Causal attention of two tokens with equal scores: the first sees itself alone, the second the mean of both values.
import { attention, causal, isAttentionError, scaledDot, softmax, tensor, weightedSum } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';

const variant = attention({ scoring: scaledDot(), masking: causal(), normalization: softmax(), aggregation: weightedSum() });
const backend = createReferenceBackend();
const kernel = await backend.prepare({ variant, queryDim: 2, keyDim: 2, valueDim: 1 });
const query = tensor([0, 0, 0, 0], [1, 1, 2, 2]);
const key = tensor([1, 2, 3, 4], [1, 1, 2, 2]);
const { output } = await kernel.run({ query, key, value: tensor([1, 3], [1, 1, 2, 1]) });
const [first, second] = output.view();
if (Math.abs(first - 1) > 1e-6 || Math.abs(second - 2) > 1e-6) throw new Error(`expected 1 and 2, got ${first} and ${second}`);

let refused;
try {
  await kernel.run({ query, key, value: tensor([1], [1, 1, 1, 1]) });
} catch (error) {
  refused = error;
}
if (!isAttentionError(refused)) throw new Error('one value for two keys was not refused with an AttentionError');
console.log('right');
