import { tensor } from '@heed/core';
import { describe, expect, test } from 'vitest';
import { boundOf, chooseSamples, computeExpected, type Expected, judge } from '../src/check.ts';
import { randomInputs } from '../src/inputs.ts';
import { attentionLayer, models } from '../src/models.ts';
import { plainJs } from '../src/peers/plain-js.ts';
import type { Workload } from '../src/workloads.ts';

function workload(change: Partial<Workload['layer']>, lengths: Partial<Workload> = {}): Workload {
  const layer = attentionLayer({ name: 'test', count: 1, heads: 4, keyHeads: 2, queryDim: 8, valueDim: 6, ...change });
  const base: Workload = { id: 'test', suite: 'model', phase: 'prefill', layer, dtype: 'f32', batch: 2, queryLength: 9, keyLength: 9, queryOffset: 0, ...lengths };
  return { ...base, queryOffset: layer.mask.kind === 'all' ? 0 : base.keyLength - base.queryLength };
}

describe('the sample', () => {
  test('is the whole result where the budget allows it', () => {
    const whole = workload({});
    expect(chooseSamples(whole, 1e6)).toHaveLength(2 * 2);
    expect(chooseSamples(whole, 1e6).every(({ rows, firstRow, rowStep }) => rows === 9 && firstRow === 0 && rowStep === 1)).toBe(true);
  });

  test('stays within the budget, and has the first and last heads and the last row', () => {
    const long = workload({ heads: 8, keyHeads: 4, queryDim: 64, valueDim: 64 }, { batch: 3, queryLength: 2000, keyLength: 2000 });
    const samples = chooseSamples(long, 5e7);
    expect(samples.map(({ sequence, keyHead }) => [sequence, keyHead])).toEqual([[0, 0], [0, 3], [2, 0], [2, 3]]);
    for (const { firstRow, rowStep, rows } of samples) {
      expect(firstRow).toBeGreaterThanOrEqual(0);
      expect(firstRow + (rows - 1) * rowStep).toBe(1999);
      expect(rows * 2 * 2000 * 128 * samples.length).toBeLessThanOrEqual(5e7);
    }
  });
});

/** Softmax attention from its definition (Vaswani 2017, equation 1), for one head. */
function definition(query: readonly number[], keys: readonly (readonly number[])[], values: readonly (readonly number[])[], scale: number): readonly number[] {
  const exponentials = keys.map((key) => Math.exp(scale * key.reduce((sum, element, d) => sum + element * (query[d] ?? 0), 0)));
  const total = exponentials.reduce((sum, weight) => sum + weight, 0);
  return (values[0] ?? []).map((_, channel) => values.reduce((sum, value, j) => sum + ((exponentials[j] ?? 0) / total) * (value[channel] ?? 0), 0));
}

test('what is expected is the definition, at the sampled rows of the sampled heads', async () => {
  const small: Workload = workload({ heads: 2, keyHeads: 1, queryDim: 2, valueDim: 1, mask: { kind: 'causal' } }, { batch: 1, queryLength: 3, keyLength: 3 });
  const query = [[0.5, 1], [1, -1], [2, 0.25], [-1, 1], [0, 3], [1, 1]];
  const key = [[1, 0], [0, 1], [1, 1]];
  const value = [[1], [10], [100]];
  const inputs = { query: tensor(query.flat(), [1, 2, 3, 2]), key: tensor(key.flat(), [1, 1, 3, 2]), value: tensor(value.flat(), [1, 1, 3, 1]), parameters: {} };
  const { values } = await computeExpected(small, inputs, [{ sequence: 0, keyHead: 0, firstRow: 0, rowStep: 2, rows: 2 }]);
  const want = [0, 2, 3, 5].map((row) => definition(query[row] ?? [], key.slice(0, (row % 3) + 1), value.slice(0, (row % 3) + 1), 2 ** -0.5)[0] ?? 0);
  values[0]?.forEach((got, index) => { expect(got).toBeCloseTo(want[index] ?? 0, 10); });
});

