import { attention, AttentionError, causal, isHostTensor, type AttentionKernel, type AttentionVariant, type Backend, type Tensor, tensor, toFloat64, transformedWidth } from '@heed/core';
import type { CacheShape } from '../caches/cache.ts';
import { overElements } from '../expressions.ts';
import { linear, linearRows, splitHeads } from '../linear.ts';
import { checkOptionNames } from '../options.ts';
import { checkCount, checkWeights, Parameters } from '../parameters.ts';
import type { Temporaries } from '../temporaries.ts';
import { attend } from './attend.ts';
import { firstPositions, transformKeys, sequenceNames, withCache, type SequenceOptions } from './keys.ts';
import { onRuntime } from '../on-runtime.ts';
import { wholeRows } from './projections.ts';

/** Linear weights are [outputs, inputs]; each head has two rows of queries and of keys side by side, of half the width of its value. */
export interface DifferentialWeights {
  /** [heads · 2 · headDim, dim] */
  readonly query: Tensor;
  /** [keyHeads · 2 · headDim, dim] */
  readonly key: Tensor;
  /** [keyHeads · 2 · headDim, dim] */
  readonly value: Tensor;
  /** [dim of the output, heads · 2 · headDim] */
  readonly output: Tensor;
  /** [headDim] each. */
  readonly lambdaQuery1: Tensor;
  readonly lambdaKey1: Tensor;
  readonly lambdaQuery2: Tensor;
  readonly lambdaKey2: Tensor;
  /** [2 · headDim]: gain of the norm of each head. Default: ones. */
  readonly norm?: Tensor | undefined;
}

export interface DifferentialOptions {
  readonly backend: Backend;
  readonly heads: number;
  /** Default: `heads`. */
  readonly keyHeads?: number;
  readonly weights: DifferentialWeights;
  /** Index of the layer in the model, from 0: λ_init = 0.8 − 0.6 e^(−0.3 index). */
  readonly layerIndex?: number;
  /** λ_init itself. */
  readonly lambdaInit?: number;
  /** What each of the two attentions computes. Default causal. */
  readonly variant?: AttentionVariant;
  readonly tables?: Readonly<Record<string, Tensor>>;
  /** Of the norm of each head. Default 1e-5. */
  readonly epsilon?: number;
}

/**
 * Differential attention (Ye 2024, section 2.1): softmax₁ − λ softmax₂ over two sets of queries and keys and one of values; then each head is RMS-normed and multiplied by
 * 1 − λ_init, and λ = exp(λ_q1·λ_k1) − exp(λ_q2·λ_k2) + λ_init.
 *
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `unsupported`
 */
export async function createDifferentialAttention(options: DifferentialOptions): Promise<DifferentialAttention> {
  const { backend, weights, heads, keyHeads = heads } = options;
  checkCount('heads', heads, 1);
  checkCount('keyHeads', keyHeads, 1);
  const headDim = (weights.query.shape[0] ?? 0) / (2 * heads);
  const dim = weights.query.shape[1] ?? 0;
  if (!Number.isSafeInteger(headDim) || headDim < 1) throw new AttentionError('invalid-shape', `The query weight has ${weights.query.shape[0]} outputs for ${heads} heads.`, 'Expected 2 · headDim for each head.');
  checkWeights('differential attention', {
    key: [weights.key, [keyHeads * 2 * headDim, dim]],
    value: [weights.value, [keyHeads * 2 * headDim, dim]],
    output: [weights.output, ['outputs', heads * 2 * headDim]],
    norm: [weights.norm, [2 * headDim]],
    lambdaQuery1: [weights.lambdaQuery1, [headDim]],
    lambdaKey1: [weights.lambdaKey1, [headDim]],
    lambdaQuery2: [weights.lambdaQuery2, [headDim]],
    lambdaKey2: [weights.lambdaKey2, [headDim]],
  });
  const initial = options.lambdaInit ?? 0.8 - 0.6 * Math.exp(-0.3 * checkCount('layerIndex', options.layerIndex ?? 0, 0));
  const numbers = async (given: Tensor): Promise<Float64Array> => toFloat64(given.runtime === null && isHostTensor(given) ? given : await backend.runtime.read(given));
  const product = async (a: Tensor, b: Tensor): Promise<number> => {
    const [x, y] = [await numbers(a), await numbers(b)];
    return x.reduce((sum, value, index) => sum + value * (y[index] ?? 0), 0);
  };
  const lambda = Math.exp(await product(weights.lambdaQuery1, weights.lambdaKey1)) - Math.exp(await product(weights.lambdaQuery2, weights.lambdaKey2)) + initial;
  const gain = Float32Array.from(weights.norm === undefined ? new Float64Array(2 * headDim).fill(1) : await numbers(weights.norm), (value) => value * (1 - initial));
  const variant = options.variant ?? attention({ masking: causal() });
  const kernel = await backend.prepare({ variant, queryDim: headDim, keyDim: headDim, valueDim: 2 * headDim });
  return new DifferentialAttention(options, { heads, keyHeads, headDim, lambda }, gain, kernel);
}

interface Sizes {
  readonly heads: number;
  readonly keyHeads: number;
  readonly headDim: number;
  readonly lambda: number;
}

const difference = overElements(['a', 'b'], ({ a, b }, uniform) => a.sub(b.mul(uniform('lambda'))));

