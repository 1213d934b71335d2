/** Variants over edges, random graphs and inputs, and the dense reference that they are compared with. */
import type { AttentionInputs, AttentionOutputs, AttentionVariant, Backend, HostTensor, Tensor } from '@heed/core';
import { alibi, attention, causal, edgeBias, edgeFeatures, entmax, gat, gatV2, hardMax, isHostTensor, maximum, none, outputGate, rope, scaledDot, sigmoid, softmax, sparsemax, tensor, toFloat64, weightedSum } from '@heed/core';
import type { Edge, HostEdgeList } from '@heed/core/compute';
import { edgeList } from '@heed/core/compute';
import { createReferenceBackend } from '@heed/core/reference';
import { RandomSource } from '@heed/conformance';
import { expect } from 'vitest';

export interface GraphShape {
  readonly queryLength: number;
  readonly keyLength: number;
  readonly batch?: number;
  readonly heads?: number;
  readonly keyHeads?: number;
  readonly dim?: number;
  readonly valueDim?: number;
}

/** Each pair is an edge with this probability. */
export function randomGraph(random: RandomSource, { queryLength, keyLength }: GraphShape, probability: number): HostEdgeList {
  const edges: Edge[] = [];
  for (let query = 0; query < queryLength; query += 1) for (let key = 0; key < keyLength; key += 1) if (random.uniform() < probability) edges.push([query, key]);
  return edgeList(edges, { queryLength, keyLength });
}

export function normal(random: RandomSource, shape: readonly number[]): HostTensor {
  return tensor(Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, () => random.normal()), shape);
}

export function randomInputs(random: RandomSource, shape: GraphShape): Pick<AttentionInputs, 'query' | 'key' | 'value'> {
  const { batch = 1, heads = 2, keyHeads = heads, queryLength, keyLength, dim = 8, valueDim = dim } = shape;
  return { query: normal(random, [batch, heads, queryLength, dim]), key: normal(random, [batch, keyHeads, keyLength, dim]), value: normal(random, [batch, keyHeads, keyLength, valueDim]) };
}

/** The output of a call equals that of the float64 reference. */
export async function expectReference(backend: Backend, variant: AttentionVariant, inputs: AttentionInputs, shape: GraphShape): Promise<void> {
  const { dim = 8, valueDim = dim } = shape;
  const request = { variant, queryDim: dim, keyDim: dim, valueDim };
  const [got, want] = await Promise.all([backend, createReferenceBackend()].map(async (one): Promise<AttentionOutputs> => {
    const kernel = await one.prepare(request);
    const outputs = await kernel.run(inputs);
    await kernel.dispose();
    return outputs;
  }));
  expectClose('output', got?.output, want?.output);
  if (want?.logSumExp !== undefined) expectClose('logSumExp', got?.logSumExp, want.logSumExp);
}

/** Members of every stage, and all that edges carry. */
export const variants: Readonly<Record<string, AttentionVariant>> = {
  softmax: attention(),
  'softmax with a sink, behind a mask': attention({ masking: causal(), normalization: softmax({ sink: true }) }),
  'rotated keys': attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })) }),
  'linear biases': attention({ scoring: scaledDot().modify(alibi()) }),
  sparsemax: attention({ normalization: sparsemax() }),
  entmax: attention({ normalization: entmax(1.5) }),
  sigmoid: attention({ normalization: sigmoid({ length: 8 }) }),
  'hard max': attention({ normalization: hardMax() }),
  'max pooling': attention({ normalization: none(), aggregation: maximum() }),
  'gated output': attention({ aggregation: weightedSum().finishBy(outputGate()) }),
  'edge scores': attention({ scoring: scaledDot().modify(edgeBias()) }),
  'edge features': attention({ scoring: scaledDot().modify(edgeFeatures({ width: 3 })) }),
  GAT: attention({ scoring: gat({ edges: 2 }) }),
  GATv2: attention({ scoring: gatV2({ width: 5, edges: true }) }),
};

/** Every table that a variant declares, drawn for this graph. */
function tablesOf(random: RandomSource, variant: AttentionVariant, shape: GraphShape, edges: HostEdgeList): Record<string, ReturnType<typeof normal>> {
  const { batch = 1, heads = 2, keyHeads = heads, queryLength, keyLength, dim = 8, valueDim = dim } = shape;
  const sizes: Readonly<Record<string, number>> = { batch, head: heads, keyHead: keyHeads, queryLength, keyLength, queryDim: dim, keyDim: dim, valueDim, scoreDim: 5, edge: edges.keys.shape[0] ?? 0 };
  return Object.fromEntries(Object.entries(variant.tables).map(([name, { axes }]) => [name, normal(random, axes.map((axis) => (typeof axis === 'number' ? axis : (sizes[axis] ?? 1))))]));
}

/** A call on random inputs equals the float64 reference. */
export async function expectGraph(backend: Backend, variant: AttentionVariant, shape: GraphShape, edges: HostEdgeList, seed = 1): Promise<void> {
  const random = new RandomSource(seed);
  await expectReference(backend, variant, { ...randomInputs(random, shape), edges, tables: tablesOf(random, variant, shape, edges), queryOffset: 0 }, shape);
}

/** Within what float32 leaves of float64, for scores of a few units. */
function expectClose(name: string, got: Tensor | undefined, want: Tensor | undefined): void {
  const [a, b] = [numbers(got), numbers(want)];
  expect(a.length, name).toBe(b.length);
  const wrong = a.findIndex((value, index) => !(value === b[index] || Math.abs(value - (b[index] ?? Number.NaN)) <= 5e-5 + 5e-4 * Math.abs(b[index] ?? 0)));
  expect(wrong, wrong < 0 ? name : `${name}[${wrong}] is ${a[wrong]}, expected ${b[wrong]}`).toBe(-1);
}

export function numbers(given: Tensor | undefined): Float64Array {
  if (given === undefined || !isHostTensor(given)) throw new RangeError('expected a tensor of the host');
  return toFloat64(given);
}

export { RandomSource };
