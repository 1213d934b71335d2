import { attention, AttentionError, causal, scaledDot, type AttentionKernel, type Backend, type Masking, type Modifier, type Tensor } from '@heed/core';
import type { CacheShape } from '../caches/cache.ts';
import { overElements } from '../expressions.ts';
import { linear, linearRows, splitHeads } from '../linear.ts';
import { checkOptionNames } from '../options.ts';
import { checkCount, checkWeights, Parameters } from '../parameters.ts';
import type { Temporaries } from '../temporaries.ts';
import { attend } from './attend.ts';
import { firstPositions, sequenceNames, withCache, type SequenceOptions } from './keys.ts';
import { onRuntime } from '../on-runtime.ts';
import { wholeRows } from './projections.ts';

/** Linear weights are [outputs, inputs], rows of one head after those of another. */
export interface TalkingHeadsWeights {
  /** [scoreHeads · headDim, dim] */
  readonly query: Tensor;
  /** [scoreHeads · headDim, dim] */
  readonly key: Tensor;
  /** [valueHeads · valueDim, dim] */
  readonly value: Tensor;
  /** [dim of the output, valueHeads · valueDim] */
  readonly output: Tensor;
  /** P_l [scoreHeads, heads]: scores of each softmax head are mixed from those of the score heads. */
  readonly mixScores: Tensor;
  /** P_w [heads, valueHeads]: weights of each value head are mixed from those of the softmax heads. */
  readonly mixWeights: Tensor;
}

export interface TalkingHeadsOptions {
  readonly backend: Backend;
  readonly weights: TalkingHeadsWeights;
  /** Width of a query and key row. */
  readonly headDim: number;
  /** Factor of the scores before they are mixed. Default 1/√headDim. */
  readonly scale?: number;
  /** Applied to the mixed scores. */
  readonly modifiers?: readonly Modifier[];
  /** Default `causal()`. */
  readonly masking?: Masking;
  readonly tables?: Readonly<Record<string, Tensor>>;
}

/**
 * Talking-heads attention (Shazeer 2020, section 3): scores are mixed over heads before the softmax, and weights after it. Mixed scores are products of the keys of all score heads
 * side by side with queries that the mixing has scaled, so one key head serves all softmax heads and nothing of queryLength × keyLength is stored. Each softmax head then gives
 * an output for every value head, and those are mixed.
 *
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `unsupported`
 */
export async function createTalkingHeadsAttention(options: TalkingHeadsOptions): Promise<TalkingHeadsAttention> {
  const { backend, weights, headDim, modifiers = [], masking = causal() } = options;
  const [scoreHeads = 0, heads = 0] = weights.mixScores.shape;
  const valueHeads = weights.mixWeights.shape[1] ?? 0;
  checkCount('headDim', headDim, 1);
  const dim = weights.query.shape[1] ?? 0;
  const valueRows = weights.value.shape[0] ?? 0;
  checkWeights('talking-heads attention', {
    query: [weights.query, [scoreHeads * headDim, dim]],
    key: [weights.key, [scoreHeads * headDim, dim]],
    value: [weights.value, ['valueHeads · valueDim', dim]],
    output: [weights.output, ['outputs', valueRows]],
    mixScores: [weights.mixScores, [scoreHeads, heads]],
    mixWeights: [weights.mixWeights, [heads, valueHeads]],
  });
  if (valueHeads === 0 || valueRows % valueHeads !== 0) throw new AttentionError('invalid-shape', `The value weight has ${valueRows} outputs for ${valueHeads} heads.`, 'Expected a multiple.');
  const scoring = scaledDot({ scale: options.scale ?? 1 / Math.sqrt(headDim) }).modify(...modifiers);
  const kernel = await backend.prepare({ variant: attention({ scoring, masking }), queryDim: scoreHeads * headDim, keyDim: scoreHeads * headDim, valueDim: valueRows });
  return new TalkingHeadsAttention(options, { scoreHeads, heads, valueHeads, headDim, valueDim: valueRows / valueHeads }, kernel);
}

interface Sizes {
  readonly scoreHeads: number;
  readonly heads: number;
  readonly valueHeads: number;
  readonly headDim: number;
  readonly valueDim: number;
}

const product = overElements(['a', 'b'], ({ a, b }) => a.mul(b));

/** See {@link createTalkingHeadsAttention}. */
export class TalkingHeadsAttention {
  /** One key head, whose rows are those of all score heads and of all value heads side by side. */
  readonly cacheShape: CacheShape;
  readonly #sizes: Sizes;
  readonly #kernel: AttentionKernel;
  readonly #parameters: Parameters;
  readonly #weights: TalkingHeadsWeights;
  readonly #tables: Readonly<Record<string, Tensor>>;

