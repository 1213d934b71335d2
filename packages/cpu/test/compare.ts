/** Runs a variant on this backend and on the float64 reference, on the same inputs. */
import type { AttentionInputs, AttentionOutputs, AttentionRequest, AttentionStages, Backend, HostTensor, Tensor } from '@heed/core';
import { attention, isHostTensor, tensor, toFloat64 } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { RandomSource } from '@heed/conformance';
import { expect } from 'vitest';

export interface Shape {
  readonly batch?: number;
  readonly heads?: number;
  readonly keyHeads?: number;
  readonly queryLength: number;
  readonly keyLength?: number;
  readonly dim?: number;
  readonly valueDim?: number;
}

/** Normal numbers from a seed. */
export function normal(random: RandomSource, shape: readonly number[]): HostTensor {
  return tensor(Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, () => random.normal()), shape);
}

export function inputsOf(seed: number, { batch = 1, heads = 2, keyHeads = heads, queryLength, keyLength = queryLength, dim = 8, valueDim = dim }: Shape): AttentionInputs {
  const random = new RandomSource(seed);
  return { query: normal(random, [batch, heads, queryLength, dim]), key: normal(random, [batch, keyHeads, keyLength, dim]), value: normal(random, [batch, keyHeads, keyLength, valueDim]) };
}

export function requestOf(stages: AttentionStages, { dim = 8, valueDim = dim }: Pick<Shape, 'dim' | 'valueDim'>): AttentionRequest {
  return { variant: attention(stages), queryDim: dim, keyDim: dim, valueDim };
}

/** Float32 sums over at most a few hundred terms of unit size: a few hundred half units in the last place of 1, and as much of the result. */
const tolerance = 1e-5;

/** @throws when an element differs by more than the tolerance */
export async function expectReference(backend: Backend, request: AttentionRequest, inputs: AttentionInputs, allowed: number = tolerance): Promise<void> {
  const reference = createReferenceBackend();
  const [want, got] = await Promise.all([runOn(reference, request, inputs), runOn(backend, request, inputs)]);
  expectClose(got.output, want.output, allowed);
  if (want.logSumExp !== undefined && got.logSumExp !== undefined) expectClose(got.logSumExp, want.logSumExp, allowed);
  expect(got.logSumExp === undefined).toBe(want.logSumExp === undefined);
  await reference.dispose();
}

export async function runOn(backend: Backend, request: AttentionRequest, inputs: AttentionInputs): Promise<AttentionOutputs> {
  const kernel = await backend.prepare(request);
  try {
    return await kernel.run(inputs);
  } finally {
    await kernel.dispose();
  }
}

export function numbersOf(given: Tensor): Float64Array {
  if (!isHostTensor(given)) throw new Error('the tensor has no view');
  return toFloat64(given);
}

export function expectClose(got: Tensor, want: Tensor, allowed: number): void {
  const [a, b] = [numbersOf(got), numbersOf(want)];
  expect(a).toHaveLength(b.length);
  const wrong = b.findIndex((value, index) => !isClose(a[index] ?? Number.NaN, value, allowed));
  expect(wrong, `element ${wrong}: got ${a[wrong]}, want ${b[wrong]}`).toBe(-1);
}

function isClose(got: number, want: number, allowed: number): boolean {
  return Object.is(got, want) || got === want || Math.abs(got - want) <= allowed * (1 + Math.abs(want));
}