/** See {@link createDifferentialAttention}. */
export class DifferentialAttention {
  /** What weighs the second attention. */
  readonly lambda: number;
  /** Key rows hold both keys of a head side by side. */
  readonly cacheShape: CacheShape;
  readonly #sizes: Sizes;
  readonly #kernel: AttentionKernel;
  readonly #parameters: Parameters;
  readonly #weights: DifferentialWeights;
  readonly #tables: Readonly<Record<string, Tensor>>;
  readonly #gain: Tensor;
  readonly #epsilon: number;
  /** Width of a transformed key. */
  readonly #scoreDim: number;

  /** @internal use {@link createDifferentialAttention} */
  constructor({ backend, weights, tables = {}, epsilon = 1e-5 }: DifferentialOptions, sizes: Sizes, gain: Float32Array, kernel: AttentionKernel) {
    const { runtime } = backend;
    const parameters = new Parameters(runtime);
    this.lambda = sizes.lambda;
    this.#sizes = sizes;
    this.#kernel = kernel;
    this.#parameters = parameters;
    this.#weights = parameters.placeAll(weights);
    this.#tables = parameters.placeAll(tables);
    this.#gain = parameters.own(runtime.upload(tensor(gain, [gain.length])));
    this.#epsilon = epsilon;
    this.#scoreDim = kernel.request.variant.scoring.keyTransforms.reduce((width, transform) => transformedWidth(transform, width), sizes.headDim);
    this.cacheShape = { runtime, keyHeads: sizes.keyHeads, keyDim: 2 * this.#scoreDim, valueDim: 2 * sizes.headDim };
  }

  /** x [batch, length, dim] → [batch, length, dim of the output], where x lives. @throws AttentionError of the cache and of the kernel */
  async forward(x: Tensor, options: SequenceOptions = {}): Promise<Tensor> {
    checkOptionNames('the options', options, sequenceNames);
    const { lengths } = options;
    return onRuntime(this.#parameters.runtime, x, async (temporaries, here) => {
      const { runtime } = temporaries;
      const { heads, keyHeads, headDim, lambda } = this.#sizes;
      const [batch = 0, length = 0] = here.shape;
      const positions = firstPositions(here, options);
      const query = temporaries.keep(linearRows(temporaries, here, { weight: this.#weights.query }));
      const key = await this.#keys(temporaries, here, positions);
      const value = splitHeads(runtime, temporaries.keep(linearRows(temporaries, here, { weight: this.#weights.value })), { batch, length, heads: keyHeads, dim: 2 * headDim });
      const sets = withCache(temporaries, { key, value }, positions, options);
      const both: Tensor[] = [];
      for (const half of [0, 1]) {
        // Rows of one of the two queries: [batch · length, heads, headDim] of pairs.
        const taken = temporaries.keep(runtime.operations.copy(runtime.view(query, [batch * length, heads, headDim], [heads * 2 * headDim, 2 * headDim, 1], batch * length === 0 ? 0 : half * headDim)));
        const rows = runtime.view(taken, [batch * length, heads * headDim]);
        const width = heads * 2 * headDim;
        const attended = temporaries.keep(runtime.tensor([batch, length, width], 'f32'));
        const output = runtime.view(attended, [batch, heads, length, 2 * headDim], [length * width, 2 * headDim, width, 1]);
        const own = sets.map((keys) => ({ ...keys, key: this.#half(keys.key, half) }));
        await attend(temporaries, this.#kernel, { rows: wholeRows(rows), batch, heads, length, dim: headDim, positions, lengths }, own, { tables: this.#tables }, output);
        both.push(attended);
      }
      const [a, b] = both as [Tensor, Tensor];
      const mixed = temporaries.keep(runtime.operations.elementwise(difference, { a, b }, { uniforms: { lambda } }));
      const normed = temporaries.keep(runtime.operations.rowNorm(runtime.view(mixed, [batch, length, heads, 2 * headDim]), { norm: 'rms', epsilon: this.#epsilon, gain: this.#gain }));
      return linear(temporaries, runtime.view(normed, [batch, length, heads * 2 * headDim]), { weight: this.#weights.output });
    });
  }

  /** Waits for the last use. */
  async dispose(): Promise<void> {
    await this.#kernel.dispose();
    this.#parameters.release();
  }

  /** Both keys of each head side by side, each transformed by itself: [batch, keyHeads, length, 2 · scoreDim]. */
  async #keys(temporaries: Temporaries, x: Tensor, positions: readonly number[]): Promise<Tensor> {
    const { runtime } = temporaries;
    const { keyHeads, headDim } = this.#sizes;
    const [batch = 0, length = 0] = x.shape;
    const pairs = splitHeads(runtime, temporaries.keep(linearRows(temporaries, x, { weight: this.#weights.key })), { batch, length, heads: keyHeads, dim: 2 * headDim });
    if (this.#kernel.request.variant.scoring.keyTransforms.length === 0 || batch * length === 0) return pairs;
    const keys = temporaries.keep(runtime.tensor([batch, keyHeads, length, 2 * this.#scoreDim], 'f32'));
    for (const half of [0, 1]) {
      const own = runtime.view(pairs, [batch, keyHeads, length, headDim], pairs.strides, half * headDim);
      runtime.operations.copy(await transformKeys(temporaries, this.#kernel, own, positions, { tables: this.#tables }), { into: this.#half(keys, half) });
    }
    return keys;
  }

  #half(keys: Tensor, half: number): Tensor {
    const [batch = 0, heads = 0, rows = 0] = keys.shape;
    return this.#parameters.runtime.view(keys, [batch, heads, rows, this.#scoreDim], keys.strides, batch * rows === 0 ? 0 : half * this.#scoreDim);
  }
}
