import fc from 'fast-check';
import { attention, tensor } from '@heed/core';
import { edgeList, edgeListFromMask, edgesToMask, type Edge, type HostEdgeList } from '@heed/core/compute';
import { createWasmRuntime, type WasmRuntime } from '@heed/runtime-wasm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createGraphBackend, type GraphBackend } from '../../src/graph/wasm/index.ts';
import { expectGraph, expectReference, numbers, randomGraph, randomInputs, RandomSource, variants, type normal } from './graphs.ts';

// Expected values: the float64 reference, laws, and formulas written out.
let runtime: WasmRuntime;
let backends: Readonly<Record<'one pass' | 'two passes', GraphBackend>>;

beforeAll(async () => {
  runtime = await createWasmRuntime({ threads: 2 });
  backends = { 'one pass': createGraphBackend({ runtime }), 'two passes': createGraphBackend({ runtime, passBytes: 0 }) };
});
afterAll(async () => runtime.dispose());

describe.each(['one pass', 'two passes'] as const)('over edges, in %s', (passes) => {
  test.each(Object.entries(variants))('random graphs give the masked dense result (L17): %s', async (_, variant) => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 11 }), fc.constantFrom(0, 0.1, 0.5, 1), fc.constantFrom([1, 1], [4, 2], [2, 1]), fc.nat(1000), async (queryLength, keyLength, probability, [heads = 1, keyHeads = 1], seed) => {
        const shape = { queryLength, keyLength, heads, keyHeads, batch: 2, valueDim: 7 };
        await expectGraph(backends[passes], variant, shape, randomGraph(new RandomSource(seed), shape, probability), seed);
      }),
      { numRuns: 12 },
    );
  });

  test.each([
    ['a star', 40, 40, (n: number): readonly Edge[] => Array.from({ length: n }, (_, key) => [0, key] as const)],
    ['a star the other way', 40, 40, (n: number): readonly Edge[] => Array.from({ length: n }, (_, query) => [query, 0] as const)],
    ['one node and its loop', 1, 1, (): readonly Edge[] => [[0, 0]]],
    ['one node alone', 1, 1, (): readonly Edge[] => []],
    ['no edges', 6, 5, (): readonly Edge[] => []],
  ])('%s', async (_, queryLength, keyLength, edges) => {
    await expectGraph(backends[passes], attention(), { queryLength, keyLength, dim: 6 }, edgeList(edges(queryLength), { queryLength, keyLength }));
  });

  test('enough nodes for several tasks, and bits that do not depend on threads (L14)', async () => {
    const shape = { queryLength: 700, keyLength: 500, heads: 2, keyHeads: 2, dim: 16 };
    const random = new RandomSource(5);
    const edges = randomGraph(random, shape, 0.05);
    const inputs = { ...randomInputs(random, shape), edges };
    await expectReference(backends[passes], attention(), inputs, shape);
    const single = await createWasmRuntime({ threads: 1 });
    const request = { variant: attention(), queryDim: 16, keyDim: 16, valueDim: 16 };
    const outputs = await Promise.all([backends[passes], createGraphBackend({ runtime: single, passBytes: passes === 'one pass' ? 4e6 : 0 })].map(async (backend) => (await (await backend.prepare(request)).run(inputs)).output));
    expect(numbers(outputs[1])).toEqual(numbers(outputs[0]));
    await single.dispose();
  });
});

test('one pass and two give the same bits', async () => {
  const shape = { queryLength: 60, keyLength: 60, heads: 4, keyHeads: 2, dim: 12 };
  const random = new RandomSource(9);
  const inputs = { ...randomInputs(random, shape), edges: randomGraph(random, shape, 0.2) };
  const request = { variant: attention(), queryDim: 12, keyDim: 12, valueDim: 12 };
  const [one, two] = await Promise.all(Object.values(backends).map(async (backend) => (await (await backend.prepare(request)).run(inputs)).output));
  expect(numbers(two)).toEqual(numbers(one));
});

test('more heads than a job has phases for two passes', async () => {
  const shape = { queryLength: 3, keyLength: 3, batch: 5, heads: 26, dim: 4 };
  const edges = edgeList([[0, 1], [0, 2], [1, 0], [1, 1], [2, 2]], shape);
  await expectGraph(backends['two passes'], attention(), shape, edges);
});

test('a graph from a mask is the mask again', () => {
  const mask = tensor(Uint8Array.from([1, 0, 1, 0, 0, 0, 0, 1, 1]), [3, 3]);
  expect([...numbers(edgesToMask(edgeListFromMask(mask), 3))]).toEqual([...numbers(mask)]);
});

