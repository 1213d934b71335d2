import type { DType, FastWeightInputs, FastWeightRequest, FastWeightVariant, HostTensor } from '@heed/core';
import {
  additiveRule, decayRule, deltaRule, eluFeatures, elementCount, encode, fastWeights, gatedDeltaRule, inPlaceRule, inputsOfRule, kdaRule, l2Norm, rwkv7Rule, tensor, titansRule, toFloat64,
  tttLinearRule, tttMlpRule,
} from '@heed/core';
import { widthOf } from '@heed/core/compute';
import { normals } from './inputs.ts';
import type { RandomSource } from './random.ts';

/** Sizes of one fast-weight call. */
export interface FastShape {
  readonly batch: number;
  readonly heads: number;
  readonly valueHeads: number;
  readonly length: number;
  readonly dim: number;
  readonly valueDim: number;
}

export const smallFastShape: FastShape = { batch: 2, heads: 2, valueHeads: 4, length: 17, dim: 8, valueDim: 6 };

/** Recurrent rules, each with unit keys where it removes what it recalls. */
export const recurrentRules: Readonly<Record<string, () => FastWeightVariant>> = {
  additive: () => fastWeights({ rule: additiveRule(), scale: 1 }),
  additiveRowSum: () => fastWeights({ rule: additiveRule(), transformQuery: [eluFeatures()], transformKey: [eluFeatures()], rowSum: { epsilon: 1e-6 }, scale: 1 }),
  decayByHead: () => fastWeights({ rule: decayRule({ by: 'head' }) }),
  decayByStep: () => fastWeights({ rule: decayRule({ by: 'step', strength: true }), scale: 1 }),
  decayByChannel: () => fastWeights({ rule: decayRule({ by: 'channel' }) }),
  delta: () => fastWeights({ rule: deltaRule(), transformKey: [l2Norm()] }),
  gatedDelta: () => fastWeights({ rule: gatedDeltaRule(), transformKey: [l2Norm()] }),
  kda: () => fastWeights({ rule: kdaRule(), transformKey: [l2Norm()] }),
  rwkv7: () => fastWeights({ rule: rwkv7Rule(), scale: 1 }),
};

/** Rules that train weights while the sequence passes. They need valueDim = dim. */
export const trainingRules: Readonly<Record<string, () => FastWeightVariant>> = {
  tttLinear: () => fastWeights({ rule: tttLinearRule({ miniBatch: 4 }) }),
  tttMlp: () => fastWeights({ rule: tttMlpRule({ miniBatch: 4 }) }),
  titansLinear: () => fastWeights({ rule: titansRule(), transformQuery: [l2Norm()], transformKey: [l2Norm()] }),
  titansMlp: () => fastWeights({ rule: titansRule({ memory: 'mlp', expansion: 2, miniBatch: 3 }), transformQuery: [l2Norm()], transformKey: [l2Norm()] }),
  inPlace: () => fastWeights({ rule: inPlaceRule({ chunk: 5, taps: 3, projection: true }), transformQuery: [l2Norm()], transformKey: [l2Norm()] }),
};

export interface FastCall {
  readonly shape: FastShape;
  readonly request: FastWeightRequest;
  readonly inputs: FastWeightInputs & { readonly query: HostTensor; readonly key: HostTensor; readonly value: HostTensor };
}

export interface FastDrawOptions {
  readonly dtype?: DType;
  readonly output?: DType;
  /** Logarithm of every decay. Default: drawn from −0.7 to 0. */
  readonly logDecay?: number;
  /** Every write strength. Default: drawn from 0 to 1. */
  readonly strength?: number;
  /** Keys that differ from the first by 10⁻³ · N(0, 1). */
  readonly nearDuplicateKeys?: boolean;
}

