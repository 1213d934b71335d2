import { attention, scaledDot, type Backend, type Integers, type Tensor } from '@heed/core';
import { Parameters } from '../parameters.ts';
import type { Temporaries } from '../temporaries.ts';
import { createMultiHeadAttention, type MultiHeadAttention, type MultiHeadWeights } from './multi-head.ts';
import { bringHere, onRuntime } from '../on-runtime.ts';
import { add, feedForward, layerNorm, type FeedForwardWeights, type LayerNormWeights } from './residual.ts';

/** Weights of one attention block of sets: MAB(X, Y) = LN(H + rFF(H)) with H = LN(X + Multihead(X, Y, Y)). */
export interface SetBlockWeights {
  readonly attention: MultiHeadWeights;
  /** After the attention and after the network. Default: none. */
  readonly attentionNorm?: LayerNormWeights | undefined;
  readonly feedForwardNorm?: LayerNormWeights | undefined;
  readonly feedForward: FeedForwardWeights;
}

export interface SetBlockOptions {
  readonly backend: Backend;
  readonly heads: number;
  readonly weights: SetBlockWeights;
  /** Factor of the scores. Default 1/√dim of the whole model, as the paper has it, and not of a head. */
  readonly scale?: number;
  /** Default 1e-5. */
  readonly epsilon?: number;
}

/** Rows of each set that count; the rest is padding on the right. */
export interface SetLengths {
  readonly lengths?: Integers | undefined;
}

/**
 * The attention block of the Set Transformer (Lee 2019, equations 6 and 7), which permutes with the rows of X and not at all with those of Y.
 * @throws AttentionError `invalid-shape`, `unsupported`
 */
export async function createSetBlock({ backend, heads, weights, scale, epsilon = 1e-5 }: SetBlockOptions): Promise<SetBlock> {
  const dim = weights.attention.query.shape[1] ?? 1;
  const variant = attention({ scoring: scaledDot({ scale: scale ?? 1 / Math.sqrt(dim) }) });
  const layer = await createMultiHeadAttention({ backend, heads, weights: weights.attention, variant });
  return new SetBlock(backend, layer, weights, epsilon);
}

/** MAB. See {@link createSetBlock}. */
export class SetBlock {
  readonly #layer: MultiHeadAttention;
  readonly #parameters: Parameters;
  readonly #attentionNorm: LayerNormWeights | null;
  readonly #feedForwardNorm: LayerNormWeights | null;
  readonly #feedForward: FeedForwardWeights;
  readonly #epsilon: number;

  /** @internal use {@link createSetBlock} */
  constructor({ runtime }: Backend, layer: MultiHeadAttention, weights: SetBlockWeights, epsilon: number) {
    const parameters = new Parameters(runtime);
    const norm = (given: LayerNormWeights | undefined): LayerNormWeights | null => (given === undefined ? null : { gain: parameters.place('gain', given.gain), shift: parameters.place('shift', given.shift) });
    this.#layer = layer;
    this.#parameters = parameters;
    this.#attentionNorm = norm(weights.attentionNorm);
    this.#feedForwardNorm = norm(weights.feedForwardNorm);
    this.#feedForward = parameters.placeAll(weights.feedForward);
    this.#epsilon = epsilon;
  }

  /** SAB(X) = MAB(X, X): [batch, rows, dim] → the same. */
  async forward(x: Tensor, { lengths }: SetLengths = {}): Promise<Tensor> {
    return this.attend(x, x, { lengths });
  }

