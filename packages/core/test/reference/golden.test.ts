import { describe, expect, test } from 'vitest';
import { alibi, attention, causal, scaledDot, softcap, softmax, tensor, toFloat64, window } from '../../src/index.ts';
import type { AttentionInputs, AttentionOutputs, AttentionVariant, HostTensor } from '../../src/index.ts';
import { ReferenceKernel } from '../../src/reference/attention/kernel.ts';
import { finalize, merge } from '../../src/partial.ts';

// Three tokens, width 2, worked out independently to six decimals.
const query = tensor(Float64Array.of(1, 0, 0.5, 1, -1, 2), [1, 1, 3, 2]);
const key = tensor(Float64Array.of(1, 0, 0.6, 0.8, 0, 1), [1, 1, 3, 2]);
const value = tensor(Float64Array.of(1, -2, 3, 0.5, -1, 4), [1, 1, 3, 2]);

function kernel(variant: AttentionVariant): ReferenceKernel {
  return new ReferenceKernel({ variant, queryDim: 2, keyDim: 2, valueDim: 2, dtypes: { query: 'f64', key: 'f64', value: 'f64' }, gradients: ['query', 'key', 'value'] }, () => false);
}

async function run(variant: AttentionVariant, more: Partial<AttentionInputs> = {}): Promise<AttentionOutputs<HostTensor>> {
  return kernel(variant).run({ query, key, value, ...more });
}

async function rows(variant: AttentionVariant, more: Partial<AttentionInputs> = {}): Promise<readonly number[]> {
  return [...toFloat64((await run(variant, more)).output)];
}

function expectClose(got: readonly number[], want: readonly number[]): void {
  expect(got).toHaveLength(want.length);
  got.forEach((each, index) => expect(each).toBeCloseTo(want[index] ?? Number.NaN, 6 - 1));
}

describe('three tokens, worked out by hand', () => {
  test('full softmax', async () => {
    expectClose(await rows(attention()), [1.231957, 0.15538, 1.052799, 1.128555, 0.37142, 2.484149]);
  });
  test('causal softmax', async () => {
    expectClose(await rows(attention({ masking: causal() })), [1, -2, 2.209006, -0.488742, 0.37142, 2.484149]);
  });
  test('causal softmax in a window of two keys', async () => {
    expectClose(await rows(attention({ masking: causal().and(window({ left: 1, right: 0 })) })), [1, -2, 2.209006, -0.488742, 0.320954, 2.844165]);
  });
  test('causal softmax with a sink of 0', async () => {
    const sink = tensor(Float64Array.of(0), [1]);
    expectClose(await rows(attention({ masking: causal(), normalization: softmax({ sink: true }) }), { tables: { sink } }), [0.669762, -1.339523, 1.728875, -0.382513, 0.32277, 2.158761]);
  });
  test('causal softmax with ALiBi of slope ½', async () => {
    const slopes = tensor(Float64Array.of(0.5), [1]);
    expectClose(await rows(attention({ masking: causal(), scoring: scaledDot().modify(alibi()) }), { tables: { slopes } }), [1, -2, 2.43182, -0.210225, -0.043716, 3.023714]);
  });
  test('causal softmax under a softcap of ½', async () => {
    expectClose(await rows(attention({ masking: causal(), scoring: scaledDot().modify(softcap(0.5)) })), [1, -2, 2.076314, -0.654607, 0.956415, 1.578977]);
  });
  test('logSumExp of causal and of full rows', async () => {
    const ofCausal = await run(attention({ masking: causal() }));
    const ofFull = await run(attention());
    expectClose([...toFloat64(ofCausal.logSumExp ?? query)], [0.707107, 1.281166, 1.892273]);
    expectClose([...toFloat64(ofFull.logSumExp ?? query)], [1.516572, 1.727923, 1.892273]);
  });
  test('gradients of causal softmax', async () => {
    const causalKernel = kernel(attention({ masking: causal() }));
    const { saved } = await causalKernel.run({ query, key, value });
    if (saved === undefined) throw new Error('no saved');
    const gradients = await causalKernel.backward({ query, key, value }, saved, { output: tensor(Float64Array.of(1, 0, 0, 1, 1, -1), [1, 1, 3, 2]) });
    expectClose([...toFloat64(gradients['query'] ?? query)], [0, 0, -0.169054, 0.338109, 0.866934, -0.4681]);
    expectClose([...toFloat64(gradients['key'] ?? query)], [-0.480002, 0.114731, -0.785766, 2.416803, 1.265767, -2.531535]);
    expectClose([...toFloat64(gradients['value'] ?? query)], [1.07432, 0.321177, 0.305695, 0.298808, 0.619985, -0.619985]);
  });
  test('partial results over {0} and {1, 2} merge to the whole', async () => {
    const whole = attention();
    const shard = (first: number, last: number): Partial<AttentionInputs> => ({
      key: tensor(key.view().slice(first * 2, last * 2), [1, 1, last - first, 2]),
      value: tensor(value.view().slice(first * 2, last * 2), [1, 1, last - first, 2]),
      keyOffset: first,
    });
    const left = await kernel(whole).partial({ query, key, value, ...shard(0, 1) });
    const right = await kernel(whole).partial({ query, key, value, ...shard(1, 3) });
    expectClose([...toFloat64(left.accumulator)].slice(4), [1, -2]);
    expectClose([...toFloat64(right.accumulator)].slice(4), [0.320954, 2.844165]);
    expectClose([...toFloat64(right.statistics.logSumExp ?? query)].slice(2), [1.815047]);
    const joined = finalize(kernel(whole).request, merge([left, right]), { query, key, value });
    expectClose([...toFloat64(joined.output)], await rows(whole));
    expectClose([...toFloat64(joined.logSumExp ?? query)], [1.516572, 1.727923, 1.892273]);
  });
});
