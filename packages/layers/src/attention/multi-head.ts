import { attention, AttentionError, outputGate, transformedWidth, type AttentionKernel, type AttentionVariant, type Backend, type DType, type Integers, type Tensor } from '@heed/core';
import type { CachedKeys, CacheShape, KeyValueCache } from '../caches/cache.ts';
import type { Names } from '@heed/core/compute';
import { checkPositions, forEach } from '../caches/rows.ts';
import { rowsOf } from '../caches/storage.ts';
import { linear, splitHeads, type Linear } from '../linear.ts';
import { checkOptionNames } from '../options.ts';
import { checkCount, checkWeights, Parameters } from '../parameters.ts';
import { Temporaries, withTemporaries } from '../temporaries.ts';
import { attend, type CallTables, type Positions, type QueryRows } from './attend.ts';
import { transformKeys } from './keys.ts';
import { Memory } from './memory.ts';
import { bringHere, onRuntime } from '../on-runtime.ts';
import { pieceLengths, piecesOf, queryPiece } from './pieces.ts';
import { Projections, type RowSlice } from './projections.ts';

/** Linear weights are [outputs, inputs], rows of one head after those of another; biases [outputs]. */
export interface MultiHeadWeights {
  /** [heads · queryDim, dim] */
  readonly query: Tensor;
  /** [keyHeads · keyDim, dim of the context] */
  readonly key: Tensor;
  /** [keyHeads · valueDim, dim of the context] */
  readonly value: Tensor;
  /** [dim of the output, heads · valueDim] */
  readonly output: Tensor;
  readonly queryBias?: Tensor | undefined;
  readonly keyBias?: Tensor | undefined;
  readonly valueBias?: Tensor | undefined;
  readonly outputBias?: Tensor | undefined;
  /** [heads · valueDim, dim]: each head's rows are multiplied by σ(gate · x) before the output projection (Qiu 2025; Qwen3-Next). */
  readonly gate?: Tensor | undefined;
  readonly gateBias?: Tensor | undefined;
}

export interface MultiHeadOptions {
  /** Who attends; its runtime computes the projections. */
  readonly backend: Backend;
  /** Query heads. */
  readonly heads: number;
  /** Key and value heads, of which `heads` is a multiple: 1 is multi-query attention. Default: `heads`. */
  readonly keyHeads?: number;
  /** Query, gate, key and value weights are copied side by side; the output's is used as it is where it lives on the runtime. */
  readonly weights: MultiHeadWeights;
  /** What is computed: rotary positions and norms of queries and keys are transforms of its scoring, biases its modifiers. Default `attention()`: everything is seen. */
  readonly variant?: AttentionVariant;
  /** Tables of the variant that are the same in every call; several layers may be given the same tensors. */
  readonly tables?: Readonly<Record<string, Tensor>>;
  /** Values that replace defaults of the variant's uniforms. */
  readonly uniforms?: Readonly<Record<string, number>>;
  /** Storage type of projected keys and values, and so of caches. Default f32. */
  readonly cacheDtype?: DType;
}

export interface ForwardOptions {
  /** The tokens before. What this call brings is appended to it. */
  readonly cache?: KeyValueCache | undefined;
  /** What is attended to: rows [batch, contextLength, dim of the context], or what `remember` made of them. Default: x. */
  readonly context?: Tensor | Memory | undefined;
  /** Rows of each sequence of x that count; the rest is padding on the right. Default: all. */
  readonly lengths?: Integers | undefined;
  /** The same of a context that is a tensor. */
  readonly contextLengths?: Integers | undefined;
  /** Position of the first row, for all sequences or for each: −p where p rows of padding stand on the left. Default: what follows the cache, else 0. */
  readonly position?: number | readonly number[] | undefined;
  /** A position for each row, i32 [batch | 1, length], in any order; not with a cache, whose positions follow one another. */
  readonly positions?: Tensor | undefined;
  /** Tables of this call, beside those of the layer. */
  readonly tables?: Readonly<Record<string, Tensor>> | undefined;
}