/** Everything that a call of a rule binds, without a state. */
export function drawFastCall(random: RandomSource, variant: FastWeightVariant, shape: FastShape, options: FastDrawOptions = {}): FastCall {
  const { dtype = 'f32', output = 'f32' } = options;
  const { batch, heads, valueHeads, length, dim, valueDim } = shape;
  const request: FastWeightRequest = { variant, dim, valueDim, dtypes: { query: dtype, key: dtype, value: dtype, output } };
  const width = widthOf(request);
  const draw = (sizes: readonly number[], entry: () => number): HostTensor => tensor(Float32Array.from({ length: elementCount(sizes) }, entry), sizes);
  const stored = (sizes: readonly number[]): HostTensor => tensor(encode(normals(random, sizes), dtype), sizes, { dtype });
  const key = stored([batch, heads, length, dim]);
  if (options.nearDuplicateKeys === true) repeatFirstKey(key, random);
  const channelDecay = variant.rule.kind === 'recurrent' && variant.rule.steps.some((step) => step.step === 'decay' && step.by === 'channel');
  const headDecay = variant.rule.kind === 'recurrent' && variant.rule.steps.some((step) => step.step === 'decay' && step.by === 'head');
  const decayShape = headDecay ? [1, valueHeads, 1] : [batch, valueHeads, length, ...(channelDecay ? [width] : [])];
  const unitRows = (): HostTensor => unitLast(draw([batch, valueHeads, length, width], () => random.normal()));
  const extras = {
    logDecay: () => draw(decayShape, () => options.logDecay ?? -0.7 * random.uniform()),
    writeStrength: () => draw([batch, valueHeads, length], () => options.strength ?? (variant.rule.kind === 'recurrent' ? 1 : 0.2) * random.uniform()),
    removalKey: unitRows,
    removalWeight: () => draw([batch, valueHeads, length, width], () => random.uniform()),
    momentum: () => draw([batch, valueHeads, length], () => 0.8 * random.uniform()),
  };
  const given = Object.fromEntries(inputsOfRule(variant.rule).map((name) => [name, extras[name]()]));
  return {
    shape,
    request,
    inputs: { query: stored([batch, heads, length, dim]), key, value: stored([batch, valueHeads, length, valueDim]), ...given, tables: drawFastTables(random, request, shape, width) },
  };
}

/** Starting weights are small, so that training in the forward pass stays tame. */
function drawFastTables(random: RandomSource, request: FastWeightRequest, shape: FastShape, width: number): Readonly<Record<string, HostTensor>> {
  const { rule } = request.variant;
  const hiddenDim = rule.kind === 'gradient' ? rule.model.expansion * width : 0;
  const known: Readonly<Record<string, number>> = { valueHead: shape.valueHeads, scoreDim: width, valueDim: shape.valueDim, hiddenDim };
  return Object.fromEntries(
    Object.entries(request.variant.tables).map(([name, { axes }]) => {
      const sizes = axes.map((axis) => (typeof axis === 'number' ? axis : (known[axis] ?? 3)));
      return [name, tensor(Float32Array.from({ length: elementCount(sizes) }, () => (name === 'normGain' ? 1 : 0) + 0.3 * random.normal()), sizes)];
    }),
  );
}

function repeatFirstKey(key: HostTensor, random: RandomSource): void {
  const [, , length = 1, dim = 1] = key.shape;
  const view = key.view();
  for (let index = 0; index < view.length; index++) {
    const head = Math.floor(index / (length * dim));
    if (index % (length * dim) >= dim) view[index] = (view[head * length * dim + (index % dim)] ?? 0) + 1e-3 * random.normal();
  }
}

function unitLast(rows: HostTensor): HostTensor {
  const dim = rows.shape.at(-1) ?? 1;
  const values = toFloat64(rows);
  const unit = values.map((value, index) => {
    const row = values.subarray(index - (index % dim), index - (index % dim) + dim);
    return value / Math.sqrt(row.reduce((sum, one) => sum + one * one, 0));
  });
  return tensor(Float32Array.from(unit), rows.shape);
}
