import { attention, causal, edgeFeatures, maximum, none, scaledDot, tensor, type AttentionOutputs } from '@heed/core';
import { edgeList, type Edge, type HostEdgeList } from '@heed/core/compute';
import { createWebGpuRuntime, type WebGpuRuntime } from '@heed/runtime-webgpu';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createGraphBackend, type GraphBackend } from '../../src/graph/webgpu/index.ts';
import { expectGraph, expectReference, numbers, randomGraph, randomInputs, RandomSource, variants } from '../graph/graphs.ts';

// Expected values: the float64 reference and laws.
let runtime: WebGpuRuntime;
let backend: GraphBackend;

beforeAll(async () => {
  runtime = await createWebGpuRuntime();
  backend = createGraphBackend({ runtime });
});
afterAll(async () => runtime.dispose());

test.each(Object.entries(variants))('random graphs give the masked dense result (L17): %s', async (_, variant) => {
  const shape = { queryLength: 9, keyLength: 70, heads: 4, keyHeads: 2, batch: 2, valueDim: 7 };
  for (const probability of [0.05, 0.7]) await expectGraph(backend, variant, shape, randomGraph(new RandomSource(7), shape, probability), 3);
});

test.each([
  ['a star', 140, 140, (n: number): readonly Edge[] => Array.from({ length: n }, (_, key) => [0, key] as const)],
  ['one node alone', 1, 1, (): readonly Edge[] => []],
  ['no edges', 6, 5, (): readonly Edge[] => []],
])('%s', async (_, queryLength, keyLength, edges) => {
  await expectGraph(backend, attention(), { queryLength, keyLength, dim: 6 }, edgeList(edges(queryLength), { queryLength, keyLength }));
});

test('rows whose channels are shared by every lane, and more', async () => {
  const shape = { queryLength: 5, keyLength: 40, heads: 1, dim: 200, valueDim: 264 };
  await expectGraph(backend, attention(), shape, randomGraph(new RandomSource(4), shape, 0.5));
});

test('weights that wait in small groups give the same bits (L14)', async () => {
  const shape = { queryLength: 60, keyLength: 60, heads: 4, keyHeads: 2, dim: 12 };
  const random = new RandomSource(9);
  const inputs = { ...randomInputs(random, shape), edges: randomGraph(random, shape, 0.2) };
  await expectReference(createGraphBackend({ runtime, scratchBytes: 0 }), attention(), inputs, shape);
  const request = { variant: attention(), queryDim: 12, keyDim: 12, valueDim: 12 };
  const runs = [backend, createGraphBackend({ runtime, scratchBytes: 0 }), createGraphBackend({ runtime, scratchBytes: 200 })];
  const outputs = await Promise.all(runs.map(async (one): Promise<AttentionOutputs> => (await one.prepare(request)).run(inputs)));
  for (const { output } of outputs) expect(numbers(output)).toEqual(numbers(outputs[0]?.output));
});

test('a key that the mask forbids brings nothing, whatever stands in its value (L10)', async () => {
  const shape = { queryLength: 3, keyLength: 4, heads: 1, dim: 4 };
  const inputs = randomInputs(new RandomSource(6), shape);
  const edges = randomGraph(new RandomSource(1), shape, 1);
  const kernel = await backend.prepare({ variant: attention({ masking: causal() }), queryDim: 4, keyDim: 4, valueDim: 4 });
  const poisoned = Float32Array.from(numbers(inputs.value));
  poisoned.fill(Number.NaN, 12);
  const call = { ...inputs, edges, queryOffset: 0 };
  const [want, got] = [await kernel.run(call), await kernel.run({ ...call, value: tensor(poisoned, inputs.value.shape) })];
  expect(numbers(got.output)).toEqual(numbers(want.output));
});