test('renaming nodes renames the rows of the result, and nothing else (L16)', async () => {
  const n = 12;
  const random = new RandomSource(3);
  const shape = { queryLength: n, keyLength: n, heads: 1, dim: 4 };
  const edges: Edge[] = [];
  for (let query = 0; query < n; query += 1) for (let key = 0; key < n; key += 1) if (random.uniform() < 0.3) edges.push([query, key]);
  const { query, key, value } = randomInputs(random, shape);
  const names = random.permutation(n);
  const renamed = (rows: ReturnType<typeof normal>): ReturnType<typeof normal> => {
    const [from, to] = [numbers(rows), new Float32Array(n * 4)];
    names.forEach((name, node) => to.set(from.subarray(node * 4, node * 4 + 4), name * 4));
    return tensor(to, rows.shape);
  };
  const kernel = await backends['one pass'].prepare({ variant: attention(), queryDim: 4, keyDim: 4, valueDim: 4 });
  const sizes = { queryLength: n, keyLength: n };
  const before = await kernel.run({ query, key, value, edges: edgeList(edges, sizes) });
  const after = await kernel.run({
    query: renamed(query as ReturnType<typeof normal>), key: renamed(key as ReturnType<typeof normal>), value: renamed(value as ReturnType<typeof normal>),
    edges: edgeList(edges.map(([to, from]) => [names[to] ?? 0, names[from] ?? 0]), sizes),
  });
  const [want, got] = [numbers(renamed(before.output as ReturnType<typeof normal>)), numbers(after.output)];
  got.forEach((number, index) => expect(Math.abs(number - (want[index] ?? Number.NaN))).toBeLessThan(1e-5));
});

describe('refusals', () => {
  const request = { variant: attention(), queryDim: 4, keyDim: 4, valueDim: 4 };
  const shape = { queryLength: 3, keyLength: 3, heads: 1, dim: 4 };
  const inputs = randomInputs(new RandomSource(2), shape);
  const list = (starts: readonly number[], keys: readonly number[]): HostEdgeList => ({ starts: tensor(Int32Array.from(starts), [starts.length]), keys: tensor(Int32Array.from(keys), [keys.length]) });

  test.each([
    ['no edges', undefined, 'unsupported'],
    ['an edge that stands twice', list([0, 2, 2, 2], [1, 1]), 'duplicate-edge'],
    ['an edge twice, in a row that does not ascend', list([0, 3, 3, 3], [2, 1, 2]), 'duplicate-edge'],
    ['a node that is not there', list([0, 1, 1, 1], [3]), 'invalid-edges'],
    ['a negative node', list([0, 1, 1, 1], [-1]), 'invalid-edges'],
    ['starts that descend', list([0, 2, 1, 2], [0, 1]), 'invalid-edges'],
    ['starts for other nodes', list([0, 1], [0]), 'invalid-edges'],
  ])('%s; and the kernel still works', async (_, edges, code) => {
    const kernel = await backends['one pass'].prepare(request);
    await expect(kernel.run({ ...inputs, ...(edges === undefined ? {} : { edges }) })).rejects.toMatchObject({ code });
    const { output } = await kernel.run({ ...inputs, edges: list([0, 1, 1, 1], [2]) });
    expect([...numbers(output)].slice(4)).toEqual(new Array(8).fill(0));
    await kernel.dispose();
  });

  test('a signal stops a call, and a disposed kernel says so', async () => {
    const kernel = await backends['one pass'].prepare(request);
    const edges = list([0, 1, 1, 1], [2]);
    await expect(kernel.run({ ...inputs, edges }, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'aborted' });
    await kernel.dispose();
    await expect(kernel.run({ ...inputs, edges })).rejects.toMatchObject({ code: 'disposed' });
  });

  test('options of another name', () => {
    expect(() => createGraphBackend({ runtime, threads: 2 } as never)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    expect(() => createGraphBackend({ runtime, passBytes: -1 })).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});

test.each(['one pass', 'two passes'] as const)('memory beside inputs and outputs stays within what the plan states, in %s', async (passes) => {
  const shape = { queryLength: 4000, keyLength: 4000, heads: 4, keyHeads: 4, dim: 16 };
  const random = new RandomSource(8);
  const edges = Array.from({ length: 4000 }, (_, query) => Array.from({ length: 10 }, (__, step): Edge => [query, (query * 7 + step * 397) % 4000])).flat();
  const lists = edgeList(edges, shape);
  const on = (given: ReturnType<typeof normal>): ReturnType<typeof normal> => runtime.upload(given);
  const { query, key, value } = randomInputs(random, shape);
  const inputs = { query: on(query as ReturnType<typeof normal>), key: on(key as ReturnType<typeof normal>), value: on(value as ReturnType<typeof normal>), edges: { starts: on(lists.starts), keys: on(lists.keys) } };
  const output = runtime.tensor(inputs.query.shape, 'f32');
  const logSumExp = runtime.tensor(inputs.query.shape.slice(0, 3), 'f32');
  const kernel = await backends[passes].prepare({ variant: attention(), queryDim: 16, keyDim: 16, valueDim: 16 });
  const stated = kernel.explain(inputs).cost?.peakBytes ?? 0;
  await runtime.idle();
  runtime.heap.resetPeak();
  const before = runtime.memory().bytes;
  await kernel.run(inputs, { into: { output, logSumExp } });
  const extra = runtime.memory().peakBytes - before;
  expect(extra).toBeGreaterThan(0);
  expect(extra).toBeLessThanOrEqual(stated);
  // A dense mask of bits alone would be 2 MB.
  expect(stated).toBeLessThan(4000 * 4000);
});
