import { tensor, type HostTensor } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { describe, expect, test } from 'vitest';
import type { OnnxAttentionAttributes, OnnxAttentionInputs, OnnxAttentionResult } from '../../src/conventions/onnx/attention.ts';
import { fromOnnx, type OnnxOptions } from '../../src/conventions/onnx/from-onnx.ts';
import { at, distance, dotOf, numbers, plainAttention, valuesOf } from './plain.ts';

const [batch, heads, keyHeads, queryLength, keyLength, dim, valueDim] = [2, 4, 2, 3, 5, 8, 6];
const Q = numbers([batch, heads, queryLength, dim], 1);
const K = numbers([batch, keyHeads, keyLength, dim], 2);
const V = numbers([batch, keyHeads, keyLength, valueDim], 3);
const newest: OnnxOptions = { opset: 25 };

async function run(options: OnnxOptions, inputs: Partial<OnnxAttentionInputs>, attributes: OnnxAttentionAttributes = {}, wishes = {}): Promise<OnnxAttentionResult> {
  const call = fromOnnx(options).attention({ Q, K, V, ...inputs }, attributes, wishes);
  return call.outputs(await (await createReferenceBackend().prepare(call.request)).run(call.inputs));
}

type Pairs<T> = (b: number, h: number, i: number, j: number) => T;

interface Meaning {
  readonly keys?: HostTensor;
  readonly values?: HostTensor;
  readonly scale?: number;
  readonly cap?: number;
  readonly bias?: Pairs<number>;
  readonly allowed?: Pairs<boolean>;
  readonly headOf?: (head: number) => number;
  /** Scores as they meet the softmax, from the scaled ones. */
  readonly bend?: (scaled: number, b: number, h: number, i: number, j: number) => number;
}

/** The operator's pattern: √scale on both sides, softcap, bias and mask, softmax, with zero rows where nothing is allowed. */
function expected(meaning: Meaning): Float64Array {
  const { keys = K, values = V, scale = 1 / Math.sqrt(dim), cap = 0, bias = () => 0, allowed = () => true, headOf = (head) => Math.floor((head * keyHeads) / heads) } = meaning;
  const [q, k, v] = [at(Q), at(keys), at(values)];
  const capped = (score: number): number => (cap > 0 ? cap * Math.tanh(score / cap) : score);
  const bend = meaning.bend ?? ((scaled, b, h, i, j) => capped(scaled) + bias(b, h, i, j));
  return plainAttention({
    batch, heads, queryLength, keyLength: keys.shape[2] ?? 0, valueDim, allowed,
    score: (b, h, i, j) => bend(scale * dotOf((d) => q(b, h, i, d), (d) => k(b, headOf(h), j, d), dim), b, h, i, j),
    value: (b, h, j, e) => v(b, headOf(h), j, e),
  }).output;
}

