/**
 * Rules that train while the sequence passes. The dual form is judged by the primal: the float64 reference takes one step for each token. Equalities with linear attention and the delta rules follow from the
 * derivation (Sun 2024, theorem 1; Schlag 2021): both sides are computed here.
 */
import type { FastWeightInputs, FastWeightState, FastWeightVariant, HostTensor } from '@heed/core';
import { additiveRule, decayRule, deltaRule, fastWeights, inPlaceRule, inputsOfRule, isAttentionError, l2Norm, recurrentRule, rope, tensor, titansRule, tttLinearRule, tttMlpRule } from '@heed/core';
import { hiddenDimOf, widthOf } from '@heed/core/compute';
import { RandomSource } from '@heed/conformance';
import { createWasmRuntime, type WasmRuntime } from '@heed/runtime-wasm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLinearBackend, type LinearWasmBackend } from '../src/wasm/index.ts';
import { expectClose, expected, normal, numbers, tokensOf, type Call } from './calls.ts';

let runtime: WasmRuntime;
let backend: LinearWasmBackend;
beforeAll(async () => {
  runtime = await createWasmRuntime({ threads: 2 });
  backend = await createLinearBackend({ runtime });
});
afterAll(async () => {
  await backend.dispose();
  await runtime.dispose();
});

const rules: Readonly<Record<string, FastWeightVariant>> = {
  tttLinear: fastWeights({ rule: tttLinearRule({ miniBatch: 4, tokenRate: true }) }),
  tttLinearRope: fastWeights({ rule: tttLinearRule({ miniBatch: 5 }), transformQuery: [rope({ pairing: 'half' })], transformKey: [rope({ pairing: 'half' })] }),
  tttMlp: fastWeights({ rule: tttMlpRule({ miniBatch: 4 }) }),
  tttMlpWide: fastWeights({ rule: tttMlpRule({ miniBatch: 48 }) }),
  titans: fastWeights({ rule: titansRule(), transformQuery: [l2Norm()], transformKey: [l2Norm()] }),
  titansMlp: fastWeights({ rule: titansRule({ memory: 'mlp', expansion: 2, activation: 'silu', miniBatch: 3 }), transformQuery: [l2Norm()], transformKey: [l2Norm()] }),
  inPlace: fastWeights({ rule: inPlaceRule({ chunk: 5, taps: 3, projection: true }), transformKey: [l2Norm()] }),
  inPlacePlain: fastWeights({ rule: inPlaceRule({ chunk: 3, taps: null }) }),
};

interface Sizes {
  readonly batch?: number;
  readonly heads?: number;
  readonly valueHeads?: number;
  readonly length: number;
  readonly dim: number;
}

/** Small starting weights, so that training stays tame; `table` replaces what is drawn. */
function draw(variant: FastWeightVariant, { batch = 1, heads = 1, valueHeads = heads, length, dim }: Sizes, table: (name: string, drawn: HostTensor) => HostTensor = (_, drawn) => drawn): Call {
  const random = new RandomSource(3);
  const request = { variant, dim, valueDim: dim };
  const width = widthOf(request);
  const known: Readonly<Record<string, number>> = { valueHead: valueHeads, scoreDim: width, valueDim: dim, hiddenDim: hiddenDimOf(request) };
  const tables = Object.fromEntries(Object.entries(variant.tables).map(([name, { axes }]) => {
    const shape = axes.map((axis) => (typeof axis === 'number' ? axis : (known[axis] ?? 1)));
    const drawn = tensor(Float32Array.from(numbers(normal(random, shape)), (element) => (name === 'normGain' ? 1 : 0) + 0.3 * element), shape);
    return [name, table(name, drawn)] as const;
  }));
  const each = (most: number, sign = 1): HostTensor => tensor(Float32Array.from({ length: batch * valueHeads * length }, () => sign * most * random.uniform()), [batch, valueHeads, length]);
  const made = { writeStrength: () => each(0.3), logDecay: () => each(0.5, -1), momentum: () => each(0.8), removalKey: () => each(0), removalWeight: () => each(0) };
  const extras = Object.fromEntries(inputsOfRule(variant.rule).map((name) => [name, made[name]()]));
  const inputs = { query: normal(random, [batch, heads, length, dim]), key: normal(random, [batch, heads, length, dim]), value: normal(random, [batch, valueHeads, length, dim]) };
  return { request, inputs: { ...inputs, ...extras, ...(Object.keys(tables).length === 0 ? {} : { tables }) } };
}

async function run({ request, inputs }: Pick<Call, 'request'> & { readonly inputs: FastWeightInputs }): Promise<{ readonly output: HostTensor; readonly state: FastWeightState<HostTensor> }> {
  const kernel = await backend.prepare(request);
  const outputs = await kernel.run(inputs);
  await kernel.dispose();
  return outputs as Awaited<ReturnType<typeof run>>;
}

