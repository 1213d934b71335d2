import { transformedWidth, type AttentionRequest, type AttentionVariant, type DType, type ObservedStage } from '@heed/core';
import { isOnline, randomStreamsOf, requestDTypes, type RandomStream } from '@heed/core/compute';
import type { Machine } from '@heed/runtime-webgpu';
import { tileOf, type Tile } from './tiles.ts';

/** Rows of one invocation where whole rows of scores are held in a scratch buffer, which grows with them. */
const rowsOfWholeRows = 2;

/** How the rows of one side lie in the storage that kernels over pairs read. */
export interface Operand {
  readonly dtype: 'f32' | 'f16' | 'bf16';
  readonly dim: number;
}

/** Everything that kernels are written from. Plain data: equal plans and structures give equal text. */
export interface Plan {
  /**
   * online: one walk over the keys with running statistics; nothing is held but one tile.
   * rows: the scores of a block of whole rows are held in a scratch buffer, for normalizations that need all of them at once.
   */
  readonly path: 'online' | 'rows';
  readonly tile: Tile;
  /** Neighbouring lanes that reduce by subgroup operations: a power of two that every subgroup of the device holds, at most a team; 1 for none. */
  readonly subgroup: number;
  /** Shaders read float16 as such; else as halves of words. */
  readonly float16: boolean;
  readonly queryDim: number;
  readonly keyDim: number;
  /** Width of the rows that are combined. */
  readonly scoreDim: number;
  readonly valueDim: number;
  /** Widest row that a transform reads or writes. */
  readonly rowWidth: number;
  /** As tensors hold them. */
  readonly dtypes: { readonly query: DType; readonly key: DType; readonly value: DType; readonly output: DType };
  /** As kernels over pairs read them: rows that are transformed or prepared were made float32 before. */
  readonly operands: { readonly query: Operand; readonly key: Operand; readonly value: Operand };
  /** Random streams, [seed uniform, stream]. */
  readonly streams: readonly RandomStream[];
  /** The program ends before what is applied once at the end (L13). */
  readonly partial: boolean;
  /** The stage that this program writes instead of an output. */
  readonly observed: ObservedStage | null;
  /** What is written for each row beside the output. */
  readonly statistics: readonly ('logSumExp' | 'count' | 'denominator')[];
}

export function planOf(request: AttentionRequest, machine: Machine): Plan {
  const { variant, queryDim, keyDim, valueDim } = request;
  const { scoring, normalization, aggregation } = variant;
  const dtypes = requestDTypes(request);
  const widths = [...widthsOf(scoring.queryTransforms, queryDim), ...widthsOf(scoring.keyTransforms, keyDim), valueDim];
  const scoreDim = scoring.queryTransforms.reduce((width, transform) => transformedWidth(transform, width), queryDim);
  const tile = tileOf(machine, { valueDim });
  const { float16, subgroups } = machine;
  return withPath({
    path: isOnline(variant) ? 'online' : 'rows',
    tile,
    subgroup: Math.min(powerOfTwo(subgroups?.least ?? 1), tile.lanes),
    float16,
    queryDim,
    keyDim,
    scoreDim,
    valueDim,
    rowWidth: Math.max(...widths),
    dtypes,
    operands: {
      query: operand(dtypes.query, scoring.queryTransforms.length > 0, scoreDim),
      key: operand(dtypes.key, scoring.keyTransforms.length > 0, scoreDim),
      value: operand(dtypes.value, aggregation.prepare.kind !== 'input', valueDim),
    },
    streams: randomStreamsOf(variant),
    partial: false,
    observed: null,
    statistics: normalization.rule.kind === 'softmax' ? ['logSumExp'] : [],
  }, machine);
}

/** The plan of partial results, for a request as `partialRequestOf` makes it. */
export function partialPlanOf(request: AttentionRequest, machine: Machine): Plan {
  const { kind } = request.variant.normalization.rule;
  return { ...planOf(request, machine), partial: true, statistics: kind === 'softmax' ? ['logSumExp'] : kind === 'rowSum' ? ['count', 'denominator'] : ['count'] };
}

/** The plan of a pass that looks at one stage. */
export function observingPlanOf(request: AttentionRequest, machine: Machine, observed: ObservedStage): Plan {
  return withPath({ ...planOf(request, machine), path: 'rows', observed, statistics: [] }, machine);
}

function withPath(plan: Plan, machine: Machine): Plan {
  return plan.path === 'online' ? plan : { ...plan, tile: tileOf(machine, { valueDim: plan.valueDim, mostRows: rowsOfWholeRows }) };
}

function operand(dtype: DType, madeReady: boolean, dim: number): Operand {
  return { dtype: !madeReady && (dtype === 'f16' || dtype === 'bf16') ? dtype : 'f32', dim };
}

/** The largest power of two that is not above. */
function powerOfTwo(most: number): number {
  return 2 ** Math.floor(Math.log2(Math.max(1, most)));
}

function widthsOf(transforms: AttentionVariant['scoring']['queryTransforms'], dim: number): readonly number[] {
  const widths = [dim];
  for (const transform of transforms) widths.push(transformedWidth(transform, widths.at(-1) ?? dim));
  return widths;
}
