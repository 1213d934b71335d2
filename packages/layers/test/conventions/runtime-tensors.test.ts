import { tensor, type AttentionInputs, type AttentionOutputs, type AttentionRequest, type Tensor } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { createCpuBackend } from '@heed/cpu';
import { afterAll, expect, test } from 'vitest';
import { fromFlashAttention } from '../../src/conventions/flash-attention.ts';
import { fromJax } from '../../src/conventions/jax.ts';
import { fromOnnx } from '../../src/conventions/onnx/from-onnx.ts';
import { fromTorch } from '../../src/conventions/torch.ts';
import { distance, numbers, valuesOf } from './plain.ts';

const cpu = await createCpuBackend();
afterAll(async () => cpu.dispose());

const [batch, heads, keyHeads, queryLength, keyLength, dim] = [2, 4, 2, 3, 5, 8];

/** How a convention is called with tensors made by `place`, and what of its result is compared. */
type Scenario = (place: (source: Tensor) => Tensor) => {
  readonly request: AttentionRequest;
  readonly inputs: AttentionInputs;
  readonly outputs: (outputs: AttentionOutputs) => readonly Tensor[];
};

const rows = (length: number, h: number, seed: number): Tensor => numbers([batch, length, h, dim], seed);
const planes = (length: number, h: number, seed: number): Tensor => numbers([batch, h, length, dim], seed);
const mask = tensor(Uint8Array.from([1, 0, 1, 1]), [4]);

const scenarios: Readonly<Record<string, Scenario>> = {
  torch: (place) => {
    const call = fromTorch({ query: place(planes(queryLength, heads, 1)), key: place(planes(keyLength, keyHeads, 2)), value: place(planes(keyLength, keyHeads, 3)), enable_gqa: true, attn_mask: place(numbers([queryLength, keyLength], 4)) });
    return { ...call, outputs: (outputs) => [call.outputs(outputs)] };
  },
  jax: (place) => {
    const call = fromJax({ query: place(rows(queryLength, heads, 1)), key: place(rows(keyLength, keyHeads, 2)), value: place(rows(keyLength, keyHeads, 3)), is_causal: true, return_residual: true });
    return { ...call, outputs: (outputs) => { const { output, residual } = call.outputs(outputs); return residual === undefined ? [] : [output, residual]; } };
  },
  flashAttention: (place) => {
    const call = fromFlashAttention({ q: place(rows(queryLength, heads, 1)), k: place(rows(keyLength, keyHeads, 2)), v: place(rows(keyLength, keyHeads, 3)), causal: true, softcap: 2 });
    return { ...call, outputs: (outputs) => { const { out, softmax_lse } = call.outputs(outputs); return [out, softmax_lse]; } };
  },
  'onnx with a past, a short mask, a softcap and its scores': (place) => {
    const call = fromOnnx({ opset: 25 }).attention(
      { Q: place(planes(queryLength, heads, 1)), K: place(planes(keyLength, keyHeads, 2)), V: place(planes(keyLength, keyHeads, 3)), past_key: place(planes(2, keyHeads, 4)), past_value: place(planes(2, keyHeads, 5)), attn_mask: place(mask) },
      { is_causal: 1, softcap: 0.5, qk_matmul_output_mode: 1 },
      { qk_matmul_output: true },
    );
    return { ...call, outputs: (outputs) => { const { Y, present_key, present_value, qk_matmul_output } = call.outputs(outputs); return [Y, present_key, present_value, ...(qk_matmul_output === undefined ? [] : [qk_matmul_output])]; } };
  },
  'onnx 1.19, rank 3, heads by modulo': (place) => {
    const flat = (length: number, width: number, seed: number): Tensor => place(numbers([batch, length, width * dim], seed));
    const call = fromOnnx({ opset: 24, release: '1.19' }).attention({ Q: flat(queryLength, heads, 1), K: flat(keyLength, keyHeads, 2), V: flat(keyLength, keyHeads, 3) }, { q_num_heads: heads, kv_num_heads: keyHeads });
    return { ...call, outputs: (outputs) => [call.outputs(outputs).Y] };
  },
};

// f32 kernels against the float64 reference: the suite's bound for such sizes.
test.each(Object.entries(scenarios))('%s: tensors of a runtime stay there and give what tensors of the host give', async (_name, scenario) => {
  const wanted = scenario((source) => source);
  const want = wanted.outputs(await (await createReferenceBackend().prepare(wanted.request)).run(wanted.inputs));
  const given = scenario((source) => cpu.runtime.upload(source as ReturnType<typeof numbers>));
  const kernel = await cpu.prepare(given.request);
  const got = given.outputs(await kernel.run(given.inputs));
  expect(got.length).toBe(want.length);
  for (const [index, tensor] of got.entries()) {
    expect(tensor.runtime).toBe(cpu.runtime);
    expect(tensor.shape).toEqual(want[index]?.shape);
    expect(distance(valuesOf(await cpu.runtime.read(tensor)), valuesOf(want[index]))).toBeLessThan(2e-5);
  }
  await kernel.dispose();
});
