/** Calls with seeded numbers, run by this package and by the float64 reference. */
import type { FastWeightInputs, FastWeightOutputs, FastWeightRequest, FastWeightVariant, HostTensor, Tensor } from '@heed/core';
import { additiveRule, decayRule, deltaRule, eluFeatures, fastWeights, gatedDeltaRule, inputsOfRule, isHostTensor, kdaRule, l2Norm, rwkv7Rule, slice, tensor, toFloat64 } from '@heed/core';
import { widthOf } from '@heed/core/compute';
import { createReferenceBackend } from '@heed/core/reference';
import { RandomSource } from '@heed/conformance';
import { expect } from 'vitest';

export const rules: Readonly<Record<string, FastWeightVariant>> = {
  additive: fastWeights({ rule: additiveRule(), scale: 1 }),
  rowSum: fastWeights({ rule: additiveRule(), transformQuery: [eluFeatures()], transformKey: [eluFeatures()], rowSum: true, scale: 1 }),
  retention: fastWeights({ rule: decayRule({ by: 'head' }) }),
  mamba2: fastWeights({ rule: decayRule({ by: 'step', strength: true }), scale: 1 }),
  gla: fastWeights({ rule: decayRule({ by: 'channel' }) }),
  delta: fastWeights({ rule: deltaRule(), transformKey: [l2Norm()] }),
  gatedDelta: fastWeights({ rule: gatedDeltaRule(), transformKey: [l2Norm()] }),
  kda: fastWeights({ rule: kdaRule(), transformKey: [l2Norm()] }),
  rwkv7: fastWeights({ rule: rwkv7Rule(), scale: 1 }),
};

export interface Sizes {
  readonly batch?: number;
  readonly heads?: number;
  readonly valueHeads?: number;
  readonly length: number;
  readonly dim?: number;
  readonly valueDim?: number;
}

export interface Draw {
  readonly seed?: number;
  /** Every log decay, and every write strength; default: drawn. */
  readonly logDecay?: number;
  readonly strength?: number;
  /** Keys that differ from the first by a thousandth. */
  readonly nearDuplicateKeys?: boolean;
}

export interface Call {
  readonly request: FastWeightRequest;
  readonly inputs: FastWeightInputs & Readonly<Record<'query' | 'key' | 'value', HostTensor>>;
}

export function normal(random: RandomSource, shape: readonly number[]): HostTensor {
  return tensor(Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, () => random.normal()), shape);
}

export function drawCall(variant: FastWeightVariant, { batch = 1, heads = 1, valueHeads = heads, length, dim = 8, valueDim = dim }: Sizes, draw: Draw = {}): Call {
  const random = new RandomSource(draw.seed ?? 1);
  const request: FastWeightRequest = { variant, dim, valueDim };
  const width = widthOf(request);
  const entries = (shape: readonly number[], entry: () => number): HostTensor => tensor(Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, entry), shape);
  const key = normal(random, [batch, heads, length, dim]);
  if (draw.nearDuplicateKeys === true) {
    const view = key.view();
    for (let at = dim; at < view.length; at += 1) view[at] = Number(view[at % dim]) + 1e-3 * random.normal();
  }
  const by = variant.rule.kind === 'recurrent' ? variant.rule.steps.find((step) => step.step === 'decay')?.by : undefined;
  const decayShape = by === 'head' ? [1, valueHeads, 1] : [batch, valueHeads, length, ...(by === 'channel' ? [width] : [])];
  const rows = [batch, valueHeads, length, width];
  const unit = (): HostTensor => entries(rows, () => random.normal() / Math.sqrt(width));
  const made = {
    logDecay: () => entries(decayShape, () => draw.logDecay ?? -0.7 * random.uniform()),
    writeStrength: () => entries([batch, valueHeads, length], () => draw.strength ?? random.uniform()),
    removalKey: unit,
    removalWeight: () => entries(rows, () => random.uniform()),
    momentum: () => entries([batch, valueHeads, length], () => random.uniform()),
  };
  const inputs = { query: normal(random, [batch, heads, length, dim]), key, value: normal(random, [batch, valueHeads, length, valueDim]) };
  return { request, inputs: { ...inputs, ...Object.fromEntries(inputsOfRule(variant.rule).map((name) => [name, made[name]()])) } };
}

const reference = createReferenceBackend();

export async function expected({ request, inputs }: Call): Promise<FastWeightOutputs> {
  const kernel = await reference.prepare({ ...request, dtypes: { output: 'f64' } });
  return kernel.run(inputs);
}

export async function expectedGradients({ request, inputs }: Call, outer: HostTensor): Promise<Readonly<Record<string, Tensor>>> {
  const kernel = await reference.prepare(request);
  const { saved } = await kernel.run(inputs);
  if (saved === undefined) throw new Error('the request names no gradients');
  return kernel.backward(inputs, saved, { output: outer });
}

export function numbers(given: Tensor | undefined): Float64Array {
  if (given === undefined || !isHostTensor(given)) throw new Error('expected a tensor of the host');
  return toFloat64(given);
}

/** Every element within `tolerance` of the largest one expected. */
export function expectClose(got: Tensor | undefined, want: Tensor | undefined, tolerance: number, what: string): void {
  const [a, b] = [numbers(got), numbers(want)];
  expect(a.length, `elements of ${what}`).toBe(b.length);
  const largest = b.reduce((most, element) => Math.max(most, Math.abs(element)), 1e-30);
  const worst = b.reduce((most, element, index) => Math.max(most, Math.abs(element - (a[index] ?? Number.NaN))), 0);
  expect(a.every((element) => Number.isFinite(element)), `${what} is finite`).toBe(true);
  expect(worst / largest, `error of ${what}`).toBeLessThan(tolerance);
}

/** Tokens from … to − 1 of every input. */
export function tokensOf(inputs: FastWeightInputs, from: number, to: number): FastWeightInputs {
  const parts = Object.entries(inputs).map(([name, part]: [string, HostTensor]) => [name, part.shape[2] === 1 && name === 'logDecay' ? part : slice(part, 2, from, to)] as const);
  return Object.fromEntries(parts) as unknown as FastWeightInputs;
}
