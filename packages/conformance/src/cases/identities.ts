import type { AttentionVariant, HostTensor, Normalization } from '@heed/core';
import {
  additive, alibi, attention, bilinear, causal, cosine, dot, entmax, gaussian, hardMax, laser, lowRank, maximum, modifier, neighbourhood, none, outputGate, relu, rope, scaledDot, sigmoid, softmax, softmaxOffByOne, sparsemax, t5Bias, t5BucketTable,
  tensor, toFloat64, tree, treeIntervals, weightedSum,
} from '@heed/core';
import type { Case } from '../case.ts';
import { defineCase } from '../case.ts';
import type { CaseContext } from '../context.ts';
import type { Shape } from '../inputs.ts';
import { integerTensor, smallShape } from '../inputs.ts';
import { exact, float32Attention, float32Threshold } from '../tolerance.ts';
import type { CallOptions } from '../attend.ts';
import { compareNumbers, drawCall } from '../attend.ts';

const square: Shape = { ...smallShape, queryLength: 7 };
const loose = float32Attention.bound({ length: 7, dim: 8, dtype: 'f32', score: 8, magnitude: 8 });

function identityMatrix(size: number): readonly number[] {
  return Array.from({ length: size * size }, (_, index) => Number(index % (size + 1) === 0));
}

/** Both variants on the same inputs, each with its own tables. */
async function sameFunction(context: CaseContext, one: AttentionVariant, other: AttentionVariant, options: { readonly one?: CallOptions; readonly other?: CallOptions; readonly shape?: Shape } = {}): Promise<void> {
  const shape = options.shape ?? smallShape;
  const call = drawCall(context, one, shape, options.one);
  const second = drawCall(context, other, shape, options.other);
  const want = await context.run(second.request, { ...second.inputs, query: call.inputs.query, key: call.inputs.key, value: call.inputs.value });
  compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention, { score: 8 });
}

/** Weights of one row of scores: a query of 1 against keys that are the scores, values the identity. */
async function weightsOf(context: CaseContext, normalization: Normalization, scores: readonly number[]): Promise<Float64Array> {
  const count = scores.length;
  const numbers = await context.run(
    { variant: attention({ scoring: dot(), normalization }), queryDim: 1, keyDim: 1, valueDim: count },
    { query: tensor([1], [1, 1, 1, 1]), key: tensor(scores, [1, 1, count, 1]), value: tensor(identityMatrix(count), [1, 1, count, count]) },
  );
  return numbers.output;
}

const row = [0.3, -1.2, 0.9, 0.85, -0.4] as const;
const shifted = row.map((score) => score + 2);

