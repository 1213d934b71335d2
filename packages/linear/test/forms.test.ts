/** L12: recurrent and chunked forms are one function, however the sequence is cut. Expected values: the float64 reference. */
import type { FastWeightVariant } from '@heed/core';
import { fastWeights, recurrentRule, tensor } from '@heed/core';
import { createWasmRuntime, type WasmRuntime } from '@heed/runtime-wasm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLinearBackend } from '../src/wasm/index.ts';
import { drawCall, expectClose, expected, numbers, rules, tokensOf, type Call } from './calls.ts';

let runtime: WasmRuntime;
beforeAll(async () => {
  runtime = await createWasmRuntime({ threads: 2 });
});
afterAll(async () => {
  await runtime.dispose();
});

/** Sums of at most a few hundred float32 products of unit size. */
const tolerance = 3e-6;
const chunks = [1, 3, 16, 64, 200] as const;

async function matches(call: Call, chunk: number | undefined, bound = tolerance): Promise<void> {
  const backend = await createLinearBackend(chunk === undefined ? { runtime } : { runtime, chunk });
  const kernel = await backend.prepare(call.request);
  const [got, want] = [await kernel.run(call.inputs), await expected(call)];
  expectClose(got.output, want.output, bound, `output in chunks of ${String(chunk)}`);
  for (const [name, state] of Object.entries(want.state)) expectClose(got.state[name], state, bound, `state ${name} in chunks of ${String(chunk)}`);
  await backend.dispose();
}

describe.each(Object.entries(rules))('%s', (_, variant) => {
  // 16 columns fill their tiles, so that row sums stand apart from the products; 9 do not.
  test.each([9, 16])('is the same for every size of chunk, with %i columns', async (valueDim) => {
    const call = drawCall(variant, { batch: 2, heads: 2, valueHeads: 4, length: 150, dim: 20, valueDim });
    for (const chunk of chunks) await matches(call, chunk);
  });

  test('is the same wherever the sequence is cut into state and rest', async () => {
    const backend = await createLinearBackend({ runtime, chunk: 16 });
    const call = drawCall(variant, { heads: 2, length: 37, dim: 8, valueDim: 4 });
    const kernel = await backend.prepare(call.request);
    const want = await expected(call);
    const whole = numbers(want.output);
    for (let cut = 0; cut <= 37; cut += 1) {
      const first = await kernel.run(tokensOf(call.inputs, 0, cut));
      const rest = await kernel.run({ ...tokensOf(call.inputs, cut, 37), state: first.state, offset: cut });
      for (const [name, state] of Object.entries(want.state)) expectClose(rest.state[name], state, tolerance, `state ${name} after a cut at ${cut}`);
      const [head, tail] = [numbers(first.output), numbers(rest.output)];
      const joined = Array.from(whole, (_element, at) => {
        const [lane, row, channel] = [Math.floor(at / (37 * 4)), Math.floor(at / 4) % 37, at % 4];
        return row < cut ? head[(lane * cut + row) * 4 + channel] : tail[(lane * (37 - cut) + row - cut) * 4 + channel];
      });
      joined.forEach((element, at) => {
        expect(element).toBeCloseTo(whole[at] ?? Number.NaN, 4);
      });
    }
    await backend.dispose();
  });
});

describe('adversarial inputs', () => {
  const decaying = ['retention', 'mamba2', 'gla', 'gatedDelta', 'kda', 'rwkv7'] as const;
  test.each(decaying.flatMap((name) => [0, -1e-6, -20, -Infinity].map((logDecay) => [name, logDecay] as const)))('%s with log decays of %d', async (name, logDecay) => {
    const variant = rules[name];
    if (variant === undefined) throw new Error(name);
    const call = drawCall(variant, { length: 100, dim: 16 }, { logDecay });
    for (const chunk of [1, 64]) await matches(call, chunk);
  });

  test('log decays of very different size beside each other', async () => {
    for (const name of decaying) {
      const variant = rules[name];
      if (variant === undefined) throw new Error(name);
      const call = drawCall(variant, { length: 100, dim: 16 });
      const logs = call.inputs.logDecay;
      const view = logs === undefined ? new Float32Array(0) : numbers(logs);
      const mixed = Float32Array.from(view, (_, index) => [0, -1e-6, -20, -0.1, -Infinity][index % 5] ?? 0);
      await matches({ ...call, inputs: { ...call.inputs, logDecay: tensor(mixed, logs?.shape ?? []) } }, 64);
    }
  });

  test.each(['delta', 'gatedDelta', 'kda'].flatMap((name) => [0, 1, 2].map((strength) => [name, strength] as const)))('%s with β = %d and keys that are nearly the same', async (name, strength) => {
    const variant = rules[name];
    if (variant === undefined) throw new Error(name);
    for (const nearDuplicateKeys of [false, true]) {
      const call = drawCall(variant, { length: 100, dim: 16 }, { strength, nearDuplicateKeys, logDecay: 0 });
      // At β = 2 errors are reflected, not damped: they add up over the tokens.
      for (const chunk of [1, 16, 64]) await matches(call, chunk, strength === 2 ? 2e-5 : tolerance);
    }
  });
});