test('a row in any order, and ties of an arg max to the lower key', async () => {
  const kernel = await backend.prepare({ variant: variants['hard max'] ?? attention(), queryDim: 1, keyDim: 1, valueDim: 1 });
  const ones = (rows: number): ReturnType<typeof tensor> => tensor(new Float32Array(rows).fill(1), [1, 1, rows, 1]);
  const { output } = await kernel.run({ query: ones(1), key: ones(3), value: tensor(Float32Array.of(5, 6, 7), [1, 1, 3, 1]), edges: list([0, 3], [2, 1, 0]) });
  expect([...numbers(output)]).toEqual([5]);
});

describe('refusals', () => {
  const request = { variant: attention(), queryDim: 4, keyDim: 4, valueDim: 4 };
  const shape = { queryLength: 3, keyLength: 3, heads: 1, dim: 4 };
  const inputs = randomInputs(new RandomSource(2), shape);

  test.each([
    ['no edges', undefined, 'unsupported'],
    ['an edge that stands twice', list([0, 2, 2, 2], [1, 1]), 'duplicate-edge'],
    ['a node that is not there', list([0, 1, 1, 1], [3]), 'invalid-edges'],
    ['starts for other nodes', list([0, 1], [0]), 'invalid-edges'],
  ])('%s; and the kernel still works', async (_, edges, code) => {
    const kernel = await backend.prepare(request);
    await expect(kernel.run({ ...inputs, ...(edges === undefined ? {} : { edges }) })).rejects.toMatchObject({ code });
    const { output } = await kernel.run({ ...inputs, edges: list([0, 1, 1, 1], [2]) });
    expect([...numbers(output)].slice(4)).toEqual(new Array(8).fill(0));
    await kernel.dispose();
  });

  test('a signal stops a call between its slices, and nothing that it made is left', async () => {
    const kernel = await backend.prepare(request);
    const large = { queryLength: 4000, keyLength: 4000, heads: 4, dim: 4 };
    const edges = edgeList(Array.from({ length: 4000 }, (_, query) => Array.from({ length: 10 }, (__, step): Edge => [query, (query * 7 + step * 397) % 4000])).flat(), large);
    const call = { ...randomInputs(new RandomSource(8), large), edges };
    await kernel.run(call);
    const before = runtime.memory().bytes;
    const abort = new AbortController();
    const stopped = kernel.run(call, { signal: abort.signal });
    abort.abort();
    await expect(stopped).rejects.toMatchObject({ code: 'aborted' });
    expect(runtime.memory().bytes).toBe(before);
    await kernel.dispose();
    await expect(kernel.run(call)).rejects.toMatchObject({ code: 'disposed' });
  });

  test('reasons are given', async () => {
    expect(backend.assess({ ...request, gradients: ['query'] })).toMatchObject({ supported: false, refusals: [{ stage: 'gradients' }] });
    expect(backend.assess({ ...request, storage: 'paged' })).toMatchObject({ supported: false, refusals: [{ stage: 'storage' }] });
    await expect(backend.prepare({ ...request, observe: { stages: ['scores'] } })).rejects.toMatchObject({ code: 'unsupported' });
    expect(() => createGraphBackend({ runtime, passBytes: 2 } as never)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    expect(() => createGraphBackend({ runtime, scratchBytes: -1 })).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});

test('plans and shaders can be read', async () => {
  const variant = attention({ scoring: scaledDot().modify(edgeFeatures({ width: 2 })), normalization: none(), aggregation: maximum() });
  const kernel = await backend.prepare({ variant, queryDim: 4, keyDim: 4, valueDim: 4 });
  const { plan, code, cost } = kernel.explain({ batch: 1, heads: 1, keyHeads: 1, queryLength: 10, keyLength: 10, edges: 20 });
  expect(plan[0]).toContain('over edges');
  expect(code.nodes).toContain('edgeIndex');
  expect(cost?.flops).toBe(2 * 20 * 8);
});

function list(starts: readonly number[], keys: readonly number[]): HostEdgeList {
  return { starts: tensor(Int32Array.from(starts), [starts.length]), keys: tensor(Int32Array.from(keys), [keys.length]) };
}
