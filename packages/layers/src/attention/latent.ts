import { attention, AttentionError, causal, rope, scaledDot, type AttentionKernel, type Backend, type Masking, type RopeOptions, type Tensor } from '@heed/core';
import type { Names } from '@heed/core/compute';
import type { CachedKeys, CacheShape } from '../caches/cache.ts';
import { linear, linearRows } from '../linear.ts';
import { checkOptionNames } from '../options.ts';
import { checkCount, checkWeights, Parameters } from '../parameters.ts';
import type { Temporaries } from '../temporaries.ts';
import { attend } from './attend.ts';
import { firstPositions, sequenceNames, transformKeys, withCache, type SequenceOptions } from './keys.ts';
import { onRuntime } from '../on-runtime.ts';
import { wholeRows } from './projections.ts';

/** Linear weights are [outputs, inputs], as DeepSeek's checkpoints have them. */
export interface LatentWeights {
  /** [heads · (plainDim + rotaryDim), dim or the query's rank], the plain channels of a head before its rotary ones. */
  readonly query: Tensor;
  /** [rank, dim]: queries through a low rank, with the norm below between the two. */
  readonly queryDown?: Tensor | undefined;
  /** [rank] */
  readonly queryNorm?: Tensor | undefined;
  /** [latentDim + rotaryDim, dim]: the latent row, then the rotary key that all heads share. */
  readonly keyDown: Tensor;
  /** [latentDim]: gain of the RMS norm that the latent row passes before it is kept. */
  readonly keyNorm: Tensor;
  /** [heads · (plainDim + valueDim), latentDim], the key channels of a head before its value's. */
  readonly keyUp: Tensor;
  /** [dim of the output, heads · valueDim] */
  readonly output: Tensor;
}

export interface LatentOptions {
  readonly backend: Backend;
  readonly heads: number;
  /** Width of the rotary key. */
  readonly rotaryDim: number;
  readonly valueDim: number;
  readonly weights: LatentWeights;
  /** How the rotary channels are turned. Default interleaved, as DeepSeek-V2 and V3 are. */
  readonly rope?: RopeOptions;
  /** Tables that the rotation reads: frequencies. */
  readonly tables?: Readonly<Record<string, Tensor>>;
  /** Factor of the scores. Default 1/√(plainDim + rotaryDim); DeepSeek multiplies it by YaRN's magnitude squared. */
  readonly scale?: number;
  /** Of both norms. Default 1e-6. */
  readonly epsilon?: number;
  /** Default `causal()`. */
  readonly masking?: Masking;
}

export interface LatentForwardOptions extends SequenceOptions {
  /**
   * absorbed: queries are brought to the latent space, where all heads read one row per token; expanded: keys and values of every head are made anew from the latent rows. Equal
   * results. Default: absorbed with a cache, which is cheaper for few queries.
   */
  readonly form?: 'absorbed' | 'expanded' | undefined;
}

/**
 * Multi-head latent attention (DeepSeek-V2 2024, section 2.1): keys and values come from one latent row per token, and only that row and a rotary key are kept.
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `unsupported`
 */
export async function createLatentAttention(options: LatentOptions): Promise<LatentAttention> {
  const { backend, masking = causal() } = options;
  const sizes = sizesOf(options);
  const { plainDim, rotaryDim, latentDim, valueDim } = sizes;
  const scoring = scaledDot({ scale: options.scale ?? 1 / Math.sqrt(plainDim + rotaryDim) }).transform(rope({ pairing: 'interleaved', ...options.rope, width: rotaryDim }));
  const variant = attention({ scoring, masking });
  const absorbed = await backend.prepare({ variant, queryDim: rotaryDim + latentDim, keyDim: rotaryDim + latentDim, valueDim: latentDim });
  const expanded = await backend.prepare({ variant, queryDim: rotaryDim + plainDim, keyDim: rotaryDim + plainDim, valueDim });
  return new LatentAttention(options, sizes, { absorbed, expanded });
}

interface Sizes {
  readonly heads: number;
  readonly plainDim: number;
  readonly rotaryDim: number;
  readonly latentDim: number;
  readonly valueDim: number;
}

