import { attention, causal, tensor, window, type AttentionInputs, type AttentionVariant, type Tensor } from '@heed/core';
import { createCpuBackend } from '@heed/cpu';
import { createWasmRuntime } from '@heed/runtime-wasm';
import { expect, test } from 'vitest';
import { bigBirdBlocks, sparse } from '../src/index.ts';

const [heads, dim] = [2, 16];
const dims = { queryDim: dim, keyDim: dim, valueDim: dim } as const;

/** What `explain` says that a call holds beside its inputs and outputs, and what the runtime then held. */
async function bytesOf(variant: AttentionVariant, length: number, more: Partial<AttentionInputs> = {}): Promise<{ readonly stated: number; readonly held: number }> {
  // A runtime of its own, since its peak is that of its whole life.
  const runtime = await createWasmRuntime({ threads: 1 });
  const backend = sparse(await createCpuBackend({ runtime }), { leastTiles: 0 });
  const kernel = await backend.prepare({ variant, ...dims });
  const rows = (): Tensor => runtime.upload(tensor(new Float32Array(heads * length * dim), [1, heads, length, dim]));
  const inputs = { query: rows(), key: rows(), value: rows(), ...more };
  const stated = kernel.explain(inputs).cost?.peakBytes ?? Number.NaN;
  const before = runtime.memory().bytes;
  const { output, logSumExp } = await kernel.run(inputs);
  const outputs = [output, ...(logSumExp === undefined ? [] : [logSumExp])].reduce((sum, { shape }) => sum + 4 * shape.reduce((product, size) => product * size, 1), 0);
  const held = runtime.memory().peakBytes - before - outputs;
  await backend.dispose();
  await runtime.dispose();
  return { stated, held };
}

const near = causal().and(window({ left: 255, right: 0 }));
const windowed = (length: number): Promise<{ readonly stated: number; readonly held: number }> => bytesOf(attention({ masking: near }), length);
const blocked = (length: number): Promise<{ readonly stated: number; readonly held: number }> => bytesOf(attention(), length, { blocks: bigBirdBlocks({ length }) });

test.each([['a window', windowed], ['BigBird', blocked]])('the plan of %s states the memory of a call, which grows with the listed tiles', async (_name, measured) => {
  const [short, long] = [await measured(4096), await measured(16_384)];
  for (const { stated, held } of [short, long]) {
    expect(held).toBeLessThan(1.2 * stated);
    expect(stated).toBeLessThan(1.1 * held);
  }
  // Four times the tokens, four times the tiles.
  expect(long.held).toBeLessThan(4.4 * short.held);
  expect(long.stated).toBeLessThan(4.4 * short.stated);
});
