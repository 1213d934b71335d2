import { tensor, toFloat64, type Backend, type HostTensor } from '@heed/core';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { createLuongAttention, type LuongScore } from '../src/index.ts';
import { backends, close, elements, expectClose, plainLinear, Random } from './support.ts';

const [batch, length, stateDim, memoryDim, steps] = [2, 9, 6, 5, 2];

describe('Luong attention', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends.cpu();
  });
  afterAll(async () => close(backend));

  const scores: Readonly<Record<string, (random: Random) => { readonly score: LuongScore; readonly memoryDim: number; readonly plain: (s: Float64Array, h: Float64Array) => number }>> = {
    dot: () => ({ score: { kind: 'dot' }, memoryDim: stateDim, plain: (s, h) => s.reduce((sum, one, index) => sum + one * h[index]!, 0) }),
    general: (random) => {
      const weight = random.weight(stateDim, memoryDim);
      return { score: { kind: 'general', weight }, memoryDim, plain: (s, h) => plainLinear(h, weight).reduce((sum, one, index) => sum + one * s[index]!, 0) };
    },
    concat: (random) => {
      const [weight, vector] = [random.weight(7, stateDim + memoryDim), random.tensor([7])];
      return { score: { kind: 'concat', weight, vector }, memoryDim, plain: (s, h) => plainLinear(Float64Array.from([...s, ...h]), weight).reduce((sum, one, index) => sum + Math.tanh(one) * toFloat64(vector)[index]!, 0) };
    },
  };

  test.each([...Object.keys(scores).map((kind) => [kind, false] as const), ['general', true] as const])('score %s, local: %s', async (kind, isLocal) => {
    const random = new Random(60);
    const { score, memoryDim: dim, plain } = scores[kind]!(random);
    const local = { halfWidth: 2, weight: random.weight(4, stateDim), vector: random.tensor([4]) };
    const output = random.weight(8, dim + stateDim);
    const layer = await createLuongAttention({ backend, stateDim, memoryDim: dim, score, output, ...(isLocal ? { local } : {}) });
    const memoryRows = random.tensor([batch, length, dim]);
    const lengths = [9, 7];
    const memory = await layer.remember(memoryRows, { lengths });
    const states = random.tensor([batch, steps, stateDim]);
    const got = await layer.attend(states, memory);
    const row = (rows: HostTensor, index: number, width: number): Float64Array => toFloat64(rows).subarray(index * width, (index + 1) * width);
    const want: number[] = [];
    for (let at = 0; at < batch * steps; at++) {
      const sequence = Math.floor(at / steps);
      const s = row(states, at, stateDim);
      const p = lengths[sequence]! / (1 + Math.exp(-plainLinear(s, local.weight).reduce((sum, one, index) => sum + Math.tanh(one) * toFloat64(local.vector)[index]!, 0)));
      const seen = Array.from({ length: lengths[sequence]! }, (_, j) => j).filter((j) => !isLocal || Math.abs(j - Math.round(p)) <= local.halfWidth);
      const exponentials = seen.map((j) => Math.exp(plain(s, row(memoryRows, sequence * length + j, dim))));
      const total = exponentials.reduce((sum, one) => sum + one, 0);
      const weights = exponentials.map((one, index) => (one / total) * (isLocal ? Math.exp(-((seen[index]! - p) ** 2) / (2 * (local.halfWidth / 2) ** 2)) : 1));
      const context = Array.from({ length: dim }, (_, channel) => seen.reduce((sum, j, index) => sum + weights[index]! * row(memoryRows, sequence * length + j, dim)[channel]!, 0));
      want.push(...plainLinear(Float64Array.from([...context, ...s]), output).map(Math.tanh));
    }
    expectClose(await elements(got.attentional), want);
    memory.dispose();
    await layer.dispose();
  });

  test('the attentional state lives where the state lives', async () => {
    const random = new Random(61);
    const layer = await createLuongAttention({ backend, stateDim, memoryDim: stateDim, score: { kind: 'dot' }, output: random.weight(8, 2 * stateDim) });
    const memory = await layer.remember(random.tensor([1, 3, stateDim]));
    const state = backend.runtime.upload(tensor(new Float32Array(stateDim), [1, 1, stateDim]));
    const { attentional, context } = await layer.attend(state, memory);
    for (const made of [state, attentional, context]) backend.runtime.release(made);
    memory.dispose();
    await layer.dispose();
  });
});
