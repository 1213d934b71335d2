import { transformedWidth, type AttentionRequest, type AttentionVariant, type DType, type ObservedStage } from '@heed/core';
import { isOnline, randomStreamsOf, requestDTypes, type RandomStream } from '@heed/core/compute';

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
  readonly streams: readonly RandomStream[];
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
    streams: randomStreamsOf(variant),
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

function widthsOf(transforms: AttentionVariant['scoring']['queryTransforms'], dim: number): readonly number[] {
  const widths = [dim];
  for (const transform of transforms) widths.push(transformedWidth(transform, widths.at(-1) ?? dim));
  return widths;
}
