import { attention, causal, tensor, type AttentionOutputs } from '@heed/core';
import { createCpuBackend, type CpuBackend } from '@heed/cpu';

/** With a worker that runs. */
export async function createBackend(): Promise<CpuBackend> {
  const backend = await createCpuBackend({ threads: 2 });
  await backend.runtime.ready();
  return backend;
}

export function smallCall(backend: CpuBackend): Promise<AttentionOutputs> {
  return call(backend, 1, 64);
}

/** 9 GFLOP: about 0.1 s, and far from over when the program has nothing left to do. */
export function longCall(backend: CpuBackend): Promise<AttentionOutputs> {
  return call(backend, 16, 2048);
}

async function call(backend: CpuBackend, heads: number, length: number): Promise<AttentionOutputs> {
  const dim = 64;
  const kernel = await backend.prepare({ variant: attention({ masking: causal() }), queryDim: dim, keyDim: dim, valueDim: dim });
  const ones = tensor(new Float32Array(heads * length * dim).fill(1), [1, heads, length, dim]);
  return kernel.run({ query: ones, key: ones, value: ones });
}

/** What happened, and when in milliseconds since 1970. */
export function say(what: string): void {
  console.log(`${what} at ${Date.now()}`);
}