describe('the newest release', () => {
  test('softcap, then bias; the bias broadcasts from the right', async () => {
    const attn_mask = numbers([heads, 1, keyLength], 5);
    const got = await run(newest, { attn_mask }, { softcap: 0.4, scale: 0.9 });
    expect(distance(valuesOf(got.Y), expected({ cap: 0.4, scale: 0.9, bias: (_b, h, _i, j) => at(attn_mask)(h, 0, j) }))).toBeLessThan(1e-6);
  });

  test('a mask that ends early forbids the rest, boolean or added', async () => {
    const bits = [1, 0, 1];
    const want = expected({ allowed: (_b, _h, _i, j) => bits[j] === 1 });
    expect(distance(valuesOf((await run(newest, { attn_mask: tensor(Uint8Array.from(bits), [3]) })).Y), want)).toBeLessThan(1e-6);
    const added = tensor([0, -Infinity, 0], [1, 3]);
    expect(distance(valuesOf((await run(newest, { attn_mask: added })).Y), want)).toBeLessThan(1e-6);
  });

  test('a past stands in front: queries are behind it, and present is both', async () => {
    const past_key = numbers([batch, keyHeads, 4, dim], 6);
    const past_value = numbers([batch, keyHeads, 4, valueDim], 7);
    const got = await run(newest, { past_key, past_value }, { is_causal: 1, left_window_size: 5 });
    const join = (past: HostTensor, recent: HostTensor, width: number): HostTensor => {
      const rows = Array.from({ length: batch * keyHeads }, (_, plane) => [...past.view().slice(plane * 4 * width, (plane + 1) * 4 * width), ...recent.view().slice(plane * keyLength * width, (plane + 1) * keyLength * width)]);
      return tensor(rows.flat(), [batch, keyHeads, 4 + keyLength, width]);
    };
    const [keys, values] = [join(past_key, K, dim), join(past_value, V, valueDim)];
    expect(distance(valuesOf(got.Y), expected({ keys, values, allowed: (_b, _h, i, j) => j <= i + 4 && j >= i + 4 - 5 }))).toBeLessThan(1e-6);
    expect(distance(valuesOf(got.present_key), valuesOf(keys))).toBe(0);
    expect(distance(valuesOf(got.present_value), valuesOf(values))).toBe(0);
  });

  test('a cache outside: each sequence ends where it is filled, and rows before its beginning are zero', async () => {
    const got = await run(newest, { nonpad_kv_seqlen: [2, 5] }, { is_causal: 1, right_window_size: 0, left_window_size: 2 });
    const filled = [2, 5];
    const place: Pairs<number> = (b, _h, i) => i + (filled[b] ?? 0) - queryLength;
    const allowed: Pairs<boolean> = (b, h, i, j) => j < (filled[b] ?? 0) && j <= place(b, h, i, j) && j >= place(b, h, i, j) - 2;
    expect(distance(valuesOf(got.Y), expected({ allowed }))).toBeLessThan(1e-6);
    expect(valuesOf(got.Y).slice(0, valueDim).every((element) => element === 0)).toBe(true);
  });

  test('inputs of rank 3 hold heads side by side, and so does the output', async () => {
    const flat = (source: HostTensor): HostTensor => {
      const [b = 0, h = 0, l = 0, d = 0] = source.shape;
      const read = at(source);
      return tensor(Array.from({ length: b * h * l * d }, (_, place) => read(Math.floor(place / (l * h * d)), Math.floor(place / d) % h, Math.floor(place / (h * d)) % l, place % d)), [b, l, h * d]);
    };
    const got = await run(newest, { Q: flat(Q), K: flat(K), V: flat(V) }, { q_num_heads: heads, kv_num_heads: keyHeads });
    const whole = tensor(Array.from(expected({})), [batch, heads, queryLength, valueDim]);
    expect(got.Y.shape).toEqual([batch, queryLength, heads * valueDim]);
    expect(distance(valuesOf(got.Y), valuesOf(flat(whole)))).toBeLessThan(1e-6);
  });

  test('the modes of qk_matmul_output: scores, behind the softcap, behind bias and mask, weights', async () => {
    const attn_mask = numbers([1, 1, queryLength, keyLength], 8);
    const [q, k] = [at(Q), at(K)];
    const raw: Pairs<number> = (b, h, i, j) => dotOf((d) => q(b, h, i, d), (d) => k(b, Math.floor(h / 2), j, d), dim) / Math.sqrt(dim);
    const all = (of: Pairs<number>): Float64Array => Float64Array.from({ length: batch * heads * queryLength * keyLength }, (_, place) => of(Math.floor(place / (heads * queryLength * keyLength)), Math.floor(place / (queryLength * keyLength)) % heads, Math.floor(place / keyLength) % queryLength, place % keyLength));
    const capped: Pairs<number> = (b, h, i, j) => 0.3 * Math.tanh(raw(b, h, i, j) / 0.3);
    const biased: Pairs<number> = (b, h, i, j) => (j <= i ? capped(b, h, i, j) + at(attn_mask)(0, 0, i, j) : -Infinity);
    const weight: Pairs<number> = (b, h, i, j) => Math.exp(biased(b, h, i, j)) / Array.from({ length: keyLength }, (_, other) => Math.exp(biased(b, h, i, other))).reduce((sum, term) => sum + term, 0);
    for (const [mode, want] of [raw, capped, biased, weight].entries()) {
      const got = await run(newest, { attn_mask }, { is_causal: 1, softcap: 0.3, qk_matmul_output_mode: mode as 0 }, { qk_matmul_output: true });
      expect(distance(valuesOf(got.qk_matmul_output), all(want)), `mode ${mode}`).toBeLessThan(1e-6);
    }
    expect((await run(newest, {})).qk_matmul_output).toBeUndefined();
  });
});

