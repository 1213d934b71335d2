import { AttentionError, tensor, type HostTensor } from '@heed/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { create } from 'webgpu';
import { createWebGpuRuntime, type WebGpuRuntime } from '../../src/index.ts';

const usage = { storage: 0x80, copySource: 0x4, copyTarget: 0x8 } as const;

/** What `navigator.gpu` would be. It must outlive its devices. */
const gpu = create([]);

async function callersDevice(): Promise<GPUDevice> {
  const adapter = await gpu.requestAdapter();
  if (adapter === null) throw new Error('no adapter');
  return adapter.requestDevice();
}

const numbers = (source: HostTensor): readonly number[] => [...source.view()];

describe('a device of its own', () => {
  let runtime: WebGpuRuntime;
  beforeAll(async () => {
    runtime = await createWebGpuRuntime();
  });
  afterAll(async () => {
    await runtime.dispose();
  });

  test('has every limit and every wished feature of the adapter', async () => {
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
    if (adapter === null) throw new Error('no adapter');
    for (const name of ['maxBufferSize', 'maxStorageBufferBindingSize', 'maxStorageBuffersPerShaderStage', 'maxComputeWorkgroupStorageSize', 'maxComputeInvocationsPerWorkgroup'] as const) {
      expect(runtime.device.limits[name], name).toBe(adapter.limits[name]);
    }
    for (const feature of ['shader-f16', 'subgroups', 'timestamp-query'] as const) expect(runtime.device.features.has(feature), feature).toBe(adapter.features.has(feature));
    const { machine } = runtime;
    expect(machine.float16).toBe(adapter.features.has('shader-f16'));
    expect(machine.timestamps).toBe(adapter.features.has('timestamp-query'));
    if (machine.subgroups !== null) expect(machine.subgroups.least).toBeLessThanOrEqual(machine.subgroups.most);
  });

  test('reads back what was uploaded, many at once and each by itself', async () => {
    const tensors = Array.from({ length: 9 }, (_, index) => runtime.upload(tensor(Float32Array.of(index, index + 0.5), [2])));
    const copies = await Promise.all(tensors.map(async (one) => runtime.read(one)));
    expect(copies.map(numbers)).toEqual(tensors.map((_, index) => [index, index + 0.5]));
    for (const one of tensors) runtime.release(one);
  });

  test('a copy to the host shows what stood there when it was asked for', async () => {
    const made = runtime.upload(tensor(Float32Array.of(1, 2), [2]));
    const before = runtime.read(made);
    runtime.operations.copy(tensor(Float32Array.of(3, 4), [2]), { into: made });
    const after = runtime.read(made);
    expect([numbers(await before), numbers(await after)]).toEqual([[1, 2], [3, 4]]);
    runtime.release(made);
  });

  test('an upload of more than one staging buffer arrives whole, in order with smaller ones', async () => {
    const large = Float32Array.from({ length: 200_000 }, (_, index) => index);
    const parts = [tensor(Float32Array.of(7), [1]), tensor(large, [large.length]), ...Array.from({ length: 40 }, (_, index) => tensor(new Float32Array(5000).fill(index), [5000]))].map((one) => runtime.upload(one));
    const copies = await runtime.readAll(parts);
    expect(copies[0]?.view()[0]).toBe(7);
    expect(copies[1]?.view()).toEqual(large);
    expect(copies.slice(2).map((copy) => [copy.view()[0], copy.view()[4999]])).toEqual(Array.from({ length: 40 }, (_, index) => [index, index]));
    for (const one of parts) runtime.release(one);
  });
});

describe('a device of the caller', () => {
  test('is used, keeps living after dispose, and shares its buffers without a copy', async () => {
    const device = await callersDevice();
    const buffer = device.createBuffer({ size: 16, usage: usage.storage | usage.copySource | usage.copyTarget });
    device.queue.writeBuffer(buffer, 0, Float32Array.of(1, 2, 3, 4));
    const runtime = await createWebGpuRuntime({ device });
    const wrapped = runtime.wrap(buffer, [4], 'f32');
    expect(runtime.bufferOf(wrapped)).toBe(buffer);
    expect(runtime.memory().bytes).toBe(0);
    // What the caller's queue writes is what the tensor holds.
    device.queue.writeBuffer(buffer, 4, Float32Array.of(20));
    expect(numbers(await runtime.read(wrapped))).toEqual([1, 20, 3, 4]);
    runtime.operations.copy(tensor(Float32Array.of(5, 6, 7, 8), [4]), { into: wrapped });
    runtime.release(wrapped);
    await runtime.dispose();
    const staging = device.createBuffer({ size: 16, usage: 0x1 | usage.copyTarget });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, 16);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(1);
    expect([...new Float32Array(staging.getMappedRange())]).toEqual([5, 6, 7, 8]);
    device.destroy();
  });

  test('a buffer that is too short or may not be bound is refused with both numbers', async () => {
    const device = await callersDevice();
    const runtime = await createWebGpuRuntime({ device });
    const short = device.createBuffer({ size: 8, usage: usage.storage | usage.copySource | usage.copyTarget });
    const closed = device.createBuffer({ size: 64, usage: usage.copySource });
    expect(() => runtime.wrap(short, [4], 'f32')).toThrow(/holds 8 bytes.*takes 16/s);
    expect(() => runtime.wrap(closed, [4], 'f32')).toThrow(AttentionError);
    await runtime.dispose();
    device.destroy();
  });
});