function part({ tables, ...inputs }: FastWeightInputs, from: number, to: number): FastWeightInputs {
  return { ...tokensOf(inputs, from, to), ...(tables === undefined ? {} : { tables }) };
}

describe.each(Object.entries(rules))('%s', (_, variant) => {
  test.each([{ length: 1, dim: 4 }, { batch: 2, heads: 2, valueHeads: 4, length: 13, dim: 6 }, { heads: 1, valueHeads: 3, length: 70, dim: 18 }])('its dual form is its primal, %o', async (sizes) => {
    const call = draw(variant, sizes);
    const [got, want] = [await run(call), await expected(call)];
    expectClose(got.output, want.output, 2e-5, 'output');
    for (const [name, state] of Object.entries(want.state)) if (numbers(state).some((element) => element !== 0)) expectClose(got.state[name], state, 2e-5, name);
  });

  test('cut anywhere, at the ends of mini-batches and within them, it is the whole', async () => {
    const call = draw(variant, { heads: 2, length: 11, dim: 6 });
    const want = await expected(call);
    for (let cut = 0; cut <= 11; cut += 1) {
      const first = await run({ ...call, inputs: part(call.inputs, 0, cut) });
      const second = await run({ ...call, inputs: { ...part(call.inputs, cut, 11), state: first.state, offset: cut } });
      const rows = [0, 1].flatMap((head) => [...numbers(first.output).subarray(head * cut * 6, (head + 1) * cut * 6), ...numbers(second.output).subarray(head * (11 - cut) * 6, (head + 1) * (11 - cut) * 6)]);
      expectClose(tensor(rows, want.output.shape), want.output, 2e-5, `output cut at ${cut}`);
      expectClose(second.state['weight'] ?? second.state['weight1'], want.state['weight'] ?? want.state['weight1'], 2e-5, `weight cut at ${cut}`);
    }
  });

  test('packed sequences each begin anew', async () => {
    const call = draw(variant, { heads: 2, length: 12, dim: 6 });
    const got = await run({ ...call, inputs: { ...call.inputs, packed: [0, 5, 5, 12] } });
    const want = await expected({ ...call, inputs: { ...call.inputs, packed: [0, 5, 5, 12] } });
    expectClose(got.output, want.output, 2e-5, 'output');
    const alone = await run({ ...call, inputs: part(call.inputs, 5, 12) });
    expect([...numbers(alone.output)].slice(0, 42)).toEqual([...numbers(got.output)].slice(30, 72));
  });
});

describe('equalities', () => {
  /** No momentum, weights that begin at 0: W ← exp(logDecay) W − θ ∇. */
  const steps = (call: Call, logDecay: HostTensor | null): FastWeightInputs => {
    const { writeStrength, query, key, value } = call.inputs;
    const still = tensor(new Float32Array(writeStrength === undefined ? 0 : numbers(writeStrength).length), writeStrength?.shape ?? []);
    return { query, key, value, ...(writeStrength === undefined ? {} : { writeStrength }), momentum: still, logDecay: logDecay ?? still, tables: call.inputs.tables ?? {} };
  };
  const draws = (miniBatch: number): Call => draw(fastWeights({ rule: titansRule({ miniBatch }), transformKey: [l2Norm()] }), { heads: 2, length: 17, dim: 6 }, (_, drawn) => tensor(new Float32Array(numbers(drawn).length), drawn.shape));
  const plain = ({ inputs: { query, key, value, writeStrength } }: Call): FastWeightInputs => ({ query, key, value, ...(writeStrength === undefined ? {} : { writeStrength }) });
  const recurrent = (variant: FastWeightVariant, inputs: FastWeightInputs): ReturnType<typeof run> => run({ request: { variant, dim: 6, valueDim: 6 }, inputs });

  test('one step for each token at the initial weights is causal linear attention', async () => {
    const call = draws(17);
    const trained = await run({ ...call, inputs: steps(call, null) });
    const written = fastWeights({ rule: decayRule({ by: 'step', strength: true }), transformKey: [l2Norm()], scale: 1 });
    const { writeStrength } = call.inputs;
    const still = tensor(new Float32Array(34), [1, 2, 17]);
    const linear = await recurrent(written, { ...plain(call), logDecay: still });
    expectClose(trained.output, linear.output, 1e-5, 'output');
    // With θ = 1 there is nothing but the sum of the pairs.
    const ones = tensor(new Float32Array(34).fill(1), writeStrength?.shape ?? []);
    const summed = await run({ ...call, inputs: { ...steps(call, null), writeStrength: ones } });
    const { query, key, value } = call.inputs;
    expectClose(summed.output, (await recurrent(fastWeights({ rule: additiveRule(), transformKey: [l2Norm()], scale: 1 }), { query, key, value })).output, 1e-5, 'output');
  });

  test('one step for each token at the current weights is the delta rule', async () => {
    const call = draws(1);
    const trained = await run({ ...call, inputs: steps(call, null) });
    const delta = await recurrent(fastWeights({ rule: deltaRule(), transformKey: [l2Norm()], scale: 1 }), plain(call));
    expectClose(trained.output, delta.output, 1e-5, 'output');
    expectClose(trained.state['weight'], delta.state['memory'], 1e-5, 'state');
  });

  test('with weight decay it is the gated delta rule that recalls from the undecayed state', async () => {
    const call = draws(1);
    const logDecay = tensor(Float32Array.from({ length: 34 }, (_, index) => Math.log(1 - 0.02 * (index % 7))), [1, 2, 17]);
    const trained = await run({ ...call, inputs: steps(call, logDecay) });
    const rule = recurrentRule('undecayed', [
      { step: 'recall', by: 'key' },
      { step: 'decay', by: 'step' },
      { step: 'remove', along: 'key', strength: 'writeStrength' },
      { step: 'write', strength: 'writeStrength' },
      { step: 'read' },
    ]);
    const gated = await recurrent(fastWeights({ rule, transformKey: [l2Norm()], scale: 1 }), { ...plain(call), logDecay });
    expectClose(trained.output, gated.output, 1e-5, 'output');
  });
});