function sizesOf({ heads, rotaryDim, valueDim, weights }: LatentOptions): Sizes {
  checkCount('heads', heads, 1);
  checkCount('rotaryDim', rotaryDim, 2);
  checkCount('valueDim', valueDim, 1);
  const { query, keyDown, keyUp, queryDown } = weights;
  const plainDim = (query.shape[0] ?? 0) / heads - rotaryDim;
  const latentDim = (keyDown.shape[0] ?? 0) - rotaryDim;
  if (!Number.isSafeInteger(plainDim) || plainDim < 1 || latentDim < 1) {
    throw new AttentionError('invalid-shape', `The query weight has ${query.shape[0]} outputs and the key’s ${keyDown.shape[0]}, for ${heads} heads and a rotary width of ${rotaryDim}.`, 'Expected heads · (plainDim + rotaryDim), and latentDim + rotaryDim.');
  }
  const [rank = 0] = queryDown?.shape ?? [];
  checkWeights('latent attention', {
    query: [query, ['outputs', queryDown === undefined ? (keyDown.shape[1] ?? 0) : rank]],
    queryDown: [queryDown, [rank, keyDown.shape[1] ?? 0]],
    queryNorm: [weights.queryNorm, [rank]],
    keyNorm: [weights.keyNorm, [latentDim]],
    keyUp: [keyUp, [heads * (plainDim + valueDim), latentDim]],
    output: [weights.output, ['outputs', heads * valueDim]],
  });
  return { heads, plainDim, rotaryDim, latentDim, valueDim };
}

/** See {@link createLatentAttention}. */
export class LatentAttention {
  /** One row per token: the rotary key, then the latent, whose channels are the values too. */
  readonly cacheShape: CacheShape;
  readonly #sizes: Sizes;
  readonly #kernels: { readonly absorbed: AttentionKernel; readonly expanded: AttentionKernel };
  readonly #parameters: Parameters;
  readonly #weights: LatentWeights;
  /** [1, heads, plainDim, latentDim] and [1, heads, valueDim, latentDim]: the key's and the value's part of `keyUp`. */
  readonly #keyUp: Tensor;
  readonly #valueUp: Tensor;
  readonly #tables: Readonly<Record<string, Tensor>>;
  readonly #epsilon: number;

