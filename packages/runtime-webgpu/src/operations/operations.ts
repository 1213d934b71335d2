import { AttentionError, type Operations, type Tensor } from '@heed/core';
import type { WebGpuRuntime } from '../runtime.ts';
import { causalConvolution } from './causal-convolution.ts';
import { checkShape, operationCall } from './context.ts';
import { elementwise } from './elementwise.ts';
import { gather } from './gather.ts';
import { matmul } from './matmul.ts';
import { reduce } from './reduce.ts';
import { rowNorm } from './row-norm.ts';
import { topK } from './top-k.ts';

/** The contract's operations on this runtime. Each returns at once; results are there after `read` or `idle`. */
export function createOperations(runtime: WebGpuRuntime): Operations {
  return Object.freeze({
    matmul: (a, b, options) => operationCall(runtime, (call) => matmul(call, a, b, options)),
    rowNorm: (x, options) => operationCall(runtime, (call) => rowNorm(call, x, options)),
    elementwise: (expression, tensors, options) => operationCall(runtime, (call) => elementwise(call, expression, tensors, options)),
    gather: (x, indices) => operationCall(runtime, (call) => gather(call, x, indices)),
    reduce: (x, reduction) => operationCall(runtime, (call) => reduce(call, x, reduction)),
    topK: (x, k) => operationCall(runtime, (call) => topK(call, x, k)),
    causalConvolution: (x, weight, options) => operationCall(runtime, (call) => causalConvolution(call, x, weight, options)),
    copy: (x, { dtype, into } = {}) =>
      operationCall(runtime, (call): Tensor => {
        if (into !== undefined) {
          checkShape('copy’s into', into.shape, x.shape);
          if (dtype !== undefined && dtype !== into.dtype) throw new AttentionError('invalid-dtype', `copy’s into is ${into.dtype}.`, `Expected ${dtype}.`);
        }
        const source = call.onDevice(x);
        const target = into ?? runtime.tensor(x.shape, dtype ?? x.dtype);
        if (source !== target) call.write(runtime.bufferOf(source), source.dtype, target);
        return target;
      }),
  } satisfies Operations);
}
