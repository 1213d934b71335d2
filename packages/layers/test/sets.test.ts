import { tensor, toFloat64, type Backend, type HostTensor } from '@heed/core';
import { attention, scaledDot } from '@heed/core';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { createInducedSetBlock, createPerceiverCrossAttention, createSetBlock, createSetPooling, type SetBlockWeights } from '../src/index.ts';
import { backends, close, elements, expectClose, plainAttention, plainHeads, plainLinear, Random } from './support.ts';

const [batch, length, dim, heads] = [2, 7, 8, 2];


const norm = (random: Random, width: number = dim) => ({ gain: random.tensor([width]), shift: random.tensor([width]) });
const network = (random: Random) => ({ input: random.weight(11, dim), inputBias: random.tensor([11]), output: random.weight(dim, 11), outputBias: random.tensor([dim]) });
const projections = (random: Random, contextDim: number = dim) => ({ query: random.weight(dim, dim), key: random.weight(dim, contextDim), value: random.weight(dim, contextDim), output: random.weight(dim, dim) });
const block = (random: Random) => ({ attention: projections(random), attentionNorm: norm(random), feedForwardNorm: norm(random), feedForward: network(random) }) satisfies SetBlockWeights;

/** (row − mean) / √(variance + ε) · gain + shift */
function layerNorm(rows: Float64Array, { gain, shift }: ReturnType<typeof norm>): Float64Array {
  const [g, b] = [toFloat64(gain), toFloat64(shift)];
  return rows.map((value, index) => {
    const row = rows.subarray(index - (index % g.length), index - (index % g.length) + g.length);
    const mean = row.reduce((sum, one) => sum + one, 0) / g.length;
    const variance = row.reduce((sum, one) => sum + (one - mean) ** 2, 0) / g.length;
    return ((value - mean) / Math.sqrt(variance + 1e-5)) * g[index % g.length]! + b[index % g.length]!;
  });
}

const sum = (a: Float64Array, b: Float64Array): Float64Array => a.map((one, index) => one + b[index]!);
const feedForward = (rows: Float64Array, { input, inputBias, output, outputBias }: ReturnType<typeof network>, activation: (x: number) => number): Float64Array => plainLinear(plainLinear(rows, input, inputBias).map(activation), output, outputBias);
const relu = (x: number): number => Math.max(0, x);

/** MAB of the paper over one set, at its scale 1/√dim. */
async function plainBlock(x: Float64Array, y: Float64Array, weights: ReturnType<typeof block>): Promise<Float64Array> {
  const rows = x.length / (batch * dim);
  const others = y.length / (batch * dim);
  const [query, key, value] = [plainHeads(plainLinear(x, weights.attention.query), batch, rows, heads), plainHeads(plainLinear(y, weights.attention.key), batch, others, heads), plainHeads(plainLinear(y, weights.attention.value), batch, others, heads)];
  const attended = plainLinear(await plainAttention(attention({ scoring: scaledDot({ scale: dim ** -0.5 }) }), { query, key, value }), weights.attention.output);
  const h = layerNorm(sum(x, attended), weights.attentionNorm);
  return layerNorm(sum(h, feedForward(h, weights.feedForward, relu)), weights.feedForwardNorm);
}

/** The same rows for each of the batch. */
const repeated = (rows: HostTensor): Float64Array => Float64Array.from({ length: batch * toFloat64(rows).length }, (_, index) => toFloat64(rows)[index % toFloat64(rows).length]!);

/** Rows of every set in the order given. */
function permuted(x: HostTensor, order: readonly number[]): HostTensor {
  const source = toFloat64(x);
  const width = x.shape[2]!;
  return tensor(Float32Array.from(source, (_, index) => source[(Math.floor(index / (order.length * width)) * order.length + order[Math.floor(index / width) % order.length]!) * width + (index % width)]!), x.shape);
}