  /** MAB(X, Y): every row of x attends to the rows of y, of which `lengths` count. */
  async attend(x: Tensor, y: Tensor, { lengths }: SetLengths = {}): Promise<Tensor> {
    return onRuntime(this.#parameters.runtime, x, async (temporaries, here) => {
      const context = x === y ? here : bringHere(temporaries, y);
      const attended = temporaries.keep(await this.#layer.forward(here, { context, contextLengths: lengths }));
      const h = this.#normed(temporaries, add(temporaries, here, attended), this.#attentionNorm);
      temporaries.keep(h);
      const wide = temporaries.keep(feedForward(temporaries, h, this.#feedForward, 'relu'));
      return this.#normed(temporaries, add(temporaries, h, wide), this.#feedForwardNorm);
    });
  }

  async dispose(): Promise<void> {
    await this.#layer.dispose();
    this.#parameters.release();
  }

  #normed(temporaries: Temporaries, x: Tensor, norm: LayerNormWeights | null): Tensor {
    return norm === null ? x : layerNorm(temporaries, temporaries.keep(x), norm, this.#epsilon);
  }
}

export interface InducedSetBlockOptions extends Omit<SetBlockOptions, 'weights'> {
  readonly weights: {
    /** I [points, dim] */
    readonly points: Tensor;
    /** MAB(I, X), then MAB(X, that). */
    readonly inducing: SetBlockWeights;
    readonly returning: SetBlockWeights;
  };
}

/** ISAB(X) = MAB(X, MAB(I, X)) with inducing points I (Lee 2019, equations 9 and 10): O(rows · points). */
export async function createInducedSetBlock({ weights, ...options }: InducedSetBlockOptions): Promise<InducedSetBlock> {
  const inducing = await createSetBlock({ ...options, weights: weights.inducing });
  const returning = await createSetBlock({ ...options, weights: weights.returning });
  return new InducedSetBlock(options.backend, weights.points, inducing, returning);
}

/** See {@link createInducedSetBlock}. */
export class InducedSetBlock {
  readonly #points: SeedRows;
  readonly #inducing: SetBlock;
  readonly #returning: SetBlock;

  /** @internal use {@link createInducedSetBlock} */
  constructor(backend: Backend, points: Tensor, inducing: SetBlock, returning: SetBlock) {
    this.#points = new SeedRows(backend, points);
    this.#inducing = inducing;
    this.#returning = returning;
  }

  /** [batch, rows, dim] → the same. */
  async forward(x: Tensor, { lengths }: SetLengths = {}): Promise<Tensor> {
    return onRuntime(this.#points.runtime, x, async (temporaries, here) => {
      const summary = temporaries.keep(await this.#inducing.attend(this.#points.forBatch(here), here, { lengths }));
      return this.#returning.attend(here, summary);
    });
  }

  async dispose(): Promise<void> {
    await this.#inducing.dispose();
    await this.#returning.dispose();
    this.#points.dispose();
  }
}

export interface SetPoolingOptions extends Omit<SetBlockOptions, 'weights'> {
  readonly weights: SetBlockWeights & {
    /** S [seeds, dim] */
    readonly seeds: Tensor;
    /** The network that the rows pass first. Default: none, as the published code has it. */
    readonly rows?: FeedForwardWeights | undefined;
  };
}

/** PMA(Z) = MAB(S, rFF(Z)) with learned seeds S (Lee 2019, equation 11): sets of any size become `seeds` rows. */
export async function createSetPooling({ weights, ...options }: SetPoolingOptions): Promise<SetPooling> {
  const block = await createSetBlock({ ...options, weights });
  return new SetPooling(options.backend, weights, block);
}

/** See {@link createSetPooling}. */
export class SetPooling {
  readonly #seeds: SeedRows;
  readonly #block: SetBlock;
  readonly #parameters: Parameters;
  readonly #rows: FeedForwardWeights | null;

  /** @internal use {@link createSetPooling} */
  constructor(backend: Backend, { seeds, rows }: SetPoolingOptions['weights'], block: SetBlock) {
    this.#seeds = new SeedRows(backend, seeds);
    this.#block = block;
    this.#parameters = new Parameters(backend.runtime);
    this.#rows = rows === undefined ? null : this.#parameters.placeAll(rows);
  }

  /** [batch, rows, dim] → [batch, seeds, dim] */
  async forward(z: Tensor, { lengths }: SetLengths = {}): Promise<Tensor> {
    return onRuntime(this.#parameters.runtime, z, async (temporaries, here) => {
      const rows = this.#rows === null ? here : temporaries.keep(feedForward(temporaries, here, this.#rows, 'relu'));
      return this.#block.attend(this.#seeds.forBatch(here), rows, { lengths });
    });
  }

  async dispose(): Promise<void> {
    await this.#block.dispose();
    this.#seeds.dispose();
    this.#parameters.release();
  }
}

/** Learned rows [count, dim] that every set of a batch is given. */
export class SeedRows {
  readonly runtime: Backend['runtime'];
  readonly #parameters: Parameters;
  readonly #rows: Tensor;

  constructor({ runtime }: Backend, rows: Tensor) {
    this.runtime = runtime;
    this.#parameters = new Parameters(runtime);
    this.#rows = this.#parameters.place('the learned rows', rows);
  }

  /** A view [batch, count, dim], the same rows for each of the batch. */
  forBatch({ shape }: Tensor): Tensor {
    const [count = 0, dim = 0] = this.#rows.shape;
    return this.runtime.view(this.#rows, [shape[0] ?? 0, count, dim], [0, ...this.#rows.strides]);
  }

  dispose(): void {
    this.#parameters.release();
  }
}