describe('older releases', () => {
  test('1.18 and 1.19 map head h to key head h mod keyHeads, masks and modes with them', async () => {
    const attn_mask = numbers([1, heads, queryLength, keyLength], 5);
    const got = await run({ opset: 23, release: '1.19' }, { attn_mask }, { qk_matmul_output_mode: 0 }, { qk_matmul_output: true });
    const headOf = (head: number): number => head % keyHeads;
    expect(distance(valuesOf(got.Y), expected({ headOf, bias: (_b, h, i, j) => at(attn_mask)(0, h, i, j) }))).toBeLessThan(1e-6);
    const [q, k] = [at(Q), at(K)];
    const score = dotOf((d) => q(1, 1, 2, d), (d) => k(1, 1, 3, d), dim) / Math.sqrt(dim);
    expect(valuesOf(got.qk_matmul_output)[((1 * heads + 1) * queryLength + 2) * keyLength + 3]).toBeCloseTo(score, 5);
  });

  test('1.18 reads rank 3 on as if heads came first', async () => {
    const [q3, k3, v3] = [numbers([batch, queryLength, heads * dim], 1), numbers([batch, keyLength, heads * dim], 2), numbers([batch, keyLength, heads * dim], 3)];
    const got = await run({ opset: 23, release: '1.18' }, { Q: q3, K: k3, V: v3 }, { q_num_heads: heads, kv_num_heads: heads });
    const as4 = (source: HostTensor, length: number): HostTensor => tensor(source.view(), [batch, heads, length, dim]);
    const plain = await run({ opset: 23, release: '1.18' }, { Q: as4(q3, queryLength), K: as4(k3, keyLength), V: as4(v3, keyLength) });
    const y = at(plain.Y as HostTensor);
    const want = Float64Array.from({ length: batch * queryLength * heads * dim }, (_, place) => y(Math.floor(place / (queryLength * heads * dim)), Math.floor(place / dim) % heads, Math.floor(place / (heads * dim)) % queryLength, place % dim));
    expect(distance(valuesOf(got.Y), want)).toBe(0);
  });

  test('before 1.20 is_causal does not know the past, and before 1.23 not how far a cache is filled', async () => {
    const past = { past_key: numbers([batch, keyHeads, 2, dim], 6), past_value: numbers([batch, keyHeads, 2, valueDim], 7) };
    const first = await run({ opset: 24, release: '1.19' }, past, { is_causal: 1 });
    const second = await run({ opset: 24, release: '1.20' }, past, { is_causal: 1 });
    // Row 0 sees key 0 alone, which is the past's first: its value comes out.
    expect([...valuesOf(first.Y).slice(0, valueDim)]).toEqual([...valuesOf(past.past_value).slice(0, valueDim)]);
    expect(distance(valuesOf(first.Y), valuesOf(second.Y))).toBeGreaterThan(0.01);
    const cached = await run({ opset: 24, release: '1.22' }, { nonpad_kv_seqlen: [2, 5] }, { is_causal: 1 });
    expect(distance(valuesOf(cached.Y), expected({ allowed: (b, _h, i, j) => j <= i && j < (b === 0 ? 2 : 5) }))).toBeLessThan(1e-6);
  });

  test('before 1.22 the softcap comes last, and what is forbidden keeps some weight', async () => {
    const bits = [1, 1, 0, 1, 0];
    const attn_mask = tensor(Uint8Array.from(bits), [1, keyLength]);
    const got = await run({ opset: 24, release: '1.21' }, { attn_mask }, { softcap: 0.5, is_causal: 1 });
    const want = expected({ bend: (scaled, _b, _h, i, j) => (j <= i && bits[j] === 1 ? 0.5 * Math.tanh(scaled / 0.5) : -0.5) });
    expect(distance(valuesOf(got.Y), want)).toBeLessThan(1e-6);
  });

  test('before 1.22 modes 1 and 2 stand the other way round', async () => {
    const attn_mask = numbers([1, 1, queryLength, keyLength], 8);
    const [mode1, mode2] = await Promise.all([1, 2].map(async (mode) => valuesOf((await run({ opset: 24, release: '1.21' }, { attn_mask }, { qk_matmul_output_mode: mode as 1 }, { qk_matmul_output: true })).qk_matmul_output)));
    const newMode2 = valuesOf((await run(newest, { attn_mask }, { qk_matmul_output_mode: 2 }, { qk_matmul_output: true })).qk_matmul_output);
    expect(distance(mode1!, newMode2)).toBe(0);
    expect(distance(mode2!, newMode2)).toBe(0);
    expect(() => fromOnnx({ opset: 24, release: '1.21' }).attention({ Q, K, V, attn_mask }, { softcap: 1, qk_matmul_output_mode: 1 }, { qk_matmul_output: true })).toThrow(expect.objectContaining({ code: 'unsupported' }));
  });
});

