import { attention, causal, isAttentionError, isHostTensor, tensor, type AttentionInputs, type HostTensor } from '@heed/core';
import { expect, test } from 'vitest';
import { createWebGpuBackend } from '../../src/index.ts';

function waves(length: number, step: number): HostTensor {
  return tensor(Float32Array.from({ length: 2 * length * 16 }, (_, index) => Math.sin(index * step)), [1, 2, length, 16]);
}

const inputs = (length: number): AttentionInputs => ({ query: waves(length, 0.7), key: waves(length, 0.9), value: waves(length, 1.1) });

test('tensors longer than a binding are refused with the limit and both numbers; the kernel works on and holds nothing', async () => {
  // [1, 2, 300, 16] of float32 are 38,400 bytes.
  const backend = await createWebGpuBackend({ bindingBytes: 16 * 1024 });
  const kernel = await backend.prepare({ variant: attention({ masking: causal() }), queryDim: 16, keyDim: 16, valueDim: 16 });
  const error: unknown = await kernel.run(inputs(300)).catch((reason: unknown) => reason);
  expect(isAttentionError(error, 'out-of-memory')).toBe(true);
  expect(String(error)).toMatch(/a binding of \d+ bytes; maxStorageBufferBindingSize of this device is 16384/);
  const { output } = await kernel.run(inputs(40));
  expect(isHostTensor(output) ? output.shape : null).toEqual([1, 2, 40, 16]);
  expect(backend.runtime.memory().bytes).toBe(0);
  await backend.dispose();
});

test('a call that passes the ceiling is refused with both numbers; smaller ones go on', async () => {
  const backend = await createWebGpuBackend({ maximumBytes: 100_000 });
  const kernel = await backend.prepare({ variant: attention({ masking: causal() }), queryDim: 16, keyDim: 16, valueDim: 16 });
  const error: unknown = await kernel.run(inputs(300)).catch((reason: unknown) => reason);
  expect(isAttentionError(error, 'out-of-memory')).toBe(true);
  expect(String(error)).toMatch(/A buffer of \d+ bytes was asked for while \d+ of 100000 bytes are in use/);
  const { output } = await kernel.run(inputs(40));
  expect(isHostTensor(output) ? output.shape : null).toEqual([1, 2, 40, 16]);
  expect(backend.runtime.memory().bytes).toBe(0);
  await backend.dispose();
});
