import { tensor } from '@heed/core';
import { expect, test } from 'vitest';
import { create } from 'webgpu';
import { createWebGpuRuntime, type ProgramSource } from '../../src/index.ts';
import { codeOf, codeOfPromise } from './code-of.ts';

const host = tensor(Float32Array.from({ length: 64 * 64 }, (_, index) => Math.cos(index)), [1, 64, 64]);

const doubling: ProgramSource = {
  name: 'doubling',
  bindings: ['write'],
  code: '@group(0) @binding(0) var<storage, read_write> x: array<f32>;\n@compute @workgroup_size(1) fn main() { x[0] *= 2.0f; }\n',
};

test('every pending promise rejects with device-lost, and after restore the same calls succeed', async () => {
  const runtime = await createWebGpuRuntime();
  const x = runtime.upload(host);
  const expected = [...(await runtime.read(runtime.operations.matmul(x, x))).view()];

  const product = runtime.operations.matmul(x, x);
  const pending = [runtime.read(product), runtime.read(x), runtime.readAll([product, x]), runtime.idle(), runtime.finished(), runtime.compile(doubling)];
  runtime.device.destroy();
  expect(await Promise.all(pending.map(codeOfPromise))).toEqual(pending.map(() => 'device-lost'));
  // And every later call, until it is restored.
  expect(codeOf(() => runtime.upload(host))).toBe('device-lost');
  expect(codeOf(() => runtime.operations.matmul(x, x))).toBe('device-lost');
  expect(await Promise.all([runtime.read(product), runtime.idle(), runtime.compile(doubling)].map(codeOfPromise))).toEqual(['device-lost', 'device-lost', 'device-lost']);

  await runtime.restore();
  expect(runtime.memory().bytes).toBe(0);
  // What was on the old device is gone: its use says so, its release is no error.
  expect(codeOf(() => runtime.operations.matmul(x, x))).toBe('disposed');
  expect(codeOf(() => {
    runtime.release(x);
  })).toBe(null);
  const again = runtime.upload(host);
  expect([...(await runtime.read(runtime.operations.matmul(again, again))).view()]).toEqual(expected);
  await runtime.idle();
  await runtime.dispose();
});

test('restore compiles what had been compiled, before anybody asks', async () => {
  const runtime = await createWebGpuRuntime();
  await runtime.compile(doubling);
  runtime.device.destroy();
  await codeOfPromise(runtime.idle());
  await runtime.restore();
  const { device } = runtime;
  const [now, later] = [device.createComputePipeline.bind(device), device.createComputePipelineAsync.bind(device)];
  let compiled = 0;
  Object.defineProperties(device, {
    createComputePipeline: { value: (...given: Parameters<typeof now>) => { compiled += 1; return now(...given); } },
    createComputePipelineAsync: { value: async (...given: Parameters<typeof later>) => { compiled += 1; return later(...given); } },
  });
  runtime.compileNow(doubling);
  await runtime.compile(doubling);
  expect(compiled).toBe(0);
  await runtime.dispose();
});

test('a runtime can be restored again and again', async () => {
  const runtime = await createWebGpuRuntime();
  for (let round = 0; round < 3; round += 1) {
    const x = runtime.upload(tensor(Float32Array.of(round), [1]));
    const pending = runtime.read(x);
    runtime.device.destroy();
    expect(await codeOfPromise(pending)).toBe('device-lost');
    await runtime.restore();
  }
  expect((await runtime.read(runtime.upload(tensor(Float32Array.of(9), [1])))).view()[0]).toBe(9);
  await runtime.dispose();
});

test('the caller’s device is replaced by another of the caller’s', async () => {
  const gpu = create([]);
  const device = async (): Promise<GPUDevice> => {
    const adapter = await gpu.requestAdapter();
    if (adapter === null) throw new Error('no adapter');
    return adapter.requestDevice();
  };
  const [first, second] = [await device(), await device()];
  const runtime = await createWebGpuRuntime({ device: first });
  first.destroy();
  expect(await codeOfPromise(runtime.idle())).toBe('device-lost');
  expect(await codeOfPromise(runtime.restore())).toBe('invalid-argument');
  await runtime.restore({ device: second });
  expect(runtime.device).toBe(second);
  expect((await runtime.read(runtime.upload(tensor(Float32Array.of(9), [1])))).view()[0]).toBe(9);
  await runtime.dispose();
  second.destroy();
});

test('dispose ends pending calls with disposed', async () => {
  const runtime = await createWebGpuRuntime();
  const x = runtime.upload(host);
  const pending = [runtime.read(runtime.operations.matmul(x, x)), runtime.idle()];
  await runtime.dispose();
  expect(await Promise.all(pending.map(codeOfPromise))).toEqual(['disposed', 'disposed']);
  expect(await codeOfPromise(runtime.restore())).toBe('disposed');
});
