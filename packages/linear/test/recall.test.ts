/** What separates the rules: orthonormal keys, written once and written again. Expected values follow from the rules' definitions; docs/recall.md measures random keys. */
import type { FastWeightVariant, HostTensor } from '@heed/core';
import { additiveRule, decayRule, deltaRule, fastWeights, gatedDeltaRule, inputsOfRule, tensor } from '@heed/core';
import { createWasmRuntime, type WasmRuntime } from '@heed/runtime-wasm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLinearBackend } from '../src/wasm/index.ts';
import { numbers } from './calls.ts';

const dim = 8;
const decay = 0.5;

let runtime: WasmRuntime;
beforeAll(async () => {
  runtime = await createWasmRuntime({ threads: 1 });
});
afterAll(async () => {
  await runtime.dispose();
});

/** Writes value `write` at unit vector `keys[write]`, then reads every unit vector: rows of [dim]. */
async function readBack(variant: FastWeightVariant, keys: readonly number[]): Promise<readonly (readonly number[])[]> {
  const length = keys.length + dim;
  const unit = (number: number): readonly number[] => Array.from({ length: dim }, (_, channel) => Number(channel === number));
  const zeros = unit(-1);
  const rows = (writing: (write: number) => readonly number[], reading: (key: number) => readonly number[]): HostTensor =>
    tensor(Float32Array.from([...keys.map((_, write) => writing(write)), ...unit(0).map((_, key) => reading(key))].flat()), [1, 1, length, dim]);
  const each = (writing: number): HostTensor => tensor(Float32Array.from({ length }, (_, token) => (token < keys.length ? writing : 0)), [1, 1, length]);
  const inputs = { query: rows(() => zeros, unit), key: rows((write) => unit(keys[write] ?? -1), () => zeros), value: rows((write) => valueOf(write), () => zeros) };
  const extras = Object.fromEntries(inputsOfRule(variant.rule).map((name) => [name, each(name === 'logDecay' ? Math.log(decay) : 1)]));
  const backend = await createLinearBackend({ runtime });
  const kernel = await backend.prepare({ variant, dim, valueDim: dim });
  const { output } = await kernel.run({ ...inputs, ...extras });
  const read = [...numbers(output)].slice(keys.length * dim);
  await backend.dispose();
  return Array.from({ length: dim }, (_, key) => read.slice(key * dim, (key + 1) * dim));
}

const valueOf = (write: number): readonly number[] => Array.from({ length: dim }, (_, channel) => write * dim + channel + 1);
const close = (got: readonly number[] | undefined, want: readonly number[]): void => {
  want.forEach((element, channel) => {
    expect(got?.[channel]).toBeCloseTo(element, 3);
  });
};
const once = Array.from({ length: dim }, (_, key) => key);
const twice = [...once, ...once];
const scaled = (row: readonly number[], factor: number): readonly number[] => row.map((element) => element * factor);

test('as many orthonormal keys as channels are read back exactly, by adding and by the delta rule', async () => {
  for (const rule of [additiveRule(), deltaRule()]) {
    const read = await readBack(fastWeights({ rule, scale: 1 }), once);
    once.forEach((key) => {
      close(read[key], valueOf(key));
    });
  }
});

test('a key that is written again returns the sum of its values from the additive rule', async () => {
  const read = await readBack(fastWeights({ rule: additiveRule(), scale: 1 }), twice);
  once.forEach((key) => {
    close(read[key], valueOf(key).map((element, channel) => element + (valueOf(key + dim)[channel] ?? 0)));
  });
});

test('the delta rule overwrites it', async () => {
  const read = await readBack(fastWeights({ rule: deltaRule(), scale: 1 }), twice);
  once.forEach((key) => {
    close(read[key], valueOf(key + dim));
  });
});

test('decay forgets what is old: each value halves with every write behind it', async () => {
  const read = await readBack(fastWeights({ rule: decayRule({ by: 'step' }), scale: 1 }), once);
  once.forEach((key) => {
    close(read[key], scaled(valueOf(key), decay ** (dim - 1 - key)));
  });
});

test('the gated delta rule overwrites and forgets', async () => {
  const read = await readBack(fastWeights({ rule: gatedDeltaRule(), scale: 1 }), twice);
  once.forEach((key) => {
    close(read[key], scaled(valueOf(key + dim), decay ** (dim - 1 - key)));
  });
});
