import { tensor } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { expect, test } from 'vitest';
import { fromFlashAttention, type FlashAttentionCall, type FlashAttentionResult } from '../../src/conventions/flash-attention.ts';
import { at, distance, dotOf, numbers, plainAttention, valuesOf } from './plain.ts';

const [batch, heads, keyHeads, queryLength, keyLength, dim] = [2, 4, 2, 3, 7, 8];
const q = numbers([batch, queryLength, heads, dim], 1);
const k = numbers([batch, keyLength, keyHeads, dim], 2);
const v = numbers([batch, keyLength, keyHeads, dim], 3);

async function run(call: Partial<FlashAttentionCall>): Promise<FlashAttentionResult> {
  const { request, inputs, outputs } = fromFlashAttention({ q, k, v, ...call });
  return outputs(await (await createReferenceBackend().prepare(request)).run(inputs));
}

interface Sizes { readonly queries: readonly number[]; readonly keys: readonly number[] }

/** From the interface's documentation: query i of a sequence stands at i + seqlen_k − seqlen_q; scale, softcap, ALiBi, mask. Rows [batch, row, head, channel]. */
function expected(options: { readonly left?: number; readonly right?: number; readonly causal?: boolean; readonly cap?: number; readonly slope?: (b: number, h: number) => number; readonly filled?: readonly number[] }): { readonly out: Float64Array; readonly lse: Float64Array } {
  const [query, key, value] = [at(q), at(k), at(v)];
  const { left = -1, right = -1, causal = false, cap = 0, slope = () => 0, filled = [keyLength, keyLength] } = options;
  const place = (b: number, i: number): number => i + (filled[b] ?? 0) - queryLength;
  const group = heads / keyHeads;
  const { output, logSumExp } = plainAttention({
    batch, heads, queryLength, keyLength, valueDim: dim,
    allowed: (b, _h, i, j) => j < (filled[b] ?? 0) && (!causal || j <= place(b, i)) && (left === -1 || j >= place(b, i) - left) && (right === -1 || j <= place(b, i) + right),
    score: (b, h, i, j) => {
      const scaled = dotOf((d) => query(b, i, h, d), (d) => key(b, j, Math.floor(h / group), d), dim) / Math.sqrt(dim);
      return (cap > 0 ? cap * Math.tanh(scaled / cap) : scaled) - slope(b, h) * Math.abs(place(b, i) - j);
    },
    value: (b, h, j, e) => value(b, j, Math.floor(h / group), e),
  });
  const out = Float64Array.from({ length: output.length }, (_, at4) => {
    const [e, h, i, b] = [at4 % dim, Math.floor(at4 / dim) % heads, Math.floor(at4 / dim / heads) % queryLength, Math.floor(at4 / dim / heads / queryLength)];
    return output[((b * heads + h) * queryLength + i) * dim + e] ?? Number.NaN;
  });
  return { out, lse: logSumExp };
}

test('causal, windows and ALiBi stand at the bottom right, after the softcap', async () => {
  const slopes = [0.5, 0.25, 0.125, 1];
  const got = await run({ causal: true, window_size: [3, 2], softcap: 0.6, alibi_slopes: tensor(slopes, [heads]) });
  const want = expected({ causal: true, left: 3, right: 2, cap: 0.6, slope: (_b, h) => slopes[h] ?? 0 });
  expect(got.out.shape).toEqual([batch, queryLength, heads, dim]);
  expect(got.softmax_lse.shape).toEqual([batch, heads, queryLength]);
  expect(distance(valuesOf(got.out), want.out)).toBeLessThan(1e-6);
  expect(distance(valuesOf(got.softmax_lse), want.lse)).toBeLessThan(1e-6);
});

test('−1 opens a side, and slopes may differ by sequence', async () => {
  const slopes = numbers([batch, heads], 8);
  expect(distance(valuesOf((await run({ window_size: [-1, 1] })).out), expected({ right: 1 }).out)).toBeLessThan(1e-6);
  expect(distance(valuesOf((await run({ alibi_slopes: slopes })).out), expected({ slope: (b, h) => at(slopes)(b, h) }).out)).toBeLessThan(1e-6);
});

test('a cache is seen as far as it is filled, and its last row is the last query’s', async () => {
  const got = await run({ cache_seqlens: [4, 7], causal: true });
  const want = expected({ causal: true, filled: [4, 7] });
  expect(distance(valuesOf(got.out), want.out)).toBeLessThan(1e-6);
  expect(distance(valuesOf(got.softmax_lse), want.lse)).toBeLessThan(1e-6);
  expect(distance(valuesOf((await run({ cache_seqlens: [4, 7] })).out), expected({ filled: [4, 7] }).out)).toBeLessThan(1e-6);
});

test('packed sequences are each a call of its own, aligned by its own lengths', async () => {
  const sizes: Sizes = { queries: [2, 3], keys: [5, 4] };
  const packed = { q: numbers([5, heads, dim], 4), k: numbers([9, keyHeads, dim], 5), v: numbers([9, keyHeads, dim], 6) };
  const got = await run({ ...packed, cu_seqlens_q: [0, 2, 5], cu_seqlens_k: [0, 5, 9], causal: true });
  expect(got.out.shape).toEqual([5, heads, dim]);
  expect(got.softmax_lse.shape).toEqual([heads, 5]);
  let [row, first] = [0, 0];
  for (const [index, rows] of sizes.queries.entries()) {
    const keys = sizes.keys[index] ?? 0;
    const part = (source: typeof q, start: number, count: number): typeof q => tensor(source.view().subarray(start * source.shape[1]! * dim), [1, count, source.shape[1]!, dim]);
    const alone = await run({ q: part(packed.q, row, rows), k: part(packed.k, first, keys), v: part(packed.v, first, keys), causal: true });
    expect(distance(valuesOf(got.out).slice(row * heads * dim, (row + rows) * heads * dim), valuesOf(alone.out))).toBeLessThan(1e-12);
    row += rows;
    first += keys;
  }
});

test('dropout is refused, and half of the offsets', () => {
  expect(() => fromFlashAttention({ q, k, v, dropout_p: 0.1 })).toThrow(expect.objectContaining({ code: 'unsupported' }));
  expect(() => fromFlashAttention({ q, k, v, cu_seqlens_q: [0, 3] })).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  expect(() => fromFlashAttention({ q: numbers([3, heads, dim], 1), k, v })).toThrow(expect.objectContaining({ code: 'invalid-shape' }));
});