// Two implementations by different hands: the float64 reference of core, and the plain loops of the peer.
describe('plain-js agrees with the reference on', () => {
  const layers: readonly (readonly [string, Partial<Workload['layer']>, Partial<Workload>])[] = [
    ['no mask', { mask: { kind: 'all' } }, {}],
    ['causal', {}, {}],
    ['causal, last queries', {}, { queryLength: 3 }],
    ['a window', { mask: { kind: 'causal-window', left: 3 } }, {}],
    ['a softcap', { softcap: 2 }, {}],
    ['a sink', { sink: true }, {}],
    ['ALiBi', { position: { kind: 'alibi' } }, {}],
    ['softcap, ALiBi, window and sink', { softcap: 2, position: { kind: 'alibi' }, mask: { kind: 'causal-window', left: 4 }, sink: true }, {}],
    ['relative positions of an image', { mask: { kind: 'all' }, position: { kind: 'decomposed', side: 3 } }, {}],
    ['additive scores', { mask: { kind: 'all' }, scoring: { kind: 'additive', width: 5 }, scale: 1 }, {}],
  ];
  test.each(layers)('%s', async (_, change, lengths) => {
    const here = workload(change, lengths);
    const inputs = randomInputs(here);
    const expected = await computeExpected(here, inputs);
    const prepared = await plainJs().prepare(here, inputs);
    await prepared.run();
    const verdict = judge(here, await prepared.output(), expected, boundOf(here, inputs, expected));
    expect(verdict).toMatchObject({ passed: true, compared: verdict.elements });
    expect(verdict.worstShare).toBeGreaterThan(0);
  });

  test.each(models.flatMap((model) => model.layers.map((layer) => [model.name, layer.name, layer] as const)))('the layer shape of %s, %s', async (_, __, layer) => {
    const side = layer.position.kind === 'decomposed' ? layer.position.side : 0;
    const here: Workload = { ...workload({}), layer: { ...layer, heads: (2 * layer.heads) / layer.keyHeads, keyHeads: 2 }, batch: 1, queryLength: side > 0 ? 2 : 12, keyLength: side > 0 ? side * side : 12, queryOffset: 0 };
    const inputs = randomInputs(here);
    const expected = await computeExpected(here, inputs);
    const prepared = await plainJs().prepare(here, inputs);
    await prepared.run();
    expect(judge(here, await prepared.output(), expected, boundOf(here, inputs, expected))).toMatchObject({ passed: true });
  });
});

describe('judging', () => {
  const here = workload({}, { batch: 1, queryLength: 4, keyLength: 4 });
  const bound = { absolute: 1e-5, relative: 1e-4 };
  const samples = [{ sequence: 0, keyHead: 1, firstRow: 1, rowStep: 2, rows: 2 }];
  const expected: Expected = { samples, values: [new Float64Array(2 * 2 * 6).fill(1)] };
  const elements = 4 * 4 * 6;

  test('looks at the sampled rows of the sampled heads and at nothing else', () => {
    // Heads 2 and 3 belong to key head 1; rows 1 and 3 are sampled.
    const output = new Float64Array(elements).fill(99);
    for (const head of [2, 3]) for (const row of [1, 3]) output.fill(1, (head * 4 + row) * 6, (head * 4 + row + 1) * 6);
    expect(judge(here, output, expected, bound)).toMatchObject({ passed: true, worstShare: 0, compared: 24, elements });
    output[(3 * 4 + 3) * 6 + 5] = 1.001;
    const verdict = judge(here, output, expected, bound);
    expect(verdict.passed).toBe(false);
    expect(verdict.maxAbsError).toBeCloseTo(1e-3, 10);
    expect(verdict.worstShare).toBeCloseTo(1e-3 / 1.1e-4, 6);
  });

  test('finds NaN, and a result that is too short, infinitely wrong', () => {
    expect(judge(here, new Float64Array(elements).fill(Number.NaN), expected, bound)).toMatchObject({ passed: false, worstShare: Infinity });
    expect(judge(here, new Float64Array(3), expected, bound)).toMatchObject({ passed: false });
  });

  test('never passes when nothing was compared', () => {
    expect(judge(here, new Float64Array(elements), { samples: [], values: [] }, bound).passed).toBe(false);
  });
});