describe('what the operator refuses', () => {
  const refusals: readonly (readonly [string, OnnxOptions, Partial<OnnxAttentionInputs>, OnnxAttentionAttributes, string])[] = [
    ['half of a past', newest, { past_key: K }, {}, 'invalid-argument'],
    ['a past beside a cache', newest, { past_key: K, past_value: V, nonpad_kv_seqlen: [1, 1] }, {}, 'invalid-argument'],
    ['nonpad_kv_seqlen before opset 24', { opset: 23 }, { nonpad_kv_seqlen: [1, 1] }, {}, 'invalid-argument'],
    ['a window before opset 25', { opset: 24 }, {}, { left_window_size: 1 }, 'invalid-argument'],
    ['a window below −1', newest, {}, { left_window_size: -2 }, 'invalid-argument'],
    ['heads beside rank 4', newest, {}, { q_num_heads: heads }, 'invalid-argument'],
    ['rank 3 without heads', newest, { Q: numbers([1, 2, 8], 1), K: numbers([1, 2, 8], 1), V: numbers([1, 2, 8], 1) }, {}, 'invalid-argument'],
    ['two ranks', newest, { Q: numbers([1, 2, 8], 1) }, {}, 'invalid-shape'],
    ['float64 weights', newest, {}, { softmax_precision: 11 }, 'unsupported'],
    ['an attribute of another name', newest, {}, { is_casual: 1 } as OnnxAttentionAttributes, 'invalid-argument'],
  ];
  test.each(refusals)('%s', (_what, options, inputs, attributes, code) => {
    expect(() => fromOnnx(options).attention({ Q, K, V, ...inputs }, attributes)).toThrow(expect.objectContaining({ code }));
  });

  test('operator sets and releases that have no Attention', () => {
    expect(() => fromOnnx({ opset: 22 as 23 })).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    expect(() => fromOnnx({ opset: 24, release: '1.18' })).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    expect(() => fromOnnx({ opset: 26 }).linearAttention({ query: Q, key: K, value: V }, { q_num_heads: 1, kv_num_heads: 1 })).toThrow(expect.objectContaining({ code: 'unsupported' }));
  });
});
