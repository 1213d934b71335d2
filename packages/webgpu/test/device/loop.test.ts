import { attention, causal, softcap, scaledDot, tensor, type HostTensor } from '@heed/core';
import { expect, test } from 'vitest';
import { createWebGpuBackend } from '../../src/index.ts';

/** Seconds of the loop: a few in the tests, 600 for a proof. */
const seconds = Number(process.env.HEED_LOOP_SECONDS ?? 3);

/** By how much the process may grow over the second half of a loop of a minute or more: what its collector has not looked at yet. */
const slackBytes = 32 * 2 ** 20;

function waves(length: number, step: number): HostTensor {
  return tensor(Float32Array.from({ length: 2 * length * 16 }, (_, index) => Math.sin(index * step)), [1, 2, length, 16]);
}

test(`buffer memory stands still over a loop of calls of changing lengths (${seconds} s)`, { timeout: (seconds + 120) * 1000 }, async () => {
  const backend = await createWebGpuBackend();
  const { runtime } = backend;
  const kernel = await backend.prepare({ variant: attention({ scoring: scaledDot().modify(softcap(20)), masking: causal() }), queryDim: 16, keyDim: 16, valueDim: 16 });
  const lengths = [1, 17, 64, 130];
  const calls = lengths.map((length) => ({ query: waves(length, 0.7), key: waves(130, 0.9), value: waves(130, 1.1), queryOffset: 'end' as const }));
  const round = async (): Promise<number> => {
    let sum = 0;
    for (const inputs of calls) {
      const { output } = await kernel.run(inputs);
      sum += 'view' in output ? ((output as HostTensor).view()[0] ?? 0) : 0;
      // And on the device, without waiting.
      const uploaded = { query: runtime.upload(inputs.query), key: runtime.upload(inputs.key), value: runtime.upload(inputs.value) };
      const made = kernel.enqueue({ ...inputs, ...uploaded });
      for (const one of [...Object.values(uploaded), made.output, made.logSumExp]) if (one !== undefined) runtime.release(one);
    }
    await runtime.idle();
    return sum;
  };
  const first = await round();
  await round();
  const settled = runtime.memory();
  let rounds = 0;
  const half = performance.now() + seconds * 500;
  for (; performance.now() < half; rounds += 1) expect(await round()).toBe(first);
  const resident = process.memoryUsage.rss();
  for (const end = half + seconds * 500; performance.now() < end; rounds += 1) expect(await round()).toBe(first);
  expect(runtime.memory()).toEqual(settled);
  expect(settled.bytes).toBe(0);
  const grown = process.memoryUsage.rss() - resident;
  console.log(`${rounds} rounds of ${2 * calls.length} calls: ${settled.pooledBytes} bytes in the pool, peak ${settled.peakBytes}; over the second half the process grew by ${(grown / 2 ** 20).toFixed(1)} MiB`);
  if (seconds >= 60) expect(grown).toBeLessThan(slackBytes);
  await backend.dispose();
});