describe('sets', () => {
  let backend: Backend;
  const order = [3, 0, 6, 1, 5, 2, 4];
  beforeAll(async () => {
    backend = await backends.cpu();
  });
  afterAll(async () => close(backend));

  test('SAB is its formula, and permutes with its rows', async () => {
    const random = new Random(70);
    const weights = block(random);
    const x = random.tensor([batch, length, dim]);
    const layer = await createSetBlock({ backend, heads, weights });
    const got = await elements(await layer.forward(x));
    expectClose(got, await plainBlock(toFloat64(x), toFloat64(x), weights));
    expectClose(await elements(await layer.forward(permuted(x, order))), toFloat64(permuted(tensor(Float32Array.from(got), x.shape), order)));
    await layer.dispose();
  });

  test('ISAB goes through its inducing points', async () => {
    const random = new Random(71);
    const weights = { points: random.tensor([3, dim]), inducing: block(random), returning: block(random) };
    const x = random.tensor([batch, length, dim]);
    const layer = await createInducedSetBlock({ backend, heads, weights });
    const got = await elements(await layer.forward(x));
    const summary = await plainBlock(repeated(weights.points), toFloat64(x), weights.inducing);
    expectClose(got, await plainBlock(toFloat64(x), summary, weights.returning));
    expectClose(await elements(await layer.forward(permuted(x, order))), toFloat64(permuted(tensor(Float32Array.from(got), x.shape), order)));
    await layer.dispose();
  });

  test('PMA pools sets of any size and order', async () => {
    const random = new Random(72);
    const weights = { ...block(random), seeds: random.tensor([2, dim]), rows: network(random) };
    const x = random.tensor([batch, length, dim]);
    const layer = await createSetPooling({ backend, heads, weights });
    const got = await elements(await layer.forward(x));
    expectClose(got, await plainBlock(repeated(weights.seeds), feedForward(toFloat64(x), weights.rows, relu), weights));
    expectClose(await elements(await layer.forward(permuted(x, order))), got);
    const padded = tensor(Float32Array.from({ length: batch * (length + 2) * dim }, (_, index) => {
      const row = Math.floor(index / dim) % (length + 2);
      return row < length ? toFloat64(x)[(Math.floor(index / ((length + 2) * dim)) * length + row) * dim + (index % dim)]! : 99;
    }), [batch, length + 2, dim]);
    expectClose(await elements(await layer.forward(padded, { lengths: [length, length] })), got);
    await layer.dispose();
  });

  test('a Perceiver’s latents, and the queries of its output, attend to rows of another width in any order', async () => {
    const random = new Random(73);
    const width = 5;
    const weights = { attention: projections(random, width), queryNorm: norm(random), contextNorm: norm(random, width), feedForwardNorm: norm(random), feedForward: network(random) };
    const [inputs, latents] = [random.tensor([batch, length, width]), random.tensor([3, dim])];
    const layer = await createPerceiverCrossAttention({ backend, heads, weights, latents });
    const plain = async (x: Float64Array): Promise<Float64Array> => {
      const rows = x.length / (batch * dim);
      const query = plainHeads(plainLinear(layerNorm(x, weights.queryNorm), weights.attention.query), batch, rows, heads);
      const context = layerNorm(toFloat64(inputs), weights.contextNorm);
      const [key, value] = [plainHeads(plainLinear(context, weights.attention.key), batch, length, heads), plainHeads(plainLinear(context, weights.attention.value), batch, length, heads)];
      const h = sum(x, plainLinear(await plainAttention(attention(), { query, key, value }), weights.attention.output));
      const gelu = (one: number): number => 0.5 * one * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (one + 0.044715 * one ** 3)));
      return sum(h, feedForward(layerNorm(h, weights.feedForwardNorm), weights.feedForward, gelu));
    };
    const got = await elements(await layer.forward(inputs));
    expectClose(got, await plain(repeated(latents)));
    expectClose(await elements(await layer.forward(permuted(inputs, order))), got);
    const queries = random.tensor([batch, 4, dim]);
    expectClose(await elements(await layer.forward(inputs, { queries })), await plain(toFloat64(queries)));
    await layer.dispose();
  });
});