  /** @internal use {@link createTalkingHeadsAttention} */
  constructor({ backend, weights, tables = {} }: TalkingHeadsOptions, sizes: Sizes, kernel: AttentionKernel) {
    const parameters = new Parameters(backend.runtime);
    this.#sizes = sizes;
    this.#kernel = kernel;
    this.#parameters = parameters;
    this.#weights = parameters.placeAll(weights);
    this.#tables = parameters.placeAll(tables);
    this.cacheShape = { runtime: backend.runtime, keyHeads: 1, keyDim: sizes.scoreHeads * sizes.headDim, valueDim: sizes.valueHeads * sizes.valueDim };
  }

  /** x [batch, length, dim] → [batch, length, dim of the output], where x lives. @throws AttentionError of the cache and of the kernel */
  async forward(x: Tensor, options: SequenceOptions = {}): Promise<Tensor> {
    checkOptionNames('the options', options, sequenceNames);
    return onRuntime(this.#parameters.runtime, x, async (temporaries, here) => {
      const { runtime } = temporaries;
      const { heads, valueHeads, valueDim } = this.#sizes;
      const [batch = 0, length = 0] = here.shape;
      const positions = firstPositions(here, options);
      const { keyDim, valueDim: allValues } = this.cacheShape;
      const rows = this.#mixedQueries(temporaries, here);
      const key = splitHeads(runtime, temporaries.keep(linearRows(temporaries, here, { weight: this.#weights.key })), { batch, length, heads: 1, dim: keyDim });
      const value = splitHeads(runtime, temporaries.keep(linearRows(temporaries, here, { weight: this.#weights.value })), { batch, length, heads: 1, dim: allValues });
      const sets = withCache(temporaries, { key, value }, positions, options);
      const streams = temporaries.keep(runtime.tensor([batch, heads, length, allValues], 'f32'));
      await attend(temporaries, this.#kernel, { rows: wholeRows(rows), batch, heads, length, dim: keyDim, positions, lengths: options.lengths }, sets, { tables: this.#tables }, streams);
      const mixed = this.#mixStreams(temporaries, streams);
      return linear(temporaries, runtime.view(mixed, [batch, length, valueHeads * valueDim]), { weight: this.#weights.output });
    });
  }

  /** Waits for the last use. */
  async dispose(): Promise<void> {
    await this.#kernel.dispose();
    this.#parameters.release();
  }

  /** Rows [batch · length, heads · (scoreHeads · headDim)]: the queries of all score heads, times what each softmax head takes of their scores. */
  #mixedQueries(temporaries: Temporaries, x: Tensor): Tensor {
    const { runtime } = temporaries;
    const { scoreHeads, heads, headDim } = this.#sizes;
    const query = temporaries.keep(linearRows(temporaries, x, { weight: this.#weights.query }));
    const count = query.shape[0] ?? 0;
    const shape = [count, heads, scoreHeads, headDim];
    const a = runtime.view(query, shape, [scoreHeads * headDim, 0, headDim, 1]);
    const [scoreStep = 0, headStep = 0] = this.#weights.mixScores.strides;
    const b = runtime.view(this.#weights.mixScores, shape, [0, headStep, scoreStep, 0]);
    const mixed = temporaries.keep(runtime.operations.elementwise(product, { a, b }));
    return runtime.view(mixed, [count, heads * scoreHeads * headDim]);
  }

  /** Streams [batch, heads, length, valueHeads · valueDim] → rows [batch, length, valueHeads, valueDim], dense: value head v takes its part of every softmax head, by P_w[·, v]. */
  #mixStreams(temporaries: Temporaries, streams: Tensor): Tensor {
    const { runtime } = temporaries;
    const { heads, valueHeads, valueDim } = this.#sizes;
    const [batch = 0, , length = 0, width = 0] = streams.shape;
    const byValueHead = temporaries.keep(runtime.operations.copy(runtime.view(streams, [batch, valueHeads, heads, length, valueDim], [heads * length * width, valueDim, length * width, width, 1])));
    const [fromStep = 0, toStep = 0] = this.#weights.mixWeights.strides;
    const mixing = runtime.view(this.#weights.mixWeights, [batch, valueHeads, 1, heads], [0, toStep, 0, fromStep]);
    const mixed = temporaries.keep(runtime.operations.matmul(mixing, runtime.view(byValueHead, [batch, valueHeads, heads, length * valueDim])));
    return temporaries.keep(runtime.operations.copy(runtime.view(mixed, [batch, length, valueHeads, valueDim], [valueHeads * length * valueDim, valueDim, length * valueDim, 1])));
  }
}