describe('In-Place', () => {
  const zeroed = (name: string, drawn: HostTensor): HostTensor => (name === 'convolution' ? tensor(new Float32Array(numbers(drawn).length), drawn.shape) : drawn);

  test('a convolution that is still zero leaves the base model as it is, bit for bit', async () => {
    const variant = (chunk: number): FastWeightVariant => fastWeights({ rule: inPlaceRule({ chunk, taps: 5 }) });
    const trained = await run(draw(variant(4), { heads: 1, length: 23, dim: 7 }, zeroed));
    const base = await run(draw(variant(24), { heads: 1, length: 23, dim: 7 }, zeroed));
    expect([...numbers(trained.output)]).toEqual([...numbers(base.output)]);
  });

  test('a sequence no longer than a chunk reads the weights that it began with', async () => {
    const call = draw(fastWeights({ rule: inPlaceRule({ chunk: 9 }) }), { heads: 1, length: 9, dim: 4 });
    const { output } = await run(call);
    const weight = numbers(call.inputs.tables?.['weight']);
    const query = numbers(call.inputs.query);
    const want = Float64Array.from({ length: 36 }, (_, place) => [0, 1, 2, 3].reduce((sum, channel) => sum + (query[Math.floor(place / 4) * 4 + channel] ?? 0) * (weight[channel * 4 + (place % 4)] ?? 0), 0));
    expectClose(output, tensor(want, [1, 1, 9, 4]), 1e-6, 'output');
  });

  test('the order of tokens within a chunk does not matter to later ones, without a convolution', async () => {
    const call = draw(fastWeights({ rule: inPlaceRule({ chunk: 3, taps: null }) }), { heads: 1, length: 6, dim: 4 });
    const turn = (source: HostTensor): HostTensor => {
      const values = numbers(source);
      return tensor(Float32Array.from({ length: 24 }, (_, place) => values[place < 12 ? ((Math.floor(place / 4) + 1) % 3) * 4 + (place % 4) : place] ?? 0), [1, 1, 6, 4]);
    };
    const turned = { ...call.inputs, key: turn(call.inputs.key), value: turn(call.inputs.value) };
    const [straight, other] = [await run(call), await run({ ...call, inputs: turned })];
    expectClose(tensor(numbers(other.output).slice(12), [1, 1, 3, 4]), tensor(numbers(straight.output).slice(12), [1, 1, 3, 4]), 1e-6, 'the second chunk');
  });
});

describe('manners', () => {
  const call = draw(fastWeights({ rule: tttLinearRule() }), { length: 40, dim: 8 });

  test('gradients are refused with the reason', async () => {
    const assessment = backend.assess({ ...call.request, gradients: ['query'] });
    expect(assessment.supported ? [] : assessment.refusals.map(({ stage }) => stage)).toEqual(['gradients']);
    await expect(backend.prepare({ ...call.request, gradients: ['query'] })).rejects.toMatchObject({ code: 'unsupported' });
  });

  test('a signal stops a call, and the kernel works on', async () => {
    const kernel = await backend.prepare(call.request);
    const stopped = await kernel.run(call.inputs, { signal: AbortSignal.abort() }).catch((error: unknown) => error);
    expect(isAttentionError(stopped) && stopped.code).toBe('aborted');
    expectClose((await kernel.run(call.inputs)).output, (await expected(call)).output, 2e-5, 'output');
  });

  test('tensors that live here stay here', async () => {
    const kernel = await backend.prepare(call.request);
    const { query, key, value } = call.inputs;
    const outputs = kernel.enqueue({ ...call.inputs, query: runtime.upload(query), key: runtime.upload(key), value: runtime.upload(value) });
    expect(outputs.output.runtime).toBe(runtime);
    expectClose(await runtime.read(outputs.output), (await expected(call)).output, 2e-5, 'output');
  });
});
