import { tensor, type HostTensor } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { expect, test } from 'vitest';
import { fromOnnx } from '../../src/conventions/onnx/from-onnx.ts';
import type { OnnxLinearAttentionAttributes, OnnxLinearAttentionInputs } from '../../src/conventions/onnx/linear-attention.ts';
import { at, distance, numbers, valuesOf } from './plain.ts';

const [batch, length, heads, stateHeads, dim, valueDim] = [2, 7, 4, 2, 5, 3];
const query = numbers([batch, length, heads * dim], 1);
const key = numbers([batch, length, stateHeads * dim], 2);
const value = numbers([batch, length, stateHeads * valueDim], 3);
const past_state = numbers([batch, stateHeads, dim, valueDim], 4);
const negative = (source: HostTensor): HostTensor => tensor(Float32Array.from(source.view(), (number) => -Math.abs(number)), source.shape);
const decayByHead = negative(numbers([batch, length, stateHeads], 5));
const decayByChannel = negative(numbers([batch, length, stateHeads * dim], 6));
const betaByHead = tensor(Float32Array.from(numbers([batch, length, stateHeads], 7).view(), Math.abs), [batch, length, stateHeads]);
const beta = tensor(Float32Array.from(numbers([batch, length, 1], 8).view(), Math.abs), [batch, length, 1]);

type Given = Omit<OnnxLinearAttentionInputs, 'query' | 'key' | 'value'>;

/** The operator's recurrence, step by step: decay, delta correction, write, read by every query head of the group. */
function expected(given: Given, scale: number): { readonly output: Float64Array; readonly state: Float64Array } {
  const [q, k, v] = [at(query), at(key), at(value)];
  const output = new Float64Array(batch * length * heads * valueDim);
  const state = given.past_state === undefined || given.past_state === null ? new Float64Array(batch * stateHeads * dim * valueDim) : valuesOf(given.past_state).slice();
  const decay = given.decay === undefined || given.decay === null ? null : at(given.decay as HostTensor);
  const strength = given.beta === undefined || given.beta === null ? null : at(given.beta as HostTensor);
  const byChannel = given.decay?.shape[2] === stateHeads * dim;
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < length; t++) {
      for (let g = 0; g < stateHeads; g++) {
        const cell = (d: number, e: number): number => ((b * stateHeads + g) * dim + d) * valueDim + e;
        for (let d = 0; d < dim; d++) for (let e = 0; e < valueDim; e++) if (decay !== null) state[cell(d, e)]! *= Math.exp(byChannel ? decay(b, t, g * dim + d) : decay(b, t, g));
        for (let e = 0; e < valueDim; e++) {
          let write = v(b, t, g * valueDim + e);
          if (strength !== null) {
            let held = 0;
            for (let d = 0; d < dim; d++) held += state[cell(d, e)]! * k(b, t, g * dim + d);
            write = strength(b, t, given.beta?.shape[2] === 1 ? 0 : g) * (write - held);
          }
          for (let d = 0; d < dim; d++) state[cell(d, e)]! += k(b, t, g * dim + d) * write;
        }
        for (let h = g * 2; h < g * 2 + 2; h++) {
          for (let e = 0; e < valueDim; e++) {
            let sum = 0;
            for (let d = 0; d < dim; d++) sum += q(b, t, h * dim + d) * state[cell(d, e)]!;
            output[((b * length + t) * heads + h) * valueDim + e] = scale * sum;
          }
        }
      }
    }
  }
  return { output, state };
}

const calls: readonly (readonly [string, Given, Partial<OnnxLinearAttentionAttributes>])[] = [
  ['linear', {}, { update_rule: 'linear' }],
  ['linear from a past, scaled', { past_state }, { update_rule: 'linear', scale: 0.5 }],
  ['gated by head', { decay: decayByHead, past_state }, { update_rule: 'gated' }],
  ['gated by channel', { decay: decayByChannel }, { update_rule: 'gated' }],
  ['delta', { beta: betaByHead, past_state }, { update_rule: 'delta' }],
  ['delta with one strength for all heads', { beta }, { update_rule: 'delta' }],
  ['gated_delta, which is the default', { beta, decay: decayByHead, past_state }, {}],
  ['gated_delta by channel', { beta: betaByHead, decay: decayByChannel, past_state }, { update_rule: 'gated_delta' }],
];

test.each(calls)('%s', async (_name, given, attributes) => {
  const call = fromOnnx({ opset: 27 }).linearAttention({ query, key, value, ...given }, { q_num_heads: heads, kv_num_heads: stateHeads, ...attributes });
  const result = call.outputs(await (await createReferenceBackend().prepare(call.request)).run(call.inputs));
  const want = expected(given, attributes.scale ?? 1 / Math.sqrt(dim));
  expect(result.output.shape).toEqual([batch, length, heads * valueDim]);
  expect(result.present_state.shape).toEqual([batch, stateHeads, dim, valueDim]);
  expect(distance(valuesOf(result.output), want.output)).toBeLessThan(1e-6);
  expect(distance(valuesOf(result.present_state), want.state)).toBeLessThan(1e-6);
});

test('a rule takes exactly its inputs', () => {
  const { linearAttention } = fromOnnx({ opset: 27 });
  const attributes = { q_num_heads: heads, kv_num_heads: stateHeads };
  const code = 'invalid-argument';
  expect(() => linearAttention({ query, key, value }, attributes)).toThrow(expect.objectContaining({ code, message: expect.stringContaining('needs decay') as string }));
  expect(() => linearAttention({ query, key, value, beta }, { ...attributes, update_rule: 'linear' })).toThrow(expect.objectContaining({ code, message: expect.stringContaining('takes no beta') as string }));
  expect(() => linearAttention({ query, key, value }, { q_num_heads: 3, kv_num_heads: 2, update_rule: 'linear' })).toThrow(expect.objectContaining({ code }));
  expect(() => linearAttention({ query, key, value: numbers([1, 2, 3, 4], 1) }, { ...attributes, update_rule: 'linear' })).toThrow(expect.objectContaining({ code: 'invalid-shape' }));
});
