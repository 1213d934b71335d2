import { transformedWidth, type AttentionRequest, type DType, type ObservedStage, type RowTransform } from '@heed/core';
import { queryTablesOf, pairExpressions, randomStreamsOf, requestDTypes, type RandomStream } from '@heed/core/compute';

/** Lanes of the workgroup that computes one row of one head. */
export const nodeLanes = 32;

/** Everything that programs are written from. Plain data: equal plans and structures give equal text. */
export interface Plan {
  readonly queryDim: number;
  readonly keyDim: number;
  /** Width of the rows that are combined. */
  readonly scoreDim: number;
  readonly valueDim: number;
  /** Widest row that a transform reads or writes. */
  readonly rowWidth: number;
  readonly dtypes: Readonly<Record<'query' | 'key' | 'value' | 'output', DType>>;
  /** Neighbouring lanes that share the channels of one edge's score. */
  readonly scoreLanes: number;
  /** Neighbouring lanes that share the channels of one edge's value. */
  readonly valueLanes: number;
  readonly queryTables: readonly string[];
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
  const queryWidths = widthsOf(scoring.queryTransforms, queryDim);
  const scoreDim = queryWidths.at(-1) ?? queryDim;
  return {
    queryDim,
    keyDim,
    scoreDim,
    valueDim,
    rowWidth: Math.max(...queryWidths, ...widthsOf(scoring.keyTransforms, keyDim), valueDim),
    dtypes: requestDTypes(request),
    scoreLanes: lanesFor(scoreDim, 8),
    valueLanes: lanesFor(valueDim, nodeLanes),
    queryTables: queryTablesOf(pairExpressions(variant)),
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
  return { ...planOf(request), observed, statistics: [] };
}

/** The plan in sentences. */
export function describePlan(plan: Plan): readonly string[] {
  return [
    `over edges: a workgroup of ${nodeLanes} lanes for each node and head gathers the keys, then the values, of the node's edges`,
    `${plan.scoreLanes} lanes share the channels of a score, ${plan.valueLanes} those of a value; sums through workgroup memory, in one order`,
    'the weights of a run of nodes stand in a scratch buffer; sums, statistics and weights in float32; rows that are transformed or stored narrower are made float32 first',
    'masked scores are −10³⁰, and scores from there down count as −∞; a row without edges that count is 0',
  ];
}

/** The least power of two that holds the quads of a row, at most `most`. */
function lanesFor(dim: number, most: number): number {
  return Math.min(most, 2 ** Math.ceil(Math.log2(Math.ceil(dim / 4))));
}

function widthsOf(transforms: readonly RowTransform[], dim: number): readonly number[] {
  const widths = [dim];
  for (const transform of transforms) widths.push(transformedWidth(transform, widths.at(-1) ?? dim));
  return widths;
}
