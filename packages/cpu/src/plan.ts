import type { AttentionRequest, DType, ObservedStage } from '@heed/core';
import type { RandomStream } from '@heed/core/compute';
import { isProduct, readsInput, transformedWidth } from '@heed/core';
import { isOnline, pairExpressions, queryTablesOf, randomStreamsOf, requestDTypes } from '@heed/core/compute';
import type { FloatStorage } from '@heed/runtime-wasm';

/** What the engine offers; the same for every plan of a backend. */
export interface Machine {
  /** Relaxed SIMD: multiply-add with one rounding. */
  readonly fused: boolean;
  /** Pairs of 128-bit operations are packed into 256-bit ones. */
  readonly wide: boolean;
  /** The memory is shared with workers. */
  readonly shared: boolean;
}

/** What a module computes. blocks: any call, queries in blocks. parts: few queries, keys and values where they lie. keys: transformed keys alone. */
export type Purpose = 'blocks' | 'parts' | 'keys';

/** Everything that emitters and the kernel need to know. Plain data: equal plans give equal code. */
export interface Plan {
  /**
   * online: one walk over the keys with running statistics; nothing is held but one tile.
   * rows: the scores of whole rows are held for a few queries at a time, for normalizations that need all of them at once.
   */
  readonly path: 'online' | 'rows';
  /** product: scores are a matrix product. pairwise: a sum over channels of any expression. */
  readonly scoring: 'product' | 'pairwise';
  readonly machine: Machine;
  /** Register tile: query rows × keys, and query rows × value channels. */
  readonly tile: { readonly rows: number; readonly columns: number };
  /** Query rows of the register tile in sums of values, which has the columns of the other. */
  readonly valueRows: number;
  /** Query rows of one task, a multiple of tile.rows and of valueRows. */
  readonly blockQuery: number;
  /** Query rows in which masks are classified: rows of a block before or behind which a tile sees nothing are left out of it. Divides blockQuery, a multiple of what blockQuery is a multiple of. */
  readonly stepQuery: number;
  /** Most keys of one tile, a multiple of tile.columns. */
  readonly blockKey: number;
  /** Keys of a step in which masks are classified; a multiple of tile.columns. */
  readonly stepKey: number;
  /** Width of the rows that are combined. */
  readonly scoreDim: number;
  readonly valueDim: number;
  /** Floats from one row of a score tile to the next: an odd number of cache lines, so that a column of it spreads over all sets of the first cache. */
  readonly scoreStride: number;
  /** Floats from one packed value row, or one accumulated row, to the next: valueDim in whole tiles, then as `scoreStride`. */
  readonly valueStride: number;
  /** Widest row that a transform reads or writes, in floats rounded up to whole vectors. */
  readonly rowFloats: number;
  readonly dtypes: { readonly query: FloatStorage; readonly key: FloatStorage; readonly value: FloatStorage; readonly output: FloatStorage };
  /** Query tables that the modifiers read, each with a place for its products. */
  readonly queryTables: readonly string[];
  /** Random streams, [seed uniform, stream], each with one key for each head. */
  readonly streams: readonly RandomStream[];
  /** A second program for few queries, which reads keys and values where they lie instead of packing them. */
  readonly readsInPlace: boolean;
  /** Keys of one part when few queries share the cores; parts are merged in order (L14: by key length alone). */
  readonly partKeys: number;
  /** Most query rows, of all heads of a group, that one part keeps at hand: a multiple of four and of valueRows. */
  readonly partRows: number;
  /** Stages that this program writes instead of an output, and whether it adds up the weights of each key. */
  readonly observed: readonly ObservedStage[];
  readonly observesMass: boolean;
  /** The program ends before what is applied once at the end (L13), and writes statistics. */
  readonly partial: boolean;
  /** A NaN or +∞ score must be looked for, since the normalization can hide it (L1). */
  readonly watchesScores: boolean;
  /** Allowed keys are counted, since the statistics do not tell an empty row. */
  readonly countsKeys: boolean;
}

export function planOf(request: AttentionRequest, machine: Machine): Plan {
  return planFor(request, machine, isOnline(request.variant) ? 'online' : 'rows');
}

/** The plan of partial results, for a request as `partialRequestOf` makes it. */
export function partialPlanOf(request: AttentionRequest, machine: Machine): Plan {
  return { ...planOf(request, machine), partial: true, countsKeys: request.variant.normalization.rule.kind !== 'softmax' || !isOnline(request.variant) };
}

/**
 * The plan of the program for few queries. Its tiles are as long as its parts, since whoever reads keys and then values of a tile jumps from one to the other, and memory is
 * fetched ahead only while it is read in order; few rows of scores fit the first cache even so.
 */
