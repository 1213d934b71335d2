/**
 * What stands between a variant and a result, for those who write backends or go beyond one call on one backend: binding a call, tiles and the two sparse
 * formats, partial results, dispatch, and the readings of expressions that compilers need. Describing and calling need none of it.
 */
export { blockListFromClasses, blockListFromMask, blockListToMask, intersectBlockLists, printBlockList, uniteBlockLists } from './block-list.ts';
export type { HostBlockList } from './block-list.ts';
export { classifyTiles, countTiles, listTiles, tileClasses } from './tiles.ts';
export type { TileClasses, TileSizes } from './tiles.ts';
export { TileRuns } from './tile-runs.ts';
export { dispatch } from './dispatch.ts';
export { edgeList, edgeListFromMask, edgesToMask } from './edge-list.ts';
export type { Edge, GraphSizes, HostEdgeList } from './edge-list.ts';
export { parametersOf } from './fast-weights/inner-model.ts';
export type { InnerParameter } from './fast-weights/inner-model.ts';
export { bindFastWeights } from './fast-weights/bind.ts';
export type { BoundFastWeights, BoundFastWeightSequence } from './fast-weights/bind.ts';
export { checkFastWeightRequest, fastWeightDTypes } from './fast-weights/request.ts';
export { hiddenDimOf, stateShapes, widthOf } from './fast-weights/state.ts';
export type { StateSizes } from './fast-weights/state.ts';
export { favorFrequencies } from './stages/transforms/favor-frequencies.ts';
export type { FavorFrequenciesOptions } from './stages/transforms/favor-frequencies.ts';
export { HostValues } from './host-values.ts';
export type { CallValues } from './host-values.ts';
export { observedShapeOf } from './observed-shape.ts';
export type { ObservedShape } from './observed-shape.ts';
export { pairExpressions, readsEdges } from './pair-expressions.ts';
export { isOnline, queryTablesOf, randomStreamsOf } from './pairs.ts';
export type { RandomStream } from './pairs.ts';
export { finalize, merge, mergeClassOf } from './partial.ts';
export type { Merging } from './partial.ts';
export { partialRequestOf } from './partial-request.ts';
export { unsupported } from './unsupported.ts';
export { bind, createBinder } from './bind.ts';
export type { Binder, BinderOptions, BoundCall, BoundKeys, BoundSequence, BoundTable, KeyInputs } from './bind.ts';
export { checkBlockList } from './validate/block-list.ts';
export type { PlaneSizes } from './validate/block-list.ts';
export { checkEdgeList } from './validate/edge-list.ts';
export { checkNames, didYouMean } from './validate/names.ts';
export type { Names } from './validate/names.ts';
export { checkOptions } from './validate/options.ts';
export { checkRequest, requestDTypes } from './validate/request.ts';
export type { RequestDTypes } from './validate/request.ts';
export type { Site, Structure, TransformSite } from './validate/structure.ts';
export { bound, everything } from './expression/bound.ts';
export type { BoundEnvironment, Interval } from './expression/bound.ts';
export { differentiableLeaves, differentiate } from './expression/differentiate.ts';
export { randomAt, randomKey, threefry2x32, threefryParity, threefryRotations, unitInterval } from './expression/random.ts';
