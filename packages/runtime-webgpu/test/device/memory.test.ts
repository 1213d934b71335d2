import { tensor } from '@heed/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createWebGpuRuntime, type WebGpuRuntime } from '../../src/index.ts';
import { codeOf } from './code-of.ts';

const maximumBytes = 64 * 1024;

describe('a runtime with a ceiling', () => {
  let runtime: WebGpuRuntime;
  beforeEach(async () => {
    runtime = await createWebGpuRuntime({ maximumBytes, poolBytes: 48 * 1024 });
  });
  afterEach(async () => {
    await runtime.dispose();
  });

  test('refuses what passes it with both numbers, and works on', async () => {
    const held = runtime.tensor([10 * 1024], 'f32');
    expect(() => runtime.tensor([8 * 1024], 'f32')).toThrow(/32768 bytes was asked for while 40960 of 65536 bytes are in use/);
    expect(codeOf(() => runtime.tensor([8 * 1024], 'f32'))).toBe('out-of-memory');
    runtime.release(held);
    const made = runtime.upload(tensor(Float32Array.of(1, 2), [2]));
    expect([...(await runtime.read(made)).view()]).toEqual([1, 2]);
  });

  test('gives what is kept for reuse back before it refuses', () => {
    runtime.release(runtime.tensor([8 * 1024], 'f32'));
    expect(runtime.memory()).toMatchObject({ bytes: 0, pooledBytes: 32 * 1024 });
    // 32 KiB in the pool and 40 KiB more would pass 64 KiB.
    runtime.tensor([10 * 1024], 'f32');
    expect(runtime.memory()).toMatchObject({ bytes: 40 * 1024, pooledBytes: 0 });
  });

  test('a released buffer serves the next tensor of its size, and what was enqueued on it still has its turn', async () => {
    const first = runtime.upload(tensor(new Float32Array(4096).fill(3), [4096]));
    const sum = runtime.operations.reduce(first, 'sum');
    const buffer = runtime.bufferOf(first);
    runtime.release(first);
    const second = runtime.upload(tensor(new Float32Array(4096).fill(5), [4096]));
    expect(runtime.bufferOf(second)).toBe(buffer);
    expect((await runtime.read(sum)).view()[0]).toBe(3 * 4096);
    expect((await runtime.read(second)).view()[0]).toBe(5);
  });

  test('a buffer that is not kept is destroyed after what was enqueued on it', async () => {
    const first = runtime.upload(tensor(new Float32Array(6 * 1024).fill(1), [6 * 1024]));
    const second = runtime.upload(tensor(new Float32Array(7 * 1024).fill(2), [7 * 1024]));
    const [one, two] = [runtime.operations.reduce(first, 'sum'), runtime.operations.reduce(second, 'sum')];
    runtime.release(first);
    runtime.release(second);
    expect(runtime.memory().pooledBytes).toBe(24 * 1024);
    expect((await runtime.read(one)).view()[0]).toBe(6 * 1024);
    expect((await runtime.read(two)).view()[0]).toBe(2 * 7 * 1024);
    await runtime.idle();
  });
});

/** Seconds of the loop: a few in the tests, 600 for a proof. */
const seconds = Number(process.env.HEED_LOOP_SECONDS ?? 3);

test(`memory stands still over a loop of calls (${seconds} s)`, { timeout: (seconds + 60) * 1000 }, async () => {
  const runtime = await createWebGpuRuntime();
  const { operations } = runtime;
  const rows = tensor(Float32Array.from({ length: 64 * 64 }, (_, index) => Math.sin(index)), [1, 64, 64]);
  const call = async (): Promise<number> => {
    const x = runtime.upload(rows);
    const product = operations.matmul(x, x, { transposed: true });
    const normed = operations.rowNorm(product, { norm: 'rms', epsilon: 1e-5 });
    const largest = operations.topK(normed, 3);
    const [values] = await runtime.readAll([largest.values, largest.indices]);
    for (const one of [x, product, normed, largest.values, largest.indices]) runtime.release(one);
    return values?.view()[0] ?? Number.NaN;
  };
  const first = await call();
  const settled = runtime.memory();
  let calls = 0;
  for (const end = performance.now() + seconds * 1000; performance.now() < end; calls += 1) expect(await call()).toBe(first);
  expect(runtime.memory()).toEqual(settled);
  expect(settled.bytes).toBe(0);
  expect(calls).toBeGreaterThan(10);
  await runtime.dispose();
});