/** Equations between variants: what two of them must agree on, and closed forms. */
export const identityCases: readonly Case[] = [
  defineCase({ name: 'identities/bilinear-identity', plan: 'The bilinear score with the identity matrix is the dot product.', tolerance: float32Attention }, async (context) => {
    await sameFunction(context, attention({ scoring: bilinear({ width: 8 }) }), attention({ scoring: dot() }), { one: { fill: { bilinear: () => identityMatrix(8) } } });
  }),
  defineCase({ name: 'identities/bilinear-sides', plan: 'q·(W k) and (Wᵀ q)·k are one score, also when query and key have different widths.', tolerance: float32Attention }, async (context) => {
    const shape = { ...smallShape, keyDim: 3 };
    const matrix = Array.from({ length: 24 }, () => 0.3 * context.random.normal());
    const transposed = Array.from({ length: 24 }, (_, index) => matrix[(index % 8) * 3 + Math.floor(index / 8)] ?? 0);
    const byKey = attention({ scoring: bilinear({ width: 8 }) });
    const byQuery = attention({ scoring: bilinear({ width: 3, side: 'query' }) });
    await sameFunction(context, byKey, byQuery, { shape, one: { fill: { bilinear: () => matrix } }, other: { fill: { bilinear: () => transposed } } });
  }),
  defineCase({ name: 'identities/low-rank-identity', plan: 'Low rank with identity factors of full rank is scaled dot.', tolerance: float32Attention }, async (context) => {
    await sameFunction(context, attention({ scoring: lowRank({ rank: 8 }) }), attention(), { one: { fill: { queryFactor: () => identityMatrix(8), keyFactor: () => identityMatrix(8) } } });
  }),
  defineCase({ name: 'identities/gaussian-equal-norms', plan: 'With unit keys, the Gaussian score of bandwidth h is the dot product with scale 1/h², up to a constant of the row.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ scoring: gaussian({ bandwidth: 2 }) }), smallShape);
    const rows = toFloat64(call.inputs.key);
    const unit = rows.map((value, index) => {
      const start = index - (index % 8);
      return value / Math.sqrt(rows.subarray(start, start + 8).reduce((sum, one) => sum + one * one, 0));
    });
    const inputs = { ...call.inputs, key: tensor(Float32Array.from(unit), call.inputs.key.shape) };
    const got = await context.run(call.request, inputs);
    const want = await context.run({ ...call.request, variant: attention({ scoring: dot({ scale: 0.25 }) }) }, inputs);
    context.close('output', got.output, want.output, loose);
  }),
  defineCase({ name: 'identities/cosine-rescaled', plan: 'Cosine scores do not change when rows are multiplied by positive numbers.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ scoring: cosine({ scale: 5 }) }), smallShape);
    const grown = (source: HostTensor): HostTensor => tensor(Float32Array.from(toFloat64(source), (value, index) => value * 2 ** ((Math.floor(index / 8) % 5) - 2)), source.shape);
    const got = await context.run(call.request, { ...call.inputs, query: grown(call.inputs.query), key: grown(call.inputs.key) });
    context.close('output', got.output, (await context.run(call.request, call.inputs)).output, loose);
  }),
  defineCase({ name: 'identities/additive-small', plan: 'With tiny projections tanh is linear, so additive scores separate and every query of a head has the same row.', tolerance: float32Attention }, async (context) => {
    const small = (): ArrayLike<number> => Array.from({ length: 64 }, () => 1e-6 * context.random.normal());
    const call = drawCall(context, attention({ scoring: additive({ width: 8 }) }), smallShape, { fill: { queryProjection: small, keyProjection: small } });
    const { output } = await context.run(call.request, call.inputs);
    const want = output.map((_, index) => output[Math.floor(index / 30) * 30 + (index % 6)] ?? 0);
    context.close('rows of a head', output, want, loose);
  }),
  ...([['softmax', softmax()], ['sparsemax', sparsemax()], ['entmax15', entmax(1.5)]] as const).map(([name, normalization]) =>
    defineCase({ name: 'identities/shift', parameters: { normalization: name }, plan: `Adding a number to all scores of a row changes nothing under ${name}.`, tolerance: float32Threshold }, async (context) => {
      context.close('weights', await weightsOf(context, normalization, shifted), await weightsOf(context, normalization, row), { absolute: 2e-6, relative: 2e-6 });
    }),
  ),
  ...([['offByOne', softmaxOffByOne()], ['sigmoid', sigmoid({ bias: -1 })], ['relu', relu({ length: 5 })]] as const).map(([name, normalization]) =>
    defineCase({ name: 'identities/no-shift', parameters: { normalization: name }, plan: `Adding 2 to all scores of a row makes every weight that is not 0 larger under ${name}: it is not invariant.`, tolerance: exact }, async (context) => {
      const before = await weightsOf(context, normalization, row);
      const after = await weightsOf(context, normalization, shifted);
      context.check(after.every((weight, index) => weight > (before[index] ?? 0)), () => `${name} gives ${after.join(', ')} after ${before.join(', ')}.`);
    }),
  ),
  defineCase({ name: 'identities/entmax-limits', plan: 'entmax with α = 2 is sparsemax, and with α = 1.001 it is near softmax.', tolerance: float32Threshold }, async (context) => {
    context.close('α = 2', await weightsOf(context, entmax(2), row), await weightsOf(context, sparsemax(), row), { absolute: 2e-6, relative: 2e-6 });
    context.close('α = 1.001', await weightsOf(context, entmax(1.001), row), await weightsOf(context, softmax(), row), { absolute: 2e-3, relative: 0 });
  }),
  defineCase({ name: 'identities/cold', plan: 'Softmax at temperature 0.001 is hard max.', tolerance: float32Attention }, async (context) => {
    context.close('weights', await weightsOf(context, softmax({ temperature: 1e-3 }), row), await weightsOf(context, hardMax(), row), { absolute: 1e-6, relative: 0 });
  }),
  defineCase({ name: 'identities/hard-max-ties', plan: 'Of equal scores, the lower key index wins.', tolerance: exact }, async (context) => {
    context.sameBits('weights', await weightsOf(context, hardMax(), [0.5, 2, -1, 2, 2]), [0, 1, 0, 0, 0]);
    context.sameBits('weights of 300 equal scores', await weightsOf(context, hardMax(), new Array<number>(40).fill(1)), [1, ...new Array<number>(39).fill(0)]);
  }),
  defineCase({ name: 'identities/independent', plan: 'Sigmoid weights depend on their own score alone: without a key, the others stay.', tolerance: float32Attention }, async (context) => {
    const all = await weightsOf(context, sigmoid({ length: 5 }), row);
    const fewer = await weightsOf(context, sigmoid({ length: 5 }), row.slice(0, 3));
    context.close('the first three weights', fewer.filter((_, index) => index < 3), all.subarray(0, 3), { absolute: 1e-7, relative: 1e-6 });
  }),
  defineCase({ name: 'identities/null-key', laws: ['L7'], plan: 'softmaxOffByOne is softmax with one more key of score 0 and value 0.', tolerance: float32Attention }, async (context) => {
    const with0 = await weightsOf(context, softmax(), [...row, 0]);
    context.close('weights', await weightsOf(context, softmaxOffByOne(), row), with0.subarray(0, 5), { absolute: 1e-6, relative: 1e-6 });
  }),
  defineCase({ name: 'identities/t5-buckets', laws: ['L3'], needs: ['attention', 'logSumExp'], plan: 'T5 buckets of distances on their edges (both directions, 32 buckets, 128 positions), read as the logSumExp of one key whose bias is its bucket.', tolerance: exact }, async (context) => {
    const edges = [[-8, 8], [-16, 10], [-32, 12], [-64, 14], [-128, 15], [-1000, 15], [0, 0], [1, 17], [8, 24], [127, 31], [-7, 7]] as const;
    const variant = attention({ scoring: dot({ scale: 0 }).modify(t5Bias()) });
    const tables = { t5Buckets: integerTensor(t5BucketTable({ bidirectional: true }), [257]), t5Bias: tensor(Float32Array.from({ length: 32 }, (_, bucket) => bucket), [1, 32]) };
    const kernel = await context.kernel({ variant, queryDim: 1, keyDim: 1, valueDim: 1 });
    const one = tensor([1], [1, 1, 1, 1]);
    for (const [offset, bucket] of edges) {
      const { logSumExp } = await context.numbers(await kernel.run({ query: one, key: one, value: one, tables, queryOffset: 0, keyOffset: offset }));
      context.close(`bucket of offset ${offset}`, logSumExp, [bucket], { absolute: 1e-5, relative: 0 });
    }
  }),
  defineCase({ name: 'identities/alibi-slopes', needs: ['attention', 'logSumExp'], plan: 'Slopes of 12 heads: eight of 2^−(h+1), then 2^−½, 2^−1.5, 2^−2.5, 2^−3.5, read as the logSumExp of one key at distance 1.', tolerance: float32Attention }, async (context) => {
    const shape = { batch: 1, heads: 12, keyHeads: 12, queryLength: 1, keyLength: 1, queryDim: 1, keyDim: 1, valueDim: 1 };
    const call = drawCall(context, attention({ scoring: dot({ scale: 0 }).modify(alibi()) }), shape, { inputs: { queryOffset: 1 } });
    const want = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625, 0.70710678, 0.35355339, 0.1767767, 0.08838835].map((slope) => -slope);
    context.close('−slope', (await context.run(call.request, call.inputs)).logSumExp, want, { absolute: 1e-6, relative: 0 });
  }),
  ...(['half', 'interleaved'] as const).map((pairing) =>
    defineCase({ name: 'identities/rope-shift', parameters: { pairing }, laws: ['L3'], plan: `Rotary positions (${pairing}): moving queries and keys together by 1000 changes nothing, moving queries alone does.`, tolerance: float32Attention }, async (context) => {
      const call = drawCall(context, attention({ scoring: scaledDot().transform(rope({ pairing })) }), smallShape, { inputs: { queryOffset: 2 } });
      const before = await context.run(call.request, call.inputs);
      const moved = await context.run(call.request, { ...call.inputs, queryOffset: 1002, keyOffset: 1000 });
      context.close('output', moved.output, before.output, loose);
      const alone = await context.run(call.request, { ...call.inputs, queryOffset: 3 });
      context.check(alone.output.some((value, index) => Math.abs(value - (before.output[index] ?? 0)) > 1e-3), () => 'Moving the queries alone changes nothing.');
    }),
  ),
  defineCase({ name: 'identities/rope-pairings', plan: 'The half pairing is the interleaved one on permuted channels.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })) }), smallShape, { inputs: { queryOffset: 2 } });
    // Channel 2m of the interleaved row is channel m of the half row, 2m + 1 is m + 4.
    const interleave = (source: HostTensor): HostTensor => {
      const values = toFloat64(source);
      return tensor(Float32Array.from(values, (_, index) => values[index - (index % 8) + Math.floor((index % 8) / 2) + 4 * (index % 2)] ?? 0), source.shape);
    };
    const other = await context.run({ ...call.request, variant: attention({ scoring: scaledDot().transform(rope({ pairing: 'interleaved' })) }) }, { ...call.inputs, query: interleave(call.inputs.query), key: interleave(call.inputs.key) });
    context.close('output', (await context.run(call.request, call.inputs)).output, other.output, loose);
  }),
  defineCase({ name: 'identities/whole-neighbourhood', plan: 'A neighbourhood as large as its grid is no mask.', tolerance: float32Attention }, async (context) => {
    await sameFunction(context, attention({ masking: neighbourhood({ shape: [7], kernel: 7 }) }), attention(), { shape: square });
  }),
  defineCase({ name: 'identities/chain', plan: 'A tree that is a chain is causal.', tolerance: float32Attention }, async (context) => {
    const intervals = treeIntervals([-1, 0, 1, 2, 3, 4, 5]);
    const twice = (part: Int32Array) => (): ArrayLike<number> => [...part, ...part];
    await sameFunction(context, attention({ masking: tree() }), attention({ masking: causal() }), {
      shape: square,
      one: { fill: { treeNode: twice(intervals.treeNode), treeFirst: twice(intervals.treeFirst), treeLast: twice(intervals.treeLast) } },
    });
  }),
  defineCase({ name: 'identities/neither', laws: ['L1'], plan: 'causal and not causal leaves nothing; causal or not causal leaves everything.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ masking: causal().and(causal().not()) }), square);
    context.zero('output', (await context.run(call.request, call.inputs)).output);
    await sameFunction(context, attention({ masking: causal().or(causal().not()) }), attention(), { shape: square });
  }),
  defineCase({ name: 'identities/laser-bounds', plan: 'LASER is at least softmax (Jensen), adding 3 to a channel of the values adds 3, and equal values come back.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ aggregation: laser() }), smallShape);
    const got = await context.run(call.request, call.inputs);
    const plain = await context.run({ ...call.request, variant: attention() }, call.inputs);
    context.check(got.output.every((value, index) => value >= (plain.output[index] ?? 0) - 1e-5), () => 'LASER lies below softmax.');
    const raised = await context.run(call.request, { ...call.inputs, value: tensor(Float32Array.from(toFloat64(call.inputs.value), (value) => value + 3), call.inputs.value.shape) });
    context.close('raised values', raised.output, got.output.map((value) => value + 3), loose);
    const equal = await context.run(call.request, { ...call.inputs, value: tensor(Float32Array.from(toFloat64(call.inputs.value), (_, index) => (index % 6) - 2), call.inputs.value.shape) });
    context.close('equal values', equal.output, equal.output.map((_, index) => (index % 6) - 2), loose);
  }),
  defineCase({ name: 'identities/laser-large', plan: 'LASER of values near ±300 neither overflows nor vanishes.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ aggregation: laser() }), smallShape);
    const large = { ...call.inputs, value: tensor(Float32Array.from(toFloat64(call.inputs.value), (value) => 100 * value), call.inputs.value.shape) };
    compareNumbers(context, call, await context.run(call.request, large), await context.expected(call.request, large), float32Attention);
  }),
  defineCase({ name: 'identities/max-pooling', plan: 'The maximum over weights that are all 1 is max pooling, channel by channel.', tolerance: exact }, async (context) => {
    const ones = modifier('ones', ({ score }) => score.mul(0).add(1));
    const call = drawCall(context, attention({ scoring: dot().modify(ones), normalization: none(), aggregation: maximum() }), smallShape);
    const { output } = await context.run(call.request, call.inputs);
    const values = toFloat64(call.inputs.value);
    const want = output.map((_, index) => {
      const head = Math.floor(index / 30);
      const source = (Math.floor(head / 4) * 2 + Math.floor((head % 4) / 2)) * 42 + (index % 6);
      return Math.max(...Array.from({ length: 7 }, (_key, key) => values[source + 6 * key] ?? 0));
    });
    context.close('output', output, want, { absolute: 0, relative: 1e-6 });
  }),
  defineCase({ name: 'identities/gate-extremes', plan: 'An output gate of 30 lets everything through, one of −200 nothing.', tolerance: float32Attention }, async (context) => {
    const gated = attention({ aggregation: weightedSum().finishBy(outputGate()) });
    await sameFunction(context, gated, attention(), { one: { fill: { gate: (_random, sizes) => new Array<number>(sizes.reduce((a, b) => a * b, 1)).fill(30) } } });
    const call = drawCall(context, gated, smallShape, { fill: { gate: (_random, sizes) => new Array<number>(sizes.reduce((a, b) => a * b, 1)).fill(-200) } });
    const { output } = await context.run(call.request, call.inputs);
    context.close('a shut gate', output, output.map(() => 0), { absolute: 1e-30, relative: 0 });
  }),
];
