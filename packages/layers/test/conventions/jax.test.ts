import { tensor } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { expect, test } from 'vitest';
import { fromJax, type JaxCall, type JaxResult } from '../../src/conventions/jax.ts';
import { at, distance, dotOf, numbers, plainAttention, valuesOf } from './plain.ts';

const [batch, heads, keyHeads, queryLength, keyLength, dim] = [2, 4, 2, 4, 6, 8];
const query = numbers([batch, queryLength, heads, dim], 1);
const key = numbers([batch, keyLength, keyHeads, dim], 2);
const value = numbers([batch, keyLength, keyHeads, dim], 3);

async function run(call: Partial<JaxCall>): Promise<JaxResult> {
  const { request, inputs, outputs } = fromJax({ query, key, value, ...call });
  return outputs(await (await createReferenceBackend().prepare(request)).run(inputs));
}

/** softmax(scale · q kᵀ + bias) v with heads last, where(mask): from the function's documentation. */
function expected(options: { readonly allowed?: (b: number, h: number, i: number, j: number) => boolean; readonly bias?: (b: number, h: number, i: number, j: number) => number; readonly scale?: number }): { readonly output: Float64Array; readonly residual: Float64Array } {
  const [q, k, v] = [at(query), at(key), at(value)];
  const { allowed = () => true, bias = () => 0, scale = 1 / Math.sqrt(dim) } = options;
  const group = heads / keyHeads;
  const { output, logSumExp } = plainAttention({
    batch, heads, queryLength, keyLength, valueDim: dim, allowed,
    score: (b, h, i, j) => scale * dotOf((d) => q(b, i, h, d), (d) => k(b, j, Math.floor(h / group), d), dim) + bias(b, h, i, j),
    value: (b, h, j, e) => v(b, j, Math.floor(h / group), e),
  });
  return { output: headsLast(output, dim), residual: headsLast(logSumExp, 1) };
}

/** [batch, heads, length, width] → [batch, length, heads, width]. */
function headsLast(values: Float64Array, width: number): Float64Array {
  return Float64Array.from({ length: values.length }, (_, place) => {
    const channel = place % width;
    const head = Math.floor(place / width) % heads;
    const row = Math.floor(place / width / heads) % queryLength;
    const sequence = Math.floor(place / width / heads / queryLength);
    return values[((sequence * heads + head) * queryLength + row) * width + channel] ?? Number.NaN;
  });
}

test('heads stand behind rows, key heads are shared by neighbours, bias and mask broadcast from the right', async () => {
  const bias = numbers([heads, 1, keyLength], 4);
  const bits = Uint8Array.from({ length: batch * queryLength * keyLength }, (_, place) => Number(place % 3 !== 0));
  const mask = tensor(bits, [batch, 1, queryLength, keyLength]);
  const got = await run({ bias, mask, scale: 0.7 });
  const want = expected({ scale: 0.7, bias: (_b, h, _i, j) => at(bias)(h, 0, j), allowed: (b, _h, i, j) => bits[(b * queryLength + i) * keyLength + j] === 1 });
  expect(got.output.shape).toEqual([batch, queryLength, heads, dim]);
  expect(distance(valuesOf(got.output), want.output)).toBeLessThan(1e-6);
  expect(got.residual).toBeUndefined();
});

test('causal and windows stand at the top left; a window does not count its own row; the residual is the logSumExp', async () => {
  const got = await run({ is_causal: true, local_window_size: [1, 3], return_residual: true });
  const want = expected({ allowed: (_b, _h, i, j) => j <= i && j >= i - 1 });
  expect(distance(valuesOf(got.output), want.output)).toBeLessThan(1e-6);
  expect(got.residual?.shape).toEqual([batch, queryLength, heads]);
  expect(distance(valuesOf(got.residual), want.residual)).toBeLessThan(1e-6);
  expect(distance(valuesOf((await run({ local_window_size: 1 })).output), expected({ allowed: (_b, _h, i, j) => Math.abs(i - j) <= 1 }).output)).toBeLessThan(1e-6);
});

test('lengths of sequences hide keys and empty rows', async () => {
  const got = await run({ query_seq_lengths: [4, 2], key_value_seq_lengths: [3, 6] });
  const want = expected({ allowed: (b, _h, i, j) => i < (b === 0 ? 4 : 2) && j < (b === 0 ? 3 : 6) });
  expect(distance(valuesOf(got.output), want.output)).toBeLessThan(1e-6);
});

test('a call without batch gives a result without it', async () => {
  const one = (source: typeof query): typeof query => tensor(source.view(), source.shape.slice(1));
  const got = await run({ query: one(query), key: one(key), value: one(value) });
  expect(got.output.shape).toEqual([queryLength, heads, dim]);
  expect(distance(valuesOf(got.output), expected({}).output.slice(0, queryLength * heads * dim))).toBeLessThan(1e-6);
});

test('a window that is no window is refused', () => {
  expect(() => fromJax({ query, key, value, local_window_size: -1 })).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
});
