import { expect, test } from 'vitest';
import { createWebGpuRuntime, measureDeviceLimits } from '../../src/index.ts';

test('what the device can do is measured, and leaves nothing behind', async () => {
  const runtime = await createWebGpuRuntime();
  const { f32, f16 } = await measureDeviceLimits(runtime);
  for (const rate of [f32.gigaflopsPerSecond, f32.readGigabytesPerSecond, f32.copyGigabytesPerSecond]) {
    // From a software device on one slow core to some times what the largest device of today does.
    expect(rate).toBeGreaterThan(0.01);
    expect(rate).toBeLessThan(1e6);
  }
  // What is copied is read first.
  expect(f32.copyGigabytesPerSecond).toBeLessThan(2 * f32.readGigabytesPerSecond);
  expect(f16 === null).toBe(!runtime.machine.float16);
  expect(runtime.memory().bytes).toBe(0);
  await runtime.idle();
  await runtime.dispose();
}, 60_000);
