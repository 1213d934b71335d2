export { attention, isProduct } from './variant.ts';
export type { AttentionStages, AttentionVariant } from './variant.ts';
export { AttentionError, errorCodes, isAttentionError } from './errors.ts';
export type { ErrorCode } from './errors.ts';
export * from './tensor.ts';
export * from './backend.ts';
export type { BlockList, TileClass } from './block-list.ts';
export type { EdgeList } from './edge-list.ts';
export { fastWeights } from './fast-weights.ts';
export type { FastWeightOptions, FastWeightVariant } from './fast-weights.ts';
export * from './fast-weights/rule.ts';
export { parametersOf } from './fast-weights/inner-model.ts';
export type { InnerParameter } from './fast-weights/inner-model.ts';
export { hiddenDimOf, stateShapes, widthOf } from './fast-weights/state.ts';
export type { StateSizes } from './fast-weights/state.ts';
export { additiveRule } from './fast-weights/rules/additive.ts';
export { decayRule, retentionLogDecay } from './fast-weights/rules/decay.ts';
export type { DecayOptions } from './fast-weights/rules/decay.ts';
export { deltaRule, gatedDeltaRule, kdaRule } from './fast-weights/rules/delta.ts';
export { rwkv7Rule } from './fast-weights/rules/rwkv7.ts';
export { tttLinearRule, tttMlpRule } from './fast-weights/rules/ttt.ts';
export type { TttOptions } from './fast-weights/rules/ttt.ts';
export { titansRule } from './fast-weights/rules/titans.ts';
export type { TitansOptions } from './fast-weights/rules/titans.ts';
export { inPlaceRule } from './fast-weights/rules/in-place.ts';
export type { InPlaceOptions } from './fast-weights/rules/in-place.ts';
export type { HostPartial, MergeClass, Partial } from './partial.ts';
export type { BoundCall, BoundSequence, BoundTable } from './bind.ts';

export * from './expression/node.ts';
export { constant, input, operation, Term } from './expression/build.ts';
export type { Operand } from './expression/build.ts';
export type { Axis, Declarations, KnownAxis, TableDeclaration, UniformDeclaration, UniformValue } from './expression/declarations.ts';
export { evaluate } from './expression/evaluate.ts';
export type { Environment } from './expression/evaluate.ts';
export { simplify } from './expression/simplify.ts';
export { print } from './expression/print.ts';
export { bound, everything } from './expression/bound.ts';
export type { BoundEnvironment, Interval } from './expression/bound.ts';
export { differentiableLeaves, differentiate } from './expression/differentiate.ts';
export { randomAt, randomKey, threefry2x32, threefryParity, threefryRotations, unitInterval } from './expression/random.ts';
export { slots, write } from './expression/scope.ts';
export type { Formula, QueryTableTerm, Scope, ScopeTools, Slot, SlotInputs, TableTerm } from './expression/scope.ts';

export { Scoring, scoring } from './stages/scoring/stage.ts';
export type { ScaleOptions, ScoringData } from './stages/scoring/stage.ts';
export { scaledDot } from './stages/scoring/scaled-dot.ts';
export { additive } from './stages/scoring/additive.ts';
export type { AdditiveOptions } from './stages/scoring/additive.ts';

export * from './stages/transforms/transform.ts';
export { projection } from './stages/transforms/projection.ts';
export type { ProjectionOptions } from './stages/transforms/projection.ts';
export { rope } from './stages/transforms/rope.ts';
export type { RopeOptions } from './stages/transforms/rope.ts';

export { modifier } from './stages/modifiers/modifier.ts';
export type { Modifier } from './stages/modifiers/modifier.ts';
export { softcap } from './stages/modifiers/softcap.ts';
export { alibi, alibiSlopes } from './stages/modifiers/alibi.ts';
export type { AlibiOptions } from './stages/modifiers/alibi.ts';

export { full, mask, Masking } from './stages/masking/stage.ts';
export { causal } from './stages/masking/causal.ts';
export { window } from './stages/masking/window.ts';
export type { WindowOptions } from './stages/masking/window.ts';

export { Normalization, normalization } from './stages/normalization/stage.ts';
export type { NormalizationData, NormalizationRule } from './stages/normalization/stage.ts';
export { softmax, softmaxOffByOne } from './stages/normalization/softmax.ts';
export type { SoftmaxOptions } from './stages/normalization/softmax.ts';

export { Aggregation } from './stages/aggregation/stage.ts';
export type { AggregationData, Reduction } from './stages/aggregation/stage.ts';
export { weightedSum } from './stages/aggregation/weighted-sum.ts';