describe('steps in other orders', () => {
  const orders: Readonly<Record<string, FastWeightVariant>> = {
    'decay after the read': fastWeights({ rule: recurrentRule('late', [{ step: 'write', strength: null }, { step: 'read' }, { step: 'decay', by: 'channel' }]) }),
    'read before the write': fastWeights({ rule: recurrentRule('stale', [{ step: 'decay', by: 'step' }, { step: 'read' }, { step: 'recall', by: 'key' }, { step: 'remove', along: 'key', strength: 'writeStrength' }, { step: 'write', strength: 'writeStrength' }]), scale: 0.5 }),
    'write before the recall': fastWeights({ rule: recurrentRule('eager', [{ step: 'write', strength: 'writeStrength' }, { step: 'recall', by: 'removalKey' }, { step: 'decay', by: 'step' }, { step: 'remove', along: 'removalKey', strength: 'removalWeight' }, { step: 'read' }]), scale: 0.5 }),
    'removal along the key': fastWeights({ rule: recurrentRule('mixed', [{ step: 'decay', by: 'step' }, { step: 'recall', by: 'removalKey' }, { step: 'remove', along: 'key', strength: null }, { step: 'write', strength: 'writeStrength' }, { step: 'read' }]), scale: 0.5 }),
    'no strength': fastWeights({ rule: recurrentRule('plain', [{ step: 'recall', by: 'key' }, { step: 'remove', along: 'key', strength: null }, { step: 'write', strength: null }, { step: 'read' }]), scale: 0.5 }),
  };
  test.each(Object.entries(orders))('%s', async (_, variant) => {
    const call = drawCall(variant, { length: 20, dim: 6, valueDim: 5 });
    const small = { ...call, inputs: { ...call.inputs, key: scaled(call) } };
    await matches(small, undefined, 1e-5);
  });

  /** Keys short enough that no order of steps makes the state grow. */
  function scaled({ inputs }: Call): Call['inputs']['key'] {
    const view = inputs.key.view();
    for (let index = 0; index < view.length; index += 1) view[index] = 0.2 * Number(view[index]);
    return inputs.key;
  }
});

test('100,000 tokens in float32 end where float64 does', async () => {
  const backend = await createLinearBackend({ runtime });
  for (const [name, logDecay] of [['retention', -1e-6], ['gatedDelta', -1e-6], ['kda', -1e-6], ['delta', undefined]] as const) {
    const variant = rules[name];
    if (variant === undefined) throw new Error(name);
    const call = drawCall(variant, { length: 100_000, dim: 4, valueDim: 4 }, { ...(logDecay === undefined ? {} : { logDecay }) });
    const kernel = await backend.prepare(call.request);
    const [got, want] = [await kernel.run(call.inputs), await expected(call)];
    expectClose(got.state['memory'], want.state['memory'], 2e-4, `${name}'s state`);
    expectClose(got.output, want.output, 2e-4, `${name}'s output`);
  }
  await backend.dispose();
}, 60_000);

test('a token that is not finite reaches no token before it, bit for bit', async () => {
  const backend = await createLinearBackend({ runtime });
  for (const variant of Object.values(rules)) {
    const clean = drawCall(variant, { heads: 2, length: 70, dim: 16 });
    const kernel = await backend.prepare(clean.request);
    const before = numbers((await kernel.run(clean.inputs)).output);
    const spoilt = drawCall(variant, { heads: 2, length: 70, dim: 16 });
    for (const part of [spoilt.inputs.key, spoilt.inputs.value]) for (const lane of [0, 1]) part.view().fill(Number.NaN, (lane * 70 + 41) * 16, (lane * 70 + 42) * 16);
    const after = numbers((await kernel.run(spoilt.inputs)).output);
    for (let at = 0; at < before.length; at += 1) if (Math.floor(at / 16) % 70 < 41) expect(after[at]).toBe(before[at]);
  }
  await backend.dispose();
});
