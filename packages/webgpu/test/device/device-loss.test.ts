import { attention, causal, isAttentionError, isHostTensor, tensor, window, type AttentionInputs, type AttentionKernel, type HostTensor } from '@heed/core';
import { describe, expect, test } from 'vitest';
import { createWebGpuBackend } from '../../src/index.ts';

/** Rows of waves, of different lengths for each operand. */
function waves(shape: readonly [number, number, number, number], step: number): HostTensor {
  return tensor(Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, (_, index) => Math.sin(index * step)), shape);
}

const shape = [1, 4, 200, 16] as const;
const call: AttentionInputs = { query: waves(shape, 0.7), key: waves(shape, 0.9), value: waves(shape, 1.1) };
const request = { variant: attention({ masking: causal() }), queryDim: 16, keyDim: 16, valueDim: 16 };

async function resultOf(kernel: AttentionKernel, inputs: AttentionInputs = call): Promise<readonly number[]> {
  const { output } = await kernel.run(inputs);
  if (!isHostTensor(output)) throw new TypeError('the output is not on the host');
  return [...output.view()];
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'it resolved';
  } catch (error) {
    return isAttentionError(error) ? error.code : String(error);
  }
}

describe('a device that is lost in mid-call', () => {
  test('ends every pending promise with device-lost; after restore the same kernel gives the same bits', async () => {
    const backend = await createWebGpuBackend();
    const { runtime } = backend;
    const kernel = await backend.prepare(request);
    const expected = await resultOf(kernel);
    const uploaded = runtime.upload(waves(shape, 0.7));
    const { output } = kernel.enqueue({ query: uploaded, key: uploaded, value: uploaded });
    const pending = [
      kernel.run(call),
      kernel.run({ query: uploaded, key: uploaded, value: uploaded }),
      kernel.partial(call),
      runtime.read(output),
      runtime.readAll([uploaded, output]),
      runtime.idle(),
      backend.prepare({ ...request, variant: attention({ masking: window({ left: 3, right: 3 }) }), valueDim: 24 }),
    ];
    runtime.device.destroy();
    expect(await Promise.all(pending.map(codeOf))).toEqual(pending.map(() => 'device-lost'));
    expect(await codeOf(kernel.run(call))).toBe('device-lost');
    await runtime.restore();
    expect(await resultOf(kernel)).toEqual(expected);
    expect(runtime.memory().bytes).toBe(0);
    await backend.dispose();
  });

  test('between two slices of one call ends that call; others after restore succeed', async () => {
    const backend = await createWebGpuBackend();
    const kernel = await backend.prepare(request);
    const expected = await resultOf(kernel);
    const long = [1, 8, 700, 16] as const;
    for (const delay of [0, 5]) {
      const running = codeOf(kernel.run({ query: waves(long, 0.7), key: waves(long, 0.9), value: waves(long, 1.1) }));
      await new Promise((resolve) => setTimeout(resolve, delay));
      backend.runtime.device.destroy();
      expect(await running).toBe('device-lost');
      await backend.runtime.restore();
      expect(await resultOf(kernel)).toEqual(expected);
    }
    await backend.dispose();
  });
});
