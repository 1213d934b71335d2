import { transformedWidth, walk, type AttentionRequest, type AttentionVariant, type DType, type Expression, type ObservedStage } from '@heed/core';
import { requestDTypes } from '@heed/core/compute';
import { mergingOf } from './merging.ts';
import { pairSlots } from './structure.ts';

/** Everything that kernels are written from. Plain data: equal plans and structures give equal text. */
export interface Plan {
  /**
   * online: one walk over the keys with running statistics; nothing is held but one tile.
   * rows: the scores of a block of whole rows are held in a scratch buffer, for normalizations that need all of them at once.
   */
  readonly path: 'online' | 'rows';
  /** Query rows of one workgroup. */
  readonly blockQuery: number;
  /** Keys of one tile; a workgroup has blockQuery · blockKey invocations, one for each pair. */
  readonly blockKey: number;
  readonly queryDim: number;
  readonly keyDim: number;
  /** Width of the rows that are combined. */
  readonly scoreDim: number;
  readonly valueDim: number;
  /** Widest row that a transform reads or writes. */
  readonly rowWidth: number;
  readonly dtypes: { readonly query: DType; readonly key: DType; readonly value: DType; readonly output: DType };
  /** Random streams, [seed uniform, stream]. */
  readonly streams: readonly (readonly [seed: string, stream: number])[];
  /** The program ends before what is applied once at the end (L13). */
  readonly partial: boolean;
  /** The stage that this program writes instead of an output. */
  readonly observed: ObservedStage | null;
  /** What is written for each row beside the output. */
  readonly statistics: readonly ('logSumExp' | 'count' | 'denominator')[];
}

export function planOf(request: AttentionRequest): Plan {
  const { variant, queryDim, keyDim, valueDim } = request;
  const { scoring, normalization } = variant;
  const dtypes = requestDTypes(request);
  const widths = [...widthsOf(scoring.queryTransforms, queryDim), ...widthsOf(scoring.keyTransforms, keyDim), valueDim];
  const scoreDim = scoring.queryTransforms.reduce((width, transform) => transformedWidth(transform, width), queryDim);
  return {
    path: isOnline(variant) ? 'online' : 'rows',
    blockQuery: 16,
    blockKey: 16,
    queryDim,
    keyDim,
    scoreDim,
    valueDim,
    rowWidth: Math.max(...widths),
    dtypes,
    streams: streamsOf(variant),
    partial: false,
    observed: null,
    statistics: normalization.rule.kind === 'softmax' ? ['logSumExp'] : [],
  };
}

/** The plan of partial results, for a request as `partialRequestOf` makes it. */
export function partialPlanOf(request: AttentionRequest): Plan {
  const { kind } = request.variant.normalization.rule;
  return { ...planOf(request), partial: true, statistics: kind === 'softmax' ? ['logSumExp'] : kind === 'rowSum' ? ['count', 'denominator'] : ['count'] };
}

/** The plan of a pass that looks at one stage. */
export function observingPlanOf(request: AttentionRequest, observed: ObservedStage): Plan {
  return { ...planOf(request), path: 'rows', observed, statistics: [] };
}

/** One walk is enough when weights, or their numerators, follow from one score and the running statistics. */
function isOnline(variant: AttentionVariant): boolean {
  const { rule } = variant.normalization;
  if (variant.aggregation.reduction !== 'sum') return false;
  return rule.kind === 'elementwise' || ((rule.kind === 'softmax' || rule.kind === 'rowSum') && mergingOf(variant).mergeClass !== null);
}

function widthsOf(transforms: AttentionVariant['scoring']['queryTransforms'], dim: number): readonly number[] {
  const widths = [dim];
  for (const transform of transforms) widths.push(transformedWidth(transform, widths.at(-1) ?? dim));
  return widths;
}

function streamsOf(variant: AttentionVariant): Plan['streams'] {
  const streams = new Map<string, readonly [string, number]>();
  for (const expression of pairSlots(variant)) {
    for (const node of walk(expression)) if (node.kind === 'random') streams.set(`${node.seed} ${node.stream}`, [node.seed, node.stream]);
  }
  return [...streams.values()];
}

/** Names of the query tables that an expression reads. */
export function queryTablesOf(expressions: readonly Expression[]): readonly string[] {
  const names = new Set<string>();
  for (const expression of expressions) for (const node of walk(expression)) if (node.kind === 'queryTable') names.add(node.name);
  return [...names];
}
