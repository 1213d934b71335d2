import type { Backend, Integers, Tensor } from '@heed/core';
import { Parameters } from '../parameters.ts';
import { createMultiHeadAttention, type MultiHeadAttention, type MultiHeadWeights } from './multi-head.ts';
import { bringHere, onRuntime } from '../on-runtime.ts';
import { add, feedForward, layerNorm, type FeedForwardWeights, type LayerNormWeights } from './residual.ts';
import { SeedRows } from './set.ts';

/** Weights of a cross attention with its norms and its network: X + Multihead(LN(X), LN(Y)), then + FF(LN(·)). */
export interface CrossBlockWeights {
  readonly attention: MultiHeadWeights;
  /** Of the rows that attend, and of those attended to. */
  readonly queryNorm: LayerNormWeights;
  readonly contextNorm: LayerNormWeights;
  readonly feedForwardNorm: LayerNormWeights;
  readonly feedForward: FeedForwardWeights;
}

export interface PerceiverCrossAttentionOptions {
  readonly backend: Backend;
  readonly heads: number;
  readonly weights: CrossBlockWeights;
  /** Latent rows [count, dim] that attend where `forward` is given none. */
  readonly latents: Tensor;
  /** Default 1e-5. */
  readonly epsilon?: number;
}

/**
 * Latent rows attend to inputs of any number and width (Jaegle 2021, section 3.1): O(inputs · latents). Output queries attend to latents by the same layer (Perceiver IO, Jaegle
 * 2022): pass them as `queries`.
 *
 * @throws AttentionError `invalid-shape`, `unsupported`
 */
export async function createPerceiverCrossAttention({ backend, heads, weights, latents, epsilon = 1e-5 }: PerceiverCrossAttentionOptions): Promise<PerceiverCrossAttention> {
  const layer = await createMultiHeadAttention({ backend, heads, weights: weights.attention });
  return new PerceiverCrossAttention(backend, layer, weights, latents, epsilon);
}

/** See {@link createPerceiverCrossAttention}. */
export class PerceiverCrossAttention {
  readonly #layer: MultiHeadAttention;
  readonly #parameters: Parameters;
  readonly #norms: Readonly<Record<'query' | 'context' | 'feedForward', LayerNormWeights>>;
  readonly #feedForward: FeedForwardWeights;
  readonly #latents: SeedRows;
  readonly #epsilon: number;

  /** @internal use {@link createPerceiverCrossAttention} */
  constructor(backend: Backend, layer: MultiHeadAttention, weights: CrossBlockWeights, latents: Tensor, epsilon: number) {
    const parameters = new Parameters(backend.runtime);
    const norm = ({ gain, shift }: LayerNormWeights): LayerNormWeights => ({ gain: parameters.place('gain', gain), shift: parameters.place('shift', shift) });
    this.#layer = layer;
    this.#parameters = parameters;
    this.#norms = { query: norm(weights.queryNorm), context: norm(weights.contextNorm), feedForward: norm(weights.feedForwardNorm) };
    this.#feedForward = parameters.placeAll(weights.feedForward);
    this.#latents = new SeedRows(backend, latents);
    this.#epsilon = epsilon;
  }

  /** Inputs [batch, rows, width] → [batch, latents, dim], or one row for each of `queries` [batch, count, dim]. */
  async forward(inputs: Tensor, { lengths, queries }: { readonly lengths?: Integers | undefined; readonly queries?: Tensor | undefined } = {}): Promise<Tensor> {
    return onRuntime(this.#parameters.runtime, inputs, async (temporaries, here) => {
      const x = queries === undefined ? this.#latents.forBatch(here) : bringHere(temporaries, queries);
      const query = temporaries.keep(layerNorm(temporaries, x, this.#norms.query, this.#epsilon));
      const context = temporaries.keep(layerNorm(temporaries, here, this.#norms.context, this.#epsilon));
      const attended = temporaries.keep(await this.#layer.forward(query, { context, contextLengths: lengths }));
      const h = temporaries.keep(add(temporaries, x, attended));
      const normed = temporaries.keep(layerNorm(temporaries, h, this.#norms.feedForward, this.#epsilon));
      const wide = temporaries.keep(feedForward(temporaries, normed, this.#feedForward, 'gelu'));
      return add(temporaries, h, wide);
    });
  }

  async dispose(): Promise<void> {
    await this.#layer.dispose();
    this.#latents.dispose();
    this.#parameters.release();
  }
}