/**
 * Multi-head attention with weights (Vaswani 2017, section 3.2.2): queries, keys and values are projected, heads attend, and their outputs are projected back. Grouped and
 * multi-query attention are other numbers of key heads (Ainslie 2023; Shazeer 2019).
 *
 * @throws AttentionError `invalid-argument`, `invalid-shape` (every weight that does not fit, at once), `foreign-tensor`, `unsupported`
 */
export async function createMultiHeadAttention(options: MultiHeadOptions): Promise<MultiHeadAttention> {
  const { backend, weights, heads } = options;
  const keyHeads = options.keyHeads ?? heads;
  const sizes = sizesOf(weights, checkCount('heads', heads, 1), checkCount('keyHeads', keyHeads, 1));
  const variant = variantOf(options.variant ?? attention(), weights.gate !== undefined);
  const dtype = options.cacheDtype ?? 'f32';
  const kernel = await backend.prepare({ variant, queryDim: sizes.queryDim, keyDim: sizes.keyDim, valueDim: sizes.valueDim, dtypes: { key: dtype, value: dtype } });
  const parameters = new Parameters(backend.runtime);
  try {
    return new MultiHeadAttention(options, { ...sizes, heads, keyHeads }, kernel, parameters);
  } catch (error) {
    parameters.release();
    await kernel.dispose();
    throw error;
  }
}

interface Sizes {
  readonly heads: number;
  readonly keyHeads: number;
  readonly queryDim: number;
  readonly keyDim: number;
  readonly valueDim: number;
}

function sizesOf(weights: MultiHeadWeights, heads: number, keyHeads: number): Omit<Sizes, 'heads' | 'keyHeads'> {
  const { query, key, value, output, gate } = weights;
  const [queryRows = 0, dim = 0] = query.shape;
  const [keyRows = 0, contextDim = 0] = key.shape;
  const valueRows = value.shape[0] ?? 0;
  for (const [name, rows, among] of [['query', queryRows, heads], ['key', keyRows, keyHeads], ['value', valueRows, keyHeads]] as const) {
    if (rows === 0 || rows % among !== 0) throw new AttentionError('invalid-shape', `The ${name} weight has ${rows} outputs for ${among} heads.`, 'Expected a multiple, at least one for each head.');
  }
  const valueDim = valueRows / keyHeads;
  checkWeights('multi-head attention', {
    query: [query, [queryRows, dim]],
    key: [key, [keyRows, contextDim]],
    value: [value, [valueRows, contextDim]],
    output: [output, ['outputs', heads * valueDim]],
    gate: [gate, [heads * valueDim, dim]],
    queryBias: [weights.queryBias, [queryRows]],
    keyBias: [weights.keyBias, [keyRows]],
    valueBias: [weights.valueBias, [valueRows]],
    outputBias: [weights.outputBias, [output.shape[0] ?? 0]],
    gateBias: [weights.gateBias, [heads * valueDim]],
  });
  return { queryDim: queryRows / heads, keyDim: keyRows / keyHeads, valueDim };
}

function variantOf(variant: AttentionVariant, gated: boolean): AttentionVariant {
  if (!gated) return variant;
  const { scoring, masking, normalization, aggregation } = variant;
  return attention({ scoring, masking, normalization, aggregation: aggregation.finishBy(outputGate()) });
}

/** See {@link createMultiHeadAttention}. */
export class MultiHeadAttention {
  /** What a cache of this layer is made with, beside the batch: `createContiguousCache({ ...layer.cacheShape, batch })`. */
  readonly cacheShape: CacheShape;
  readonly #sizes: Sizes;
  readonly #kernel: AttentionKernel;
  readonly #parameters: Parameters;
  readonly #projections: Projections;
  readonly #output: Linear;
  readonly #call: Required<CallTables>;

