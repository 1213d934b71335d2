// What a consumer writes in TypeScript: the types say what comes back, and a misuse does not compile.
import { type AttentionKernel, type Backend, attention, causal, isHostTensor, scaledDot, softmax, tensor, weightedSum } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';

const backend: Backend = createReferenceBackend();
const variant = attention({ scoring: scaledDot(), masking: causal(), normalization: softmax(), aggregation: weightedSum() });
const kernel: AttentionKernel = await backend.prepare({ variant, queryDim: 1, keyDim: 1, valueDim: 1 });
const one = tensor([1], [1, 1, 1, 1]);
const { output } = await kernel.run({ query: one, key: one, value: one });
if (!isHostTensor(output)) throw new Error('a host query was answered elsewhere');
const [only] = output.view();
if (only === undefined || Math.abs(only - 1) > 1e-6) throw new Error(`expected 1, got ${String(only)}`);

// @ts-expect-error: dims are numbers, not strings
const misuse = (): unknown => backend.prepare({ variant, queryDim: '1', keyDim: 1, valueDim: 1 });
console.log(typeof misuse === 'function' ? 'right' : 'wrong');
