import { isAttentionError } from '@heed/core';
import { describe, expect, test } from 'vitest';
import { linearWorkloads } from '../src/linear/workloads.ts';
import { attentionLayer, causalWindow, type Model, models } from '../src/models.ts';
import { sparseWorkloads } from '../src/sparse/workloads.ts';
import { allowedPairs, leastBytes, modelRun, modelWorkloads, suites, suiteWorkloads, usefulFlops, type Workload } from '../src/workloads.ts';

function call(queryLength: number, keyLength: number, layer: Partial<Workload['layer']>): Workload {
  const full = attentionLayer({ name: 'test', count: 1, heads: 3, queryDim: 8, ...layer });
  return { id: 'test', suite: 'model', phase: 'prefill', layer: full, dtype: 'f32', batch: 2, queryLength, keyLength, queryOffset: full.mask.kind === 'all' ? 0 : keyLength - queryLength };
}

// Counted pair by pair from L3 and L4: causal allows key ≤ query position; a window of w keys counts the query's own.
const counted: readonly (readonly [string, Workload, number])[] = [
  ['no mask', call(5, 7, { mask: { kind: 'all' } }), 5 * 7],
  ['causal', call(5, 5, { mask: { kind: 'causal' } }), 1 + 2 + 3 + 4 + 5],
  ['causal, last queries of a longer sequence', call(2, 5, { mask: { kind: 'causal' } }), 4 + 5],
  ['a window of 3', call(6, 6, { mask: causalWindow(3) }), 1 + 2 + 3 + 3 + 3 + 3],
  ['a window longer than the sequence', call(4, 4, { mask: causalWindow(99) }), 1 + 2 + 3 + 4],
];

test.each(counted)('pairs allowed under %s are counted over sequences and heads', (_, workload, pairs) => {
  expect(allowedPairs(workload)).toBe(pairs * 2 * 3);
});

test('useful FLOPs are 2 · pairs · (query width + value width)', () => {
  expect(usefulFlops(call(5, 7, { mask: { kind: 'all' }, queryDim: 8, valueDim: 4 }))).toBe(2 * (5 * 7 * 2 * 3) * (8 + 4));
});

test('bytes count query, key, value and output once, keys by key heads', () => {
  const workload = call(5, 7, { mask: { kind: 'all' }, heads: 4, keyHeads: 2, queryDim: 8, valueDim: 4 });
  const elements = 2 * (4 * 5 * 8 + 2 * 7 * 8 + 2 * 7 * 4 + 4 * 5 * 4);
  expect(leastBytes(workload)).toBe(elements * 4);
  expect(leastBytes({ ...workload, dtype: 'bf16' })).toBe(elements * 2);
});

describe('a model run', () => {
  const asked = { tokens: null, decode: null, batch: 1, dtype: 'f32' } as const;
  const named = (name: string): Model => models.find((model) => model.name === name)!;

  test.each(models.map(({ name }) => name))('of %s has unique ids, and each layer once in its prompt', (name) => {
    const model = named(name);
    const workloads = modelWorkloads(model, modelRun(model, asked));
    expect(new Set(workloads.map(({ id }) => id)).size).toBe(workloads.length);
    expect(workloads.filter(({ phase }) => phase === 'prefill').map(({ layer }) => layer)).toEqual(model.layers);
    expect(workloads.every(({ id }) => id.startsWith(`model/${name}/`))).toBe(true);
  });

  test('decodes one query at the mean cache length, and leaves encoders and images out', () => {
    const workloads = modelWorkloads(named('whisper-tiny'), { tokens: 100, decode: 20, batch: 1, dtype: 'f32' });
    expect(workloads.filter(({ phase }) => phase === 'decode').map(({ layer, queryLength, keyLength, queryOffset }) => [layer.name, queryLength, keyLength, queryOffset])).toEqual([
      ['decoder-self', 1, 110, 109],
      ['decoder-cross', 1, 1500, 0],
    ]);
  });

  test('of sam has 25 windows of 196 patches as its batch and one image of 4096', () => {
    const workloads = modelWorkloads(named('sam-vit-b'), modelRun(named('sam-vit-b'), { ...asked, batch: 2 }));
    expect(workloads.map(({ batch, keyLength }) => [batch, keyLength])).toEqual([[50, 196], [2, 4096]]);
  });

  const refused: readonly (readonly [string, string, object])[] = [
    ['more tokens than it takes', 'gpt2', { tokens: 1025 }],
    ['more tokens with the generated ones than it takes', 'gpt2', { tokens: 1000, decode: 25 }],
    ['tokens for an image', 'vit-b-16', { tokens: 100 }],
    ['generated tokens of an encoder', 'bert-base', { decode: 5 }],
  ];
  test.each(refused)('refuses %s', (_, name, change) => {
    let thrown: unknown = null;
    try {
      modelRun(named(name), { ...asked, ...change });
    } catch (error) {
      thrown = error;
    }
    expect(isAttentionError(thrown, 'invalid-argument')).toBe(true);
  });
});

test('every suite but the model has calls whose ids begin with a known kind', () => {
  const kinds = ['prefill-causal', 'prefill-dense', 'prefill-window', 'decode', 'additive', 'threshold', 'memory', 'small', 'pattern', 'select', 'graph', 'linear', 'recurrent'];
  const others: Readonly<Record<string, readonly { readonly id: string }[]>> = { linear: linearWorkloads, sparse: sparseWorkloads };
  for (const suite of suites.filter((name) => name !== 'model')) {
    const workloads = others[suite] ?? suiteWorkloads(suite, 1, 'f32');
    expect(workloads.length).toBeGreaterThan(0);
    expect(new Set(workloads.map(({ id }) => id)).size).toBe(workloads.length);
    for (const { id } of workloads) expect(kinds).toContain(id.split(/[?/]/)[0]);
  }
});
