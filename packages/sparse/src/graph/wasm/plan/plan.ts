import type { AttentionRequest, DType, Expression, ObservedStage, RowTransform } from '@heed/core';
import { isProduct, readsInput, transformedWidth } from '@heed/core';
import { pairExpressions, queryTablesOf, randomStreamsOf, requestDTypes, type RandomStream } from '@heed/core/compute';
import type { FloatStorage, Machine } from '@heed/runtime-wasm';

/** What kernels may rely on, and what was chosen for all of them. */
export interface GraphMachine extends Machine {
  readonly passBytes: number;
}

/** Everything that emitters and the kernel need to know. Plain data: equal plans give equal code. */
export interface Plan {
  /** product: scores are dot products. combined: a sum over channels of any expression. */
  readonly scoring: 'product' | 'combined';
  readonly machine: Machine;
  /** Width of the rows that are combined. */
  readonly scoreDim: number;
  readonly valueDim: number;
  /** Floats from one row to the next where rows are float32 of our own: whole vectors. */
  readonly scoreFloats: number;
  readonly valueFloats: number;
  /** Widest row that a transform reads or writes, in floats rounded up to whole vectors. */
  readonly rowFloats: number;
  readonly dtypes: { readonly query: FloatStorage; readonly key: FloatStorage; readonly value: FloatStorage; readonly output: FloatStorage };
  /** Query tables that the modifiers read, each with a place for its products. */
  readonly queryTables: readonly string[];
  readonly streams: readonly RandomStream[];
  /** Which inputs of an edge the expressions read, so that the others are not fetched. */
  readonly readsKeyPosition: boolean;
  readonly readsEdgeIndex: boolean;
  /** The mask allows every pair: the edges alone say who sees whom. */
  readonly allowsAll: boolean;
  /** A NaN or +∞ score must be looked for, since the normalization can hide it (L1). */
  readonly watchesScores: boolean;
  /** The program ends before what is applied once at the end (L13), and writes statistics. */
  readonly partial: boolean;
  /** Stages that this program writes instead of an output, and whether it adds up the weights of each key. */
  readonly observed: readonly ObservedStage[];
  readonly observesMass: boolean;
  /** Rows that are changed before they are gathered, so that float32 copies of all of them are made. */
  readonly preparesKeys: boolean;
  readonly preparesValues: boolean;
  /** A node's own row may be read where it lies: float32, and nothing changes it. */
  readonly readsQueryInPlace: boolean;
  /** Sums may go straight to the output: float32 in whole vectors, and nothing follows. */
  readonly writesInPlace: boolean;
  /** Edges and heads that one task has at least, unless its rows end. */
  readonly taskEdges: number;
  /**
   * Bytes of one head's keys and values above which they are gathered in two passes over all nodes, first the keys, then the values: while all threads gather from one
   * of them alone, it has the last cache to itself. Weights wait between the passes, and so do the keys that they belong to.
   */
  readonly passBytes: number;
}

/** The plan of the kernels of a request. */
export function planOf(request: AttentionRequest, { passBytes, ...machine }: GraphMachine): Plan {
  const { variant, queryDim, keyDim, valueDim } = request;
  const { scoring, normalization, masking } = variant;
  const dtypes = requestDTypes(request);
  const pairs = pairExpressions(variant);
  const { rule } = normalization;
  const scoreDim = widthsOf(scoring.queryTransforms, queryDim).at(-1) ?? queryDim;
  const streams = randomStreamsOf(variant);
  const read = (...names: Parameters<typeof readsInput>[1][]): boolean => [...pairs, scoring.combine].some((expression) => readsInput(expression, ...names));
  return {
    scoring: isProduct(scoring.combine) ? 'product' : 'combined',
    machine,
    scoreDim,
    valueDim,
    scoreFloats: wholeVectors(scoreDim),
    valueFloats: wholeVectors(valueDim),
    rowFloats: wholeVectors(Math.max(...widthsOf(scoring.queryTransforms, queryDim), ...widthsOf(scoring.keyTransforms, keyDim), valueDim)),
    dtypes: { query: storageOf(dtypes.query), key: storageOf(dtypes.key), value: storageOf(dtypes.value), output: storageOf(dtypes.output) },
    queryTables: queryTablesOf(pairs),
    streams,
    readsKeyPosition: streams.length > 0 || read('keyPosition'),
    readsEdgeIndex: read('edgeIndex'),
    allowsAll: isTrue(masking.allowed),
    watchesScores: rule.kind !== 'softmax' || rule.score.kind !== 'input',
    partial: false,
    observed: [],
    observesMass: false,
    preparesKeys: scoring.keyTransforms.length > 0,
    preparesValues: variant.aggregation.prepare.kind !== 'input',
    readsQueryInPlace: dtypes.query === 'f32' && scoring.queryTransforms.length === 0 && queryTablesOf(pairs).length === 0,
    writesInPlace: dtypes.output === 'f32' && valueDim % 4 === 0 && variant.aggregation.finish.kind === 'input',
    taskEdges: 4096,
    passBytes,
  };
}

/** The plan of partial results, for a request as `partialRequestOf` makes it. */
export function partialPlanOf(request: AttentionRequest, machine: GraphMachine): Plan {
  return { ...planOf(request, machine), partial: true, writesInPlace: false };
}

/** The plan of the pass that looks at stages; null when none was asked for. */
export function observingPlanOf(request: AttentionRequest, machine: GraphMachine): Plan | null {
  const { observe } = request;
  if (observe === undefined || (observe.stages.length === 0 && observe.keyMass !== true)) return null;
  return { ...planOf(request, machine), observed: observe.stages, observesMass: observe.keyMass === true };
}

/** The plan in sentences. */
export function describePlan(plan: Plan): readonly string[] {
  const prepared = 'rows that a transform or a strided channel axis changes are written out once, as float32';
  return [
    `over edges: each node gathers the keys, then the values, of its own edges; scores by ${plan.scoring === 'product' ? 'dot products' : 'a sum over channels'}`,
    `keys and values are read where they lie; ${prepared}`,
    `keys and values of a head that take more than ${plan.passBytes} bytes are gathered in two passes over the nodes; between them, weights and keys of one head's edges wait`,
    `tasks of ${plan.taskEdges} edges or one node; scores of one node at a time are held, so extra memory follows the edges of the busiest node and the number of threads`,
    `${plan.machine.wide ? '256-bit' : '128-bit'} vectors, ${plan.machine.fused ? 'fused multiply-add' : 'multiply, then add'}; sums, statistics and weights in float32; bits do not depend on the number of threads`,
  ];
}

/** The width of a row before and after each transform. */
function widthsOf(transforms: readonly RowTransform[], dim: number): readonly number[] {
  const widths = [dim];
  for (const transform of transforms) widths.push(transformedWidth(transform, widths.at(-1) ?? dim));
  return widths;
}

function isTrue(expression: Expression): boolean {
  return expression.kind === 'constant' && expression.value === 1;
}

/** What `assess` lets through. */
function storageOf(dtype: DType): FloatStorage {
  if (dtype === 'f32' || dtype === 'f16' || dtype === 'bf16') return dtype;
  throw new RangeError(`kernels store no ${dtype}`);
}

function wholeVectors(floats: number): number {
  return Math.ceil(floats / 4) * 4;
}