export function partsPlanOf(plan: Plan): Plan {
  return { ...plan, blockQuery: plan.partRows, blockKey: plan.partKeys, scoreStride: oddLines(plan.partKeys) };
}

/** The plan of the pass that looks at stages; null when none was asked for. */
export function observingPlanOf(request: AttentionRequest, machine: Machine): Plan | null {
  const { observe } = request;
  if (observe === undefined || (observe.stages.length === 0 && observe.keyMass !== true)) return null;
  return { ...planFor(request, machine, 'rows'), observed: observe.stages, observesMass: observe.keyMass === true };
}

function planFor(request: AttentionRequest, machine: Machine, path: Plan['path']): Plan {
  const { variant, queryDim, keyDim, valueDim } = request;
  const dtypes = requestDTypes(request);
  const { rule } = variant.normalization;
  const scoring = isProduct(variant.scoring.combine) ? 'product' : 'pairwise';
  const { tile, valueRows } = tilesOf(path, scoring, machine);
  const widths = [...widthsOf(variant.scoring.queryTransforms, queryDim), ...widthsOf(variant.scoring.keyTransforms, keyDim)];
  const queryTables = queryTablesOf(pairExpressions(variant));
  const [blockQuery, blockKey] = [path === 'rows' ? 16 : 48, 128];
  const scoreDim = variant.scoring.queryTransforms.reduce((width, transform) => transformedWidth(transform, width), queryDim);
  return {
    path,
    scoring,
    machine,
    tile,
    valueRows,
    blockQuery,
    // Products with query tables lie block by block.
    stepQuery: queryTables.length > 0 || path === 'rows' ? blockQuery : 24,
    blockKey,
    stepKey: 16,
    scoreDim,
    valueDim,
    scoreStride: oddLines(blockKey),
    valueStride: oddLines(roundUp(valueDim, tile.columns)),
    rowFloats: roundUp(Math.max(...widths, valueDim), 4),
    dtypes: { query: storageOf(dtypes.query), key: storageOf(dtypes.key), value: storageOf(dtypes.value), output: storageOf(dtypes.output) },
    queryTables,
    streams: randomStreamsOf(variant),
    readsInPlace: path === 'online' && canReadInPlace(request, scoring, scoreDim),
    partKeys: 512,
    partRows: 24,
    observed: [],
    observesMass: false,
    partial: false,
    watchesScores: path === 'rows' || rule.kind !== 'softmax' || rule.score.kind !== 'input',
    countsKeys: path === 'rows' || rule.kind !== 'softmax',
  };
}

/** Rows are products of whole vectors, and nothing changes keys or values on the way. */
function canReadInPlace(request: AttentionRequest, scoring: Plan['scoring'], scoreDim: number): boolean {
  const { variant, valueDim } = request;
  const readsHead = readsInput(variant.masking.allowed, 'head', 'keyHead');
  return scoring === 'product' && scoreDim % 4 === 0 && valueDim % 4 === 0 && variant.aggregation.prepare.kind === 'input' && !readsHead && queryTablesOf(pairExpressions(variant)).length === 0;
}

/** Floats of a row, one cache line more where they were an even number of lines. */
function oddLines(floats: number): number {
  return floats % 32 === 0 ? floats + 16 : floats;
}

/**
 * Six rows hide the latency of multiply-add behind twelve sums, which is what fits beside a row of columns and a spread number in the registers that V8 uses.
 * In wide products of queries and keys four rows are as fast, and eight rows less are thrown away where a mask ends.
 */
function tilesOf(path: Plan['path'], scoring: Plan['scoring'], { wide }: Machine): Pick<Plan, 'tile' | 'valueRows'> {
  if (scoring === 'pairwise') return { tile: { rows: 2, columns: 8 }, valueRows: 4 };
  const columns = wide ? 16 : 8;
  if (path === 'rows') return { tile: { rows: 4, columns }, valueRows: 4 };
  return { tile: { rows: wide ? 4 : 6, columns }, valueRows: 6 };
}

function widthsOf(transforms: AttentionRequest['variant']['scoring']['queryTransforms'], dim: number): readonly number[] {
  const widths = [dim];
  for (const transform of transforms) widths.push(transformedWidth(transform, widths.at(-1) ?? dim));
  return widths;
}

/** What `assess` lets through. */
function storageOf(dtype: DType): FloatStorage {
  if (dtype === 'f32' || dtype === 'f16' || dtype === 'bf16') return dtype;
  throw new RangeError(`kernels store no ${dtype}`);
}

export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
