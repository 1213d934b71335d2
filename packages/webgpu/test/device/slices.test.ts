import { attention, causal, tensor, type HostTensor } from '@heed/core';
import { expect, test } from 'vitest';
import { createWebGpuBackend } from '../../src/index.ts';

function waves(heads: number, length: number, step: number): HostTensor {
  return tensor(Float32Array.from({ length: heads * length * 16 }, (_, index) => Math.sin(index * step)), [1, heads, length, 16]);
}

test('a long call is cut into slices, and its signal stops it between two of them; the kernel still works', { timeout: 120_000 }, async () => {
  const backend = await createWebGpuBackend();
  const kernel = await backend.prepare({ variant: attention({ masking: causal() }), queryDim: 16, keyDim: 16, valueDim: 16 });
  const inputs = { query: waves(8, 512, 0.7), key: waves(8, 512, 0.9), value: waves(8, 512, 1.1) };
  const whole = await kernel.run(inputs);
  const controller = new AbortController();
  const started = performance.now();
  let told = 0;
  setTimeout(() => {
    told = performance.now();
    controller.abort('enough');
  }, 5);
  const stopped = await kernel.run(inputs, { signal: controller.signal }).then(() => null, (error: unknown) => error);
  expect(stopped).toMatchObject({ code: 'aborted' });
  expect(told).toBeGreaterThan(started);
  const again = await kernel.run(inputs);
  expect((again.output as HostTensor).view()).toEqual((whole.output as HostTensor).view());
  await backend.dispose();
});

test('dispatches are timed by the device where it has a clock', async () => {
  const backend = await createWebGpuBackend();
  const { runtime } = backend;
  const source = {
    name: 'count',
    code: '@group(0) @binding(0) var<storage, read_write> result: array<u32>;\n@compute @workgroup_size(1) fn main() {\n  var sum = 1u;\n  for (var turn = 0u; turn < 1000000u; turn++) {\n    sum = sum * 1664525u + turn;\n  }\n  result[0] = sum;\n}\n',
    bindings: ['write' as const],
  };
  const program = await runtime.compile(source);
  const buffer = runtime.acquireBuffer(4);
  const milliseconds = await runtime.timed(() => {
    runtime.submit([{ program, buffers: [buffer], workgroups: 4 }]);
  });
  if (runtime.machine.timestamps) expect(milliseconds).toBeGreaterThan(0);
  else expect(milliseconds).toBeNull();
  runtime.releaseBuffer(buffer);
  await backend.dispose();
});