  /** @internal use {@link createLatentAttention} */
  constructor({ backend, weights, tables = {}, epsilon = 1e-6 }: LatentOptions, sizes: Sizes, kernels: { readonly absorbed: AttentionKernel; readonly expanded: AttentionKernel }) {
    const { runtime } = backend;
    const { heads, plainDim, rotaryDim, latentDim, valueDim } = sizes;
    const parameters = new Parameters(runtime);
    this.#sizes = sizes;
    this.#kernels = kernels;
    this.#parameters = parameters;
    this.#weights = parameters.placeAll(weights);
    this.#tables = parameters.placeAll(tables);
    this.#epsilon = epsilon;
    const each = (plainDim + valueDim) * latentDim;
    const part = (rows: number, start: number): Tensor => parameters.own(runtime.operations.copy(runtime.view(this.#weights.keyUp, [1, heads, rows, latentDim], [0, each, latentDim, 1], start)));
    this.#keyUp = part(plainDim, 0);
    this.#valueUp = part(valueDim, plainDim * latentDim);
    this.cacheShape = { runtime, keyHeads: 1, keyDim: rotaryDim + latentDim, valueDim: latentDim, valueStart: rotaryDim };
  }

  /** x [batch, length, dim] → [batch, length, dim of the output], where x lives. @throws AttentionError of the cache and of the kernel */
  async forward(x: Tensor, options: LatentForwardOptions = {}): Promise<Tensor> {
    checkOptionNames('the options', options, forwardNames);
    const { cache, lengths } = options;
    return onRuntime(this.#parameters.runtime, x, async (temporaries, here) => {
      const [batch = 0, length = 0] = here.shape;
      const positions = firstPositions(here, options);
      const query = this.#query(temporaries, here);
      const key = await this.#latentRows(temporaries, here, positions);
      const sets = withCache(temporaries, { key, value: this.#valuesOf(key) }, positions, options, false);
      const form = options.form ?? (cache === undefined ? 'expanded' : 'absorbed');
      const rows = { batch, length, positions, lengths };
      const attended = form === 'absorbed' ? await this.#absorbed(temporaries, query, sets, rows) : await this.#expanded(temporaries, query, sets, rows);
      return linear(temporaries, attended, { weight: this.#weights.output });
    });
  }

  /** Waits for the last use. */
  async dispose(): Promise<void> {
    await this.#kernels.absorbed.dispose();
    await this.#kernels.expanded.dispose();
    this.#parameters.release();
  }

  /** [batch · length, heads · (plainDim + rotaryDim)] */
  #query(temporaries: Temporaries, x: Tensor): Tensor {
    const { query, queryDown, queryNorm } = this.#weights;
    if (queryDown === undefined) return temporaries.keep(linearRows(temporaries, x, { weight: query }));
    const low = temporaries.keep(linearRows(temporaries, x, { weight: queryDown }));
    const normed = queryNorm === undefined ? low : temporaries.keep(temporaries.runtime.operations.rowNorm(low, { norm: 'rms', epsilon: this.#epsilon, gain: queryNorm }));
    return temporaries.keep(linearRows(temporaries, normed, { weight: query }));
  }

  /** [batch, 1, length, rotaryDim + latentDim]: the rotated key and the normed latent, as the cache keeps them. */
  async #latentRows(temporaries: Temporaries, x: Tensor, positions: readonly number[]): Promise<Tensor> {
    const { runtime } = temporaries;
    const { rotaryDim, latentDim } = this.#sizes;
    const [batch = 0, length = 0] = x.shape;
    const width = rotaryDim + latentDim;
    const count = batch * length;
    const down = temporaries.keep(linearRows(temporaries, x, { weight: this.#weights.keyDown }));
    const latent = temporaries.keep(runtime.operations.rowNorm(runtime.view(down, [count, latentDim], [width, 1]), { norm: 'rms', epsilon: this.#epsilon, gain: this.#weights.keyNorm }));
    const rows = temporaries.keep(runtime.tensor([batch, 1, length, width], 'f32'));
    runtime.operations.copy(runtime.view(down, [count, rotaryDim], [width, 1], count === 0 ? 0 : latentDim), { into: runtime.view(rows, [count, rotaryDim], [width, 1]) });
    runtime.operations.copy(latent, { into: runtime.view(rows, [count, latentDim], [width, 1], count === 0 ? 0 : rotaryDim) });
    return transformKeys(temporaries, this.#kernels.absorbed, rows, positions, { tables: this.#tables });
  }

  #valuesOf(key: Tensor): Tensor {
    const { rotaryDim, latentDim } = this.#sizes;
    const [batch = 0, heads = 0, length = 0] = key.shape;
    return this.#parameters.runtime.view(key, [batch, heads, length, latentDim], key.strides, batch * length === 0 ? 0 : rotaryDim);
  }

  /** Rows of queries [batch · length, heads · (rotaryDim + dim)] from the rotary channels of `query` and other channels [batch, heads, length, dim]. */
  #queryRows(temporaries: Temporaries, query: Tensor, plain: Tensor): Tensor {
    const { runtime } = temporaries;
    const { heads, plainDim, rotaryDim } = this.#sizes;
    const [batch = 0, , length = 0, dim = 0] = plain.shape;
    const [from, width] = [plainDim + rotaryDim, rotaryDim + dim];
    const rows = temporaries.keep(runtime.tensor([batch * length, heads * width], 'f32'));
    if (batch * length === 0) return rows;
    runtime.operations.copy(runtime.view(query, [batch * length, heads, rotaryDim], [heads * from, from, 1], plainDim), { into: runtime.view(rows, [batch * length, heads, rotaryDim], [heads * width, width, 1]) });
    runtime.operations.copy(plain, { into: runtime.view(rows, [batch, heads, length, dim], [length * heads * width, width, heads * width, 1], rotaryDim) });
    return rows;
  }

  /** The plain channels of the queries, [batch, heads, length, plainDim]: a view. */
  #plainQuery(query: Tensor, batch: number, length: number): Tensor {
    const { heads, plainDim, rotaryDim } = this.#sizes;
    const each = plainDim + rotaryDim;
    return this.#parameters.runtime.view(query, [batch, heads, length, plainDim], [length * heads * each, each, heads * each, 1]);
  }

  /** Queries meet latent rows, and the latent outputs become values afterwards; [batch, length, heads · valueDim]. */
  async #absorbed(temporaries: Temporaries, query: Tensor, sets: readonly CachedKeys[], { batch, length, positions, lengths }: Rows): Promise<Tensor> {
    const { runtime } = temporaries;
    const { heads, rotaryDim, latentDim, valueDim } = this.#sizes;
    const latentQuery = temporaries.keep(runtime.operations.matmul(this.#plainQuery(query, batch, length), this.#keyUp));
    const rows = this.#queryRows(temporaries, query, latentQuery);
    const latents = temporaries.keep(runtime.tensor([batch, heads, length, latentDim], 'f32'));
    await attend(temporaries, this.#kernels.absorbed, { rows: wholeRows(rows), batch, heads, length, dim: rotaryDim + latentDim, positions, lengths }, sets, { tables: this.#tables }, latents);
    const values = temporaries.keep(runtime.operations.matmul(latents, this.#valueUp, { transposed: true }));
    const sideBySide = temporaries.keep(runtime.operations.copy(runtime.view(values, [batch, length, heads, valueDim], [heads * length * valueDim, valueDim, length * valueDim, 1])));
    return runtime.view(sideBySide, [batch, length, heads * valueDim]);
  }

  /** Keys and values of every head are made from the latent rows; [batch, length, heads · valueDim]. */
  async #expanded(temporaries: Temporaries, query: Tensor, sets: readonly CachedKeys[], { batch, length, positions, lengths }: Rows): Promise<Tensor> {
    const { runtime } = temporaries;
    const { heads, plainDim, rotaryDim, valueDim } = this.#sizes;
    const rows = this.#queryRows(temporaries, query, this.#plainQuery(query, batch, length));
    const attended = temporaries.keep(runtime.tensor([batch, length, heads * valueDim], 'f32'));
    const width = heads * valueDim;
    const output = runtime.view(attended, [batch, heads, length, valueDim], [length * width, valueDim, width, 1]);
    const expanded = sets.map((keys) => ({ ...keys, ...this.#expand(temporaries, keys) }));
    await attend(temporaries, this.#kernels.expanded, { rows: wholeRows(rows), batch, heads, length, dim: rotaryDim + plainDim, positions, lengths }, expanded, { tables: this.#tables }, output);
    return attended;
  }

  #expand(temporaries: Temporaries, { key, value }: CachedKeys): Pick<CachedKeys, 'key' | 'value'> {
    const { runtime } = temporaries;
    const { heads, plainDim, rotaryDim, valueDim } = this.#sizes;
    const [batch = 0, , length = 0, latentDim = 0] = value.shape;
    const width = heads * (plainDim + valueDim);
    const latent = runtime.view(value, [batch, length, latentDim], [value.strides[0] ?? 0, value.strides[2] ?? 0, 1]);
    const up = temporaries.keep(linearRows(temporaries, latent, { weight: this.#weights.keyUp }));
    const each = plainDim + valueDim;
    const keys = temporaries.keep(runtime.tensor([batch, heads, length, rotaryDim + plainDim], 'f32'));
    const values = runtime.view(up, [batch, heads, length, valueDim], [length * width, each, width, 1], batch * length === 0 ? 0 : plainDim);
    if (batch * length === 0) return { key: keys, value: values };
    runtime.operations.copy(runtime.view(key, [batch, heads, length, rotaryDim], [key.strides[0] ?? 0, 0, key.strides[2] ?? 0, 1]), { into: runtime.view(keys, [batch, heads, length, rotaryDim], keys.strides) });
    runtime.operations.copy(runtime.view(up, [batch, heads, length, plainDim], [length * width, each, width, 1]), { into: runtime.view(keys, [batch, heads, length, plainDim], keys.strides, rotaryDim) });
    return { key: keys, value: values };
  }
}

interface Rows {
  readonly batch: number;
  readonly length: number;
  readonly positions: readonly number[];
  readonly lengths: readonly number[] | undefined;
}

const forwardNames: Names<LatentForwardOptions> = { ...sequenceNames, form: true };
