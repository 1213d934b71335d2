import { attention, causal, rope, scaledDot, softcap, tensor, toFloat64, type Backend, type HostTensor } from '@heed/core';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { createContiguousCache, createMultiHeadAttention, type MultiHeadWeights } from '../../src/index.ts';
import { backends, close, elements, expectClose, Random } from '../support.ts';
import { runGraph, type Graph, type Node } from './model.ts';

/** A random multi-head layer: everything that both systems can say of one. */
interface Drawn {
  readonly batch: number;
  readonly length: number;
  readonly contextLength: number | null;
  readonly heads: number;
  readonly keyHeads: number;
  readonly headDim: number;
  readonly valueDim: number;
  readonly dim: number;
  readonly contextDim: number;
  readonly biased: boolean;
  readonly isCausal: boolean;
  readonly cap: number;
  readonly pairing: 'half' | 'interleaved' | null;
}

function draw(random: Random, isCross: boolean): Drawn {
  const keyHeads = random.integer(1, 3);
  const headDim = 2 * random.integer(1, 8);
  const dim = random.integer(3, 20);
  return {
    batch: random.integer(1, 3),
    length: random.integer(1, 9),
    contextLength: isCross ? random.integer(1, 9) : null,
    heads: keyHeads * random.integer(1, 3),
    keyHeads,
    headDim,
    // onnxruntime's operator takes other widths of values, and refuses some together with caps; half of the draws have one.
    valueDim: random.uniform() < 0.5 ? headDim : random.integer(1, 12),
    dim,
    contextDim: isCross ? random.integer(3, 20) : dim,
    biased: random.uniform() < 0.5,
    isCausal: !isCross && random.uniform() < 0.7,
    cap: random.pick([0, 0, 5]),
    pairing: isCross ? null : random.pick(['half', 'interleaved', null]),
  };
}

type HostWeights = { readonly [Name in keyof MultiHeadWeights]: HostTensor };

function weightsOf(random: Random, { heads, keyHeads, headDim, valueDim, dim, contextDim, biased }: Drawn): HostWeights {
  const weights = { query: random.weight(heads * headDim, dim), key: random.weight(keyHeads * headDim, contextDim), value: random.weight(keyHeads * valueDim, contextDim), output: random.weight(dim, heads * valueDim) };
  return biased ? { ...weights, queryBias: random.tensor([heads * headDim]), keyBias: random.tensor([keyHeads * headDim]), valueBias: random.tensor([keyHeads * valueDim]), outputBias: random.tensor([dim]) } : weights;
}

/** [outputs, inputs] → [inputs, outputs], as MatMul takes it. */
function transposed(weight: HostTensor): HostTensor {
  const [outputs = 0, inputs = 0] = weight.shape;
  const source = toFloat64(weight);
  return tensor(Float32Array.from({ length: outputs * inputs }, (_, index) => source[(index % outputs) * inputs + Math.floor(index / outputs)]!), [inputs, outputs]);
}

/** The same layer as operators of the standard: MatMul, Add, RotaryEmbedding, Attention. */
function graphOf(drawn: Drawn, weights: HostWeights): Graph {
  const { heads, keyHeads, headDim, length, isCausal, cap, pairing, contextLength, batch } = drawn;
  const nodes: Node[] = [];
  const constants: Record<string, HostTensor> = {};
  const project = (name: 'query' | 'key' | 'value' | 'output', from: string): string => {
    constants[`${name}Weight`] = transposed(weights[name]);
    nodes.push({ operator: 'MatMul', inputs: [from, `${name}Weight`], output: `${name}Rows` });
    const bias = weights[`${name}Bias`];
    if (bias === undefined) return `${name}Rows`;
    constants[`${name}Bias`] = bias;
    nodes.push({ operator: 'Add', inputs: [`${name}Rows`, `${name}Bias`], output: `${name}Biased` });
    return `${name}Biased`;
  };
  const rotated = (from: string, count: number): string => {
    if (pairing === null) return from;
    const angle = (index: number): number => (Math.floor(index / (headDim / 2)) % length) * 10000 ** ((-2 * (index % (headDim / 2))) / headDim);
    const table = (of: (angle: number) => number): HostTensor => tensor(Float32Array.from({ length: (batch * length * headDim) / 2 }, (_, index) => of(angle(index))), [batch, length, headDim / 2]);
    constants['cosines'] = table(Math.cos);
    constants['sines'] = table(Math.sin);
    nodes.push({ operator: 'RotaryEmbedding', inputs: [from, 'cosines', 'sines'], output: `${from}Rotated`, attributes: { num_heads: count, interleaved: pairing === 'interleaved' ? 1 : 0 } });
    return `${from}Rotated`;
  };
  const context = contextLength === null ? 'x' : 'context';
  const query = rotated(project('query', 'x'), heads);
  const key = rotated(project('key', context), keyHeads);
  const value = project('value', context);
  nodes.push({ operator: 'Attention', inputs: [query, key, value], output: 'attended', attributes: { is_causal: isCausal ? 1 : 0, q_num_heads: heads, kv_num_heads: keyHeads }, floats: cap === 0 ? {} : { softcap: cap } });
  const output = project('output', 'attended');
  return { nodes, constants, inputs: contextLength === null ? { x: 3 } : { x: 3, context: 3 }, output };
}

describe('multi-head layers as ONNX graphs in onnxruntime', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends.cpu();
  });
  afterAll(async () => close(backend));

  const seeds = Array.from({ length: 24 }, (_, seed) => ({ seed, isCross: seed % 3 === 2 }));
  test.each(seeds)('random layer $seed, cross attention: $isCross', async ({ seed, isCross }) => {
    const random = new Random(1000 + seed);
    const drawn = draw(random, isCross);
    const weights = weightsOf(random, drawn);
    const { heads, keyHeads, cap, pairing, isCausal, batch, length, dim, contextLength, contextDim } = drawn;
    const x = random.tensor([batch, length, dim]);
    const context = contextLength === null ? undefined : random.tensor([batch, contextLength, contextDim]);
    const want = await runGraph(graphOf(drawn, weights), { x, ...(context === undefined ? {} : { context }) });

    const plain = scaledDot();
    const turned = pairing === null ? plain : plain.transform(rope({ pairing }));
    const variant = attention({ scoring: cap === 0 ? turned : turned.modify(softcap(cap)), ...(isCausal ? { masking: causal() } : {}) });
    const layer = await createMultiHeadAttention({ backend, heads, keyHeads, weights, variant });
    expectClose(await elements(await layer.forward(x, { context })), want, 5e-5);
    if (isCausal) {
      const cache = createContiguousCache({ ...layer.cacheShape, batch, capacity: 1 });
      const first = Math.ceil(length / 2);
      const part = (from: number, count: number): HostTensor => tensor(Float32Array.from({ length: batch * count * dim }, (_, index) => toFloat64(x)[(Math.floor(index / (count * dim)) * length + from) * dim + (index % (count * dim))]!), [batch, count, dim]);
      await layer.forward(part(0, first), { cache });
      const rest = await elements(await layer.forward(part(first, length - first), { cache }));
      expectClose(rest, Float64Array.from({ length: batch * (length - first) * dim }, (_, index) => want[(Math.floor(index / ((length - first) * dim)) * length + first) * dim + (index % ((length - first) * dim))]!), 5e-5);
      cache.dispose();
    }
    await layer.dispose();
  });
});