  /** @internal use {@link createMultiHeadAttention} */
  constructor({ weights, tables = {}, uniforms = {}, cacheDtype = 'f32' }: MultiHeadOptions, sizes: Sizes, kernel: AttentionKernel, parameters: Parameters) {
    this.#sizes = sizes;
    this.#kernel = kernel;
    this.#parameters = parameters;
    const { query, key, value, gate, queryBias, keyBias, valueBias, gateBias } = weights;
    this.#output = parameters.placeAll({ weight: weights.output, bias: weights.outputBias });
    this.#projections = new Projections(
      parameters,
      { query: { weight: query, bias: queryBias }, key: { weight: key, bias: keyBias }, value: { weight: value, bias: valueBias }, gate: gate === undefined ? undefined : { weight: gate, bias: gateBias } },
      cacheDtype,
    );
    this.#call = { tables: parameters.placeAll(tables), uniforms };
    const keyDim = kernel.request.variant.scoring.keyTransforms.reduce((width, transform) => transformedWidth(transform, width), sizes.keyDim);
    this.cacheShape = { runtime: parameters.runtime, keyHeads: sizes.keyHeads, keyDim, valueDim: sizes.valueDim, dtype: cacheDtype };
  }

  /**
   * x [batch, length, dim] → [batch, length, dim of the output], where x lives: a tensor of the runtime is enqueued, and its result is the caller's to release; one of the host
   * is waited for.
   *
   * @throws AttentionError `invalid-argument`, `invalid-shape`, and those of the cache and of the kernel
   */
  async forward(x: Tensor, options: ForwardOptions = {}): Promise<Tensor> {
    checkOptionNames('the options', options, forwardNames);
    return onRuntime(this.#parameters.runtime, x, async (temporaries, here) => {
      const { runtime } = temporaries;
      const { heads, valueDim } = this.#sizes;
      const [batch = 0, length = 0] = here.shape;
      const attended = temporaries.keep(runtime.tensor([batch, length, heads * valueDim], 'f32'));
      await this.#attend(temporaries, here, options, attended);
      return linear(temporaries, attended, this.#output);
    });
  }

  /** Projects and transforms the keys and values of a context [batch, length, dim of the context], once for all the calls that attend to it. */
  async remember(context: Tensor, options: { readonly lengths?: Integers | undefined } = {}): Promise<Memory> {
    const { runtime } = this.#parameters;
    return withTemporaries(runtime, async (temporaries) => {
      const rows = new Temporaries(runtime);
      try {
        const here = bringHere(temporaries, context);
        const { key, value } = await this.#keysOf(rows, this.#projections.context(rows, here), here, [0]);
        return new Memory({ key, value, lengths: options.lengths }, rows);
      } catch (error) {
        rows.release();
        throw error;
      }
    });
  }

  /** Waits for the last use. */
  async dispose(): Promise<void> {
    await this.#kernel.dispose();
    this.#parameters.release();
  }

  /** Heads attend, and their outputs stand side by side in `attended` [batch, length, heads · valueDim]. */
  async #attend(temporaries: Temporaries, x: Tensor, options: ForwardOptions, attended: Tensor): Promise<void> {
    const { cache, context, lengths, contextLengths } = options;
    const [batch = 0, length = 0] = x.shape;
    const positions = this.#positions(options, batch);
    const call: CallTables = { ...this.#call, tables: { ...this.#call.tables, ...options.tables } };
    const to = (first: number, count: number): Tensor => {
      const { heads, valueDim } = this.#sizes;
      const width = heads * valueDim;
      return temporaries.runtime.view(attended, [batch, heads, count, valueDim], [length * width, valueDim, width, 1], first * width);
    };
    if (context !== undefined) {
      const query = this.#queryRows(this.#projections.queries(temporaries, x), x, positions, lengths);
      if (context instanceof Memory) return attend(temporaries, this.#kernel, query, [context.read()], call, to(0, length));
      const other = bringHere(temporaries, context);
      const { key, value } = await this.#keysOf(temporaries, this.#projections.context(temporaries, other), other, [0], call.tables);
      return attend(temporaries, this.#kernel, query, [{ key, value, ...(contextLengths === undefined ? {} : { keyLengths: contextLengths }) }], call, to(0, length));
    }
    const projected = this.#projections.all(temporaries, x);
    const query = this.#queryRows(projected, x, positions, lengths);
    const { key, value } = await this.#keysOf(temporaries, projected, x, positions, call.tables);
    if (cache === undefined) {
      const place = isPositions(positions) ? { keyPositions: positions } : { keyOffset: positions };
      return attend(temporaries, this.#kernel, query, [{ key, value, ...place, ...(lengths === undefined ? {} : { keyLengths: lengths }) }], call, to(0, length));
    }
    for (const piece of piecesOf(length, cache.chunk)) {
      const { first, count } = piece;
      const own = pieceLengths(lengths, piece);
      cache.append({ key: rowsOf(temporaries.runtime, key, { entry: null, row: first }, count), value: rowsOf(temporaries.runtime, value, { entry: null, row: first }, count), lengths: own });
      await attend(temporaries, this.#kernel, queryPiece(temporaries, query, piece, own), cache.read(temporaries), call, to(first, count));
    }
  }

  #positions({ cache, context, position, positions, lengths }: ForwardOptions, batch: number): Positions {
    if (positions !== undefined) {
      if (position !== undefined || cache !== undefined) throw new AttentionError('invalid-argument', `Both positions and ${cache === undefined ? 'position' : 'a cache'} are given.`, 'Pass one of them: positions in a cache follow one another.');
      return positions;
    }
    if (cache === undefined) return forEach(batch, position ?? 0, 'position');
    if (context !== undefined) throw new AttentionError('invalid-argument', 'Both a cache and a context are given.', 'Keep the keys of a context with remember(context).');
    if (cache.batch !== batch) throw new AttentionError('invalid-shape', `x has batch ${batch}, the cache ${cache.batch}.`, 'Expected the same.');
    if (lengths !== undefined && lengths.length !== batch) throw new AttentionError('invalid-lengths', `Got ${lengths.length} lengths for ${batch} sequences.`, 'Pass one for each.');
    checkPositions(cache.nextPositions, position);
    return cache.nextPositions;
  }

  #queryRows({ query, gate }: ReturnType<Projections['all']>, x: Tensor, positions: Positions, lengths: ForwardOptions['lengths']): QueryRows {
    const [batch = 0, length = 0] = x.shape;
    if (query === undefined) throw new AttentionError('internal', 'A layer has no query projection.', 'Please report it.');
    return { rows: query, batch, length, heads: this.#sizes.heads, dim: this.#sizes.queryDim, positions, lengths, gate };
  }

  /** Keys, transformed, and values of projected rows that stand at these positions: views or tensors that `rows` keeps. */
  async #keysOf(rows: Temporaries, { key, value }: ReturnType<Projections['all']>, x: Tensor, positions: Positions, tables: CallTables['tables'] = this.#call.tables): Promise<Pick<CachedKeys, 'key' | 'value'>> {
    const [batch = 0, length = 0] = x.shape;
    const { keyHeads, keyDim, valueDim } = this.#sizes;
    if (key === undefined || value === undefined) throw new AttentionError('internal', 'A layer has no key projection.', 'Please report it.');
    const heads = (slice: RowSlice, dim: number): Tensor => splitHeads(rows.runtime, slice.rows, { batch, length, heads: keyHeads, dim, start: slice.start });
    return { key: await transformKeys(rows, this.#kernel, heads(key, keyDim), positions, { ...this.#call, tables }), value: heads(value, valueDim) };
  }
}

const forwardNames: Names<ForwardOptions> = { cache: true, context: true, contextLengths: true, lengths: true, position: true, positions: true, tables: true };

function isPositions(positions: Positions): positions is Tensor {
  return 'dtype' in positions;
}
