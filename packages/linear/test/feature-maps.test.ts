/** Feature maps and row transforms: forward in both readings, and gradients. Expected values: the float64 reference, whose gradients the suite checks by central differences; Choromanski 2021 for FAVOR+. */
import type { AttentionInputs, FastWeightGradientName, HostTensor, RowTransform } from '@heed/core';
import { favorFrequencies } from '@heed/core/compute';
import {
  additiveRule, attention, based, causal, cosformer, dot, dpfp, eluFeatures, expFeatures, fastWeights, favor, hedgehog, inputsOfRule, l2Norm, layerNorm, none, projection, reluFeatures, rmsNorm, rope, rowSum, tensor,
} from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { RandomSource } from '@heed/conformance';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLinearBackend, type LinearWasmBackend } from '../src/wasm/index.ts';
import { drawCall, expectClose, expected, expectedGradients, normal, numbers, rules, type Call } from './calls.ts';

let backend: LinearWasmBackend;
beforeAll(async () => {
  backend = await createLinearBackend({ threads: 2 });
});
afterAll(async () => {
  await backend.dispose();
});

const dim = 6;
const frequencies = (features: number, width = dim): HostTensor => tensor(favorFrequencies({ features, dim: width, seed: 3 }), [features, width]);
const weights = normal(new RandomSource(8), [5, dim]);

interface Map {
  readonly transforms: readonly RowTransform[];
  readonly tables?: Readonly<Record<string, HostTensor>>;
  /** Positive features have a row sum that is worth dividing by. */
  readonly isPositive: boolean;
}

const maps: Readonly<Record<string, Map>> = {
  identity: { transforms: [], isPositive: false },
  'elu + 1': { transforms: [eluFeatures()], isPositive: true },
  relu: { transforms: [reluFeatures()], isPositive: false },
  exp: { transforms: [expFeatures()], isPositive: true },
  hedgehog: { transforms: [hedgehog({ softmax: false })], isPositive: true },
  'hedgehog softmax': { transforms: [hedgehog({ softmax: true })], isPositive: true },
  'FAVOR+': { transforms: [favor({ features: 16 })], tables: { favorFrequencies: frequencies(16) }, isPositive: true },
  cosFormer: { transforms: [cosformer({ horizon: 200 })], isPositive: false },
  Based: { transforms: [based()], isPositive: true },
  DPFP: { transforms: [dpfp({ order: 2 })], isPositive: false },
  'l2 norm, then elu + 1': { transforms: [l2Norm(), eluFeatures()], isPositive: true },
  'rms norm': { transforms: [rmsNorm()], isPositive: false },
  'layer norm': { transforms: [layerNorm()], isPositive: false },
  'rotary positions in halves': { transforms: [rope({ pairing: 'half' })], isPositive: false },
  'rotary positions interleaved': { transforms: [rope({ pairing: 'interleaved', width: 4 })], isPositive: false },
  projection: { transforms: [projection({ table: 'weights', width: 5 })], tables: { weights }, isPositive: false },
};

function callOf({ transforms, tables, isPositive }: Map, length: number): Call {
  const variant = fastWeights({ rule: additiveRule(), transformQuery: transforms, transformKey: transforms, rowSum: isPositive, scale: 1 });
  const { request, inputs } = drawCall(variant, { batch: 2, heads: 2, valueHeads: 4, length, dim, valueDim: 5 });
  return { request, inputs: { ...inputs, ...(tables === undefined ? {} : { tables }) } };
}

describe.each(Object.entries(maps))('%s', (_, map) => {
  test('forward, token by token and in chunks', async () => {
    for (const length of [3, 100]) {
      const call = callOf(map, length);
      const kernel = await backend.prepare(call.request);
      const [got, want] = [await kernel.run(call.inputs), await expected(call)];
      expectClose(got.output, want.output, 1e-5, `output of ${length} tokens`);
      expectClose(got.state['memory'], want.state['memory'], 1e-5, `state of ${length} tokens`);
    }
  });

  test('gradients, across checkpoints', async () => {
    const call = callOf(map, 70);
    const names: readonly FastWeightGradientName[] = ['query', 'key', 'value', 'state.memory', ...(map.isPositive ? ['state.normalizer' as const] : [])];
    const asked = { request: { ...call.request, gradients: names }, inputs: call.inputs };
    const outer = normal(new RandomSource(5), [2, 4, 70, 5]);
    const kernel = await backend.prepare(asked.request);
    const { saved } = await kernel.run(asked.inputs);
    if (saved === undefined) throw new Error('nothing was saved');
    const [got, want] = [await kernel.backward(asked.inputs, saved, { output: outer }), await expectedGradients(asked, outer)];
    for (const name of names) expectClose(got[name], want[name], 3e-5, `gradient of ${name}`);
  });

  test('as a pairwise variant it is the same function', async () => {
    const { transforms, tables, isPositive } = map;
    const request = { variant: attention({ scoring: dot().transform(...transforms), masking: causal(), normalization: isPositive ? rowSum() : none() }), queryDim: dim, keyDim: dim, valueDim: 5 };
    const random = new RandomSource(4);
    const inputs: AttentionInputs = {
      query: normal(random, [2, 4, 75, dim]), key: normal(random, [2, 2, 90, dim]), value: normal(random, [2, 2, 90, 5]), queryOffset: [15, -5], keyLengths: [90, 40], queryLengths: [70, 75],
      ...(tables === undefined ? {} : { tables }),
    };
    const kernel = await backend.prepare(request);
    const reference = await createReferenceBackend().prepare({ ...request, dtypes: { output: 'f64' } });
    expectClose((await kernel.run(inputs)).output, (await reference.run(inputs)).output, 1e-5, 'output');
  });
});

