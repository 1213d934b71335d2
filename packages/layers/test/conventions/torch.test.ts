import { tensor, slice } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { expect, test } from 'vitest';
import { fromTorch, type TorchCall } from '../../src/conventions/torch.ts';
import { at, distance, dotOf, numbers, plainAttention, valuesOf } from './plain.ts';

const [batch, heads, queryLength, keyLength, dim, valueDim] = [2, 4, 3, 5, 8, 6];
const query = numbers([batch, heads, queryLength, dim], 1);
const key = numbers([batch, 2, keyLength, dim], 2);
const value = numbers([batch, 2, keyLength, valueDim], 3);

async function run(call: TorchCall): Promise<Float64Array> {
  const { request, inputs, outputs } = fromTorch(call);
  const kernel = await createReferenceBackend().prepare(request);
  return valuesOf(outputs(await kernel.run(inputs)));
}

/** From torch's documented equivalent: mask, tril(diagonal 0), repeat_interleave of key heads, scale · q kᵀ + bias. */
function expected(options: { readonly allowed?: (b: number, h: number, i: number, j: number) => boolean; readonly bias?: (b: number, h: number, i: number, j: number) => number; readonly scale?: number }): Float64Array {
  const [q, k, v] = [at(query), at(key), at(value)];
  const { allowed = () => true, bias = () => 0, scale = 1 / Math.sqrt(dim) } = options;
  return plainAttention({
    batch, heads, queryLength, keyLength, valueDim, allowed,
    score: (b, h, i, j) => scale * dotOf((d) => q(b, h, i, d), (d) => k(b, Math.floor(h / 2), j, d), dim) + bias(b, h, i, j),
    value: (b, h, j, e) => v(b, Math.floor(h / 2), j, e),
  }).output;
}

test('neighbouring heads share a key head with enable_gqa, and the scale is 1/√E unless given', async () => {
  expect(distance(await run({ query, key, value, enable_gqa: true }), expected({}))).toBeLessThan(1e-6);
  expect(distance(await run({ query, key, value, enable_gqa: true, scale: 0.5 }), expected({ scale: 0.5 }))).toBeLessThan(1e-6);
});

test('is_causal stands at the top left although the lengths differ', async () => {
  expect(distance(await run({ query, key, value, enable_gqa: true, is_causal: true }), expected({ allowed: (_b, _h, i, j) => j <= i }))).toBeLessThan(1e-6);
});

test('a boolean mask says who may attend, broadcasts from the right, and an empty row is zero', async () => {
  const bits = [1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1];
  const attn_mask = tensor(Uint8Array.from(bits), [queryLength, keyLength]);
  const got = await run({ query, key, value, enable_gqa: true, attn_mask });
  expect(distance(got, expected({ allowed: (_b, _h, i, j) => bits[i * keyLength + j] === 1 }))).toBeLessThan(1e-6);
  expect(got.slice(valueDim, 2 * valueDim).every((element) => element === 0)).toBe(true);
});

test('a float mask is added after the scale, by its own axes', async () => {
  const attn_mask = numbers([batch, 1, queryLength, keyLength], 9);
  const bias = at(attn_mask);
  expect(distance(await run({ query, key, value, enable_gqa: true, attn_mask, scale: 2 }), expected({ scale: 2, bias: (b, _h, i, j) => bias(b, 0, i, j) }))).toBeLessThan(1e-6);
});

test('tensors without batch or heads give results without them', async () => {
  const one = (source: typeof query): typeof query => tensor(source.view(), source.shape.slice(2));
  const { outputs, request, inputs } = fromTorch({ query: one(slice(slice(query, 0, 0, 1), 1, 0, 1)), key: one(slice(slice(key, 0, 0, 1), 1, 0, 1)), value: one(slice(slice(value, 0, 0, 1), 1, 0, 1)) });
  const result = outputs(await (await createReferenceBackend().prepare(request)).run(inputs));
  expect(result.shape).toEqual([queryLength, valueDim]);
  expect(distance(valuesOf(result), expected({}).slice(0, queryLength * valueDim))).toBeLessThan(1e-6);
});

test('what torch computes otherwise is refused, all reasons at once', () => {
  const attn_mask = tensor(new Uint8Array(queryLength * keyLength), [queryLength, keyLength]);
  expect(() => fromTorch({ query, key, value, enable_gqa: true, dropout_p: 0.1, attn_mask, is_causal: true })).toThrow(expect.objectContaining({ code: 'unsupported', message: expect.stringMatching(/dropout_p is 0\.1[\s\S]*is_causal/) as string }));
  expect(() => fromTorch({ query, key, value })).toThrow(expect.objectContaining({ code: 'invalid-shape', message: expect.stringContaining('enable_gqa') as string }));
  expect(() => fromTorch({ query, key, value, is_casual: true } as TorchCall)).toThrow(expect.objectContaining({ code: 'invalid-argument', message: expect.stringContaining('is_causal') as string }));
});
