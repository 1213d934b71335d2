import { attention, causal, rope, scaledDot, type Backend, type Tensor } from '@heed/core';
import { add, createMultiHeadAttention, feedForward, type CacheShape, type FeedForwardWeights, type KeyValueCache, type MultiHeadAttention, type Temporaries } from '@heed/layers';
import type { RandomWeights } from './random-weights.ts';
import type { DecoderShape } from './shapes.ts';

/** x + attention(norm(x)), then + network(norm(·)). */
export class Block {
  readonly cacheShape: CacheShape;
  readonly #attention: MultiHeadAttention;
  readonly #norms: readonly [Norm, Norm];
  readonly #network: FeedForwardWeights;
  readonly #family: DecoderShape['family'];

  private constructor(layer: MultiHeadAttention, norms: readonly [Norm, Norm], network: FeedForwardWeights, family: DecoderShape['family']) {
    this.cacheShape = layer.cacheShape;
    this.#attention = layer;
    this.#norms = norms;
    this.#network = network;
    this.#family = family;
  }

  static async create(backend: Backend, { family, dim, heads, keyHeads, hidden }: DecoderShape, random: RandomWeights): Promise<Block> {
    const { runtime } = backend;
    const headDim = dim / heads;
    const isGpt2 = family === 'gpt2';
    const biases = isGpt2 ? { queryBias: random.bias(dim), keyBias: random.bias(keyHeads * headDim), valueBias: random.bias(keyHeads * headDim), outputBias: random.bias(dim) } : {};
    const weights = { query: random.linear(dim, dim), key: random.linear(keyHeads * headDim, dim), value: random.linear(keyHeads * headDim, dim), output: random.linear(dim, dim), ...biases };
    const scoring = isGpt2 ? scaledDot() : scaledDot().transform(rope({ pairing: 'half' }));
    const layer = await createMultiHeadAttention({ backend, heads, keyHeads, weights, variant: attention({ scoring, masking: causal() }) });
    const network = {
      input: runtime.upload(random.linear(hidden, dim)),
      output: runtime.upload(random.linear(dim, hidden)),
      ...(isGpt2 ? { inputBias: runtime.upload(random.bias(hidden)), outputBias: runtime.upload(random.bias(dim)) } : { gate: runtime.upload(random.linear(hidden, dim)) }),
    };
    return new Block(layer, [createNorm(backend, family, dim, random), createNorm(backend, family, dim, random)], network, family);
  }

  /** Rows [batch, length, dim]; a new tensor. */
  async forward(temporaries: Temporaries, x: Tensor, cache: KeyValueCache | undefined): Promise<Tensor> {
    const [before, between] = this.#norms;
    const attended = temporaries.keep(await this.#attention.forward(temporaries.keep(before(temporaries, x)), { cache }));
    const h = temporaries.keep(add(temporaries, x, attended));
    const wide = temporaries.keep(feedForward(temporaries, temporaries.keep(between(temporaries, h)), this.#network, this.#family === 'gpt2' ? 'gelu' : 'silu'));
    return add(temporaries, h, wide);
  }

  async dispose(): Promise<void> {
    await this.#attention.dispose();
  }
}

/** A norm with its weights; its result is a new tensor. */
export type Norm = (temporaries: Temporaries, x: Tensor) => Tensor;

/** gpt2's layer norm, or llama's RMS norm. */
export function createNorm({ runtime }: Backend, family: DecoderShape['family'], dim: number, random: RandomWeights): Norm {
  const gain = runtime.upload(random.gain(dim));
  if (family === 'llama') return (_, x) => runtime.operations.rowNorm(x, { norm: 'rms', epsilon: 1e-5, gain });
  const shift = runtime.upload(random.bias(dim));
  return (_, x) => runtime.operations.rowNorm(x, { norm: 'layer', epsilon: 1e-5, gain, shift });
}