test.each(Object.entries(rules))('gradients of %s, across checkpoints and packed sequences', async (_, variant) => {
  const names: readonly FastWeightGradientName[] = ['query', 'key', 'value', ...inputsOfRule(variant.rule), 'state.memory'];
  for (const packed of [undefined, [0, 30, 30, 140]]) {
    const call = drawCall(variant, { heads: 2, valueHeads: 4, length: 140, dim: 8, valueDim: 5 });
    const asked = { request: { ...call.request, gradients: names }, inputs: { ...call.inputs, ...(packed === undefined ? {} : { packed }) } };
    const outer = normal(new RandomSource(5), [1, 4, 140, 5]);
    const kernel = await backend.prepare(asked.request);
    const { saved } = await kernel.run(asked.inputs);
    if (saved === undefined) throw new Error('nothing was saved');
    const [got, want] = [await kernel.backward(asked.inputs, saved, { output: outer }), await expectedGradients(asked, outer)];
    for (const name of names) expectClose(got[name], want[name], 3e-5, `gradient of ${name}`);
  }
});

describe('FAVOR+', () => {
  const width = 16;
  /** Products of the features of one query and one key, over independent draws of the frequencies. */
  const estimates = async (features: number, draws: number): Promise<{ readonly samples: readonly number[]; readonly truth: number; readonly state: Float64Array }> => {
    const random = new RandomSource(11);
    const [query, key] = [normal(random, [1, 1, 1, width]), normal(random, [1, 1, 1, width])];
    for (const one of [query, key]) for (let index = 0; index < width; index += 1) one.view()[index] = 0.5 * Number(one.view()[index]);
    const variant = fastWeights({ rule: additiveRule(), transformQuery: [favor({ features })], transformKey: [favor({ features })], scale: 1 });
    const kernel = await backend.prepare({ variant, dim: width, valueDim: 1 });
    const samples: number[] = [];
    let state: Float64Array = new Float64Array(0);
    for (let seed = 0; seed < draws; seed += 1) {
      const table = tensor(favorFrequencies({ features, dim: width, seed }), [features, width]);
      const { output, state: after } = await kernel.run({ query, key, value: tensor(Float32Array.of(1), [1, 1, 1, 1]), tables: { favorFrequencies: table } });
      samples.push(numbers(output)[0] ?? Number.NaN);
      state = numbers(after['memory']);
    }
    const product = numbers(query).reduce((sum, element, index) => sum + element * (numbers(key)[index] ?? 0), 0);
    return { samples, truth: Math.exp(product / Math.sqrt(width)), state };
  };
  const spread = (samples: readonly number[]): { readonly mean: number; readonly deviation: number } => {
    const mean = samples.reduce((sum, sample) => sum + sample, 0) / samples.length;
    return { mean, deviation: Math.sqrt(samples.reduce((sum, sample) => sum + (sample - mean) ** 2, 0) / (samples.length - 1)) };
  };

  test('is unbiased: the mean over seeds is e^(q·k/√dim) within 4 standard errors', async () => {
    const { samples, truth } = await estimates(32, 200);
    const { mean, deviation } = spread(samples);
    expect(Math.abs(mean - truth)).toBeLessThan((4 * deviation) / Math.sqrt(samples.length));
  });

  test('errors fall with the square root of the number of features', async () => {
    const [few, many] = [await estimates(16, 150), await estimates(256, 150)];
    const ratio = spread(few.samples).deviation / spread(many.samples).deviation;
    // √(256 / 16) = 4; the deviation of 150 samples is known to about 6 %.
    expect(ratio).toBeGreaterThan(2.8);
    expect(ratio).toBeLessThan(6.5);
  });

  test('features are positive', async () => {
    const { state } = await estimates(64, 3);
    expect(Math.min(...state)).toBeGreaterThan(0);
  });
});
