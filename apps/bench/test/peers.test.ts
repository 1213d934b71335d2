import { afterAll, describe, expect, test } from 'vitest';
import { boundOf, computeExpected, judge } from '../src/check.ts';
import type { Competitor } from '../src/competitor.ts';
import { startOrExplain } from '../src/competitors.ts';
import { randomInputs } from '../src/inputs.ts';
import type { Verdict } from '../src/measure.ts';
import { attentionLayer, causalWindow } from '../src/models.ts';
import { peerSources } from '../src/peers/peers.ts';
import type { Workload } from '../src/workloads.ts';

function workload(change: Partial<Workload['layer']>, lengths: Partial<Workload> = {}): Workload {
  const layer = attentionLayer({ name: 'test', count: 1, heads: 4, keyHeads: 2, queryDim: 8, ...change });
  const base: Workload = { id: 'test', suite: 'model', phase: 'prefill', layer, dtype: 'f32', batch: 2, queryLength: 9, keyLength: 9, queryOffset: 0, ...lengths };
  return { ...base, queryOffset: layer.mask.kind === 'all' ? 0 : base.keyLength - base.queryLength };
}

const dense = { mask: { kind: 'all' } } as const;
const everyHead = { keyHeads: 4 };

/** Named layers, so that the table below can say which peer computes which. */
const layers: Readonly<Record<string, Workload>> = {
  'no mask': workload({ ...dense, ...everyHead }),
  'no mask, other keys than queries': workload({ ...dense, ...everyHead }, { queryLength: 3 }),
  'no mask, grouped heads': workload(dense),
  'causal': workload(everyHead),
  'causal, grouped heads': workload({}),
  'causal, one query at the end': workload({}, { queryLength: 1 }),
  'causal, three queries at the end': workload({}, { queryLength: 3 }),
  'causal, three queries at the end of one sequence': workload({}, { queryLength: 3, batch: 1 }),
  'a window of 4 tokens': workload({ mask: causalWindow(4) }),
  'a window of 4 tokens, one query at the end': workload({ mask: causalWindow(4) }, { queryLength: 1 }),
  'softcap': workload({ softcap: 2 }),
  'softcap and a window': workload({ softcap: 2, mask: causalWindow(4) }),
  'ALiBi': workload({ position: { kind: 'alibi' } }),
  'a sink': workload({ sink: true }),
  'a scale of its own': workload({ scale: 0.7 }),
  'narrow values': workload({ valueDim: 6 }),
  'relative positions of an image': workload({ ...dense, position: { kind: 'decomposed', side: 3 } }),
  'additive scores': workload({ ...dense, scoring: { kind: 'additive', width: 5 }, scale: 1 }),
  'sparsemax': workload({ ...dense, normalization: 'sparsemax' }),
  'float16': workload({}, { dtype: 'f16' }),
};

const nothingOfTheKind = ['additive scores', 'sparsemax', 'float16', 'relative positions of an image'];

/** What each peer refuses; it must compute everything else. */
const refusedBy: Readonly<Record<string, readonly string[]>> = {
  'plain-js': ['sparsemax', 'float16'],
  'onnxruntime-node': nothingOfTheKind,
  'onnxruntime-web': nothingOfTheKind,
  'tfjs': [...nothingOfTheKind, 'a sink'],
  'jax-js': [...nothingOfTheKind, 'a sink', 'softcap', 'softcap and a window', 'narrow values'],
  'webgpu-three-pass': [...nothingOfTheKind, 'a sink', 'softcap', 'softcap and a window', 'ALiBi', 'a window of 4 tokens', 'a window of 4 tokens, one query at the end', 'causal, three queries at the end', 'causal, three queries at the end of one sequence'],
};

/** Peers that need a device have a lane of their own, which fails where there is none. */
const onDevice: readonly string[] = ['webgpu-three-pass'];
const tried = peerSources.filter(({ name }) => onDevice.includes(name) === (process.env.HEED_ON_DEVICE !== undefined));

/** The ways in which ONNX Runtime computes some layers, by the documentation of its operators. */
const onnxWays: Readonly<Record<string, readonly string[]>> = {
  'no mask': ['Attention', 'MultiHeadAttention'],
  'no mask, grouped heads': ['Attention'],
  'causal': ['Attention', 'MultiHeadAttention', 'GroupQueryAttention'],
  'causal, grouped heads': ['Attention', 'GroupQueryAttention'],
  'causal, three queries at the end': ['Attention'],
  'causal, three queries at the end of one sequence': ['Attention', 'GroupQueryAttention'],
  'a sink': ['GroupQueryAttention'],
  'narrow values': ['Attention'],
};

/** One call, judged against the float64 reference by the suite's tolerance. */
async function judged(peer: Competitor, here: Workload, way?: string): Promise<Verdict> {
  const inputs = randomInputs(here);
  const expected = await computeExpected(here, inputs);
  const prepared = await peer.prepare(here, inputs, way);
  await prepared.run();
  // A second call writes into what the first one left.
  await prepared.run();
  const output = await prepared.output();
  await prepared.dispose();
  return judge(here, output, expected, boundOf(here, inputs, expected));
}

test('every peer has its list of refusals', () => {
  expect(Object.keys(refusedBy)).toEqual(peerSources.map(({ name }) => name));
});

describe.each(tried.map((source) => [source.name, source] as const))('%s', async (name, source) => {
  const peer = await startOrExplain(source, { threads: 2 });
  afterAll(async () => peer.dispose());

  test.each(Object.entries(layers))('computes what the reference computes, or says why not: %s', async (layer, here) => {
    const reason = await peer.refuses(here);
    if (refusedBy[name]?.includes(layer) === true) {
      expect(reason).toMatch(/\w/);
      return;
    }
    expect(reason).toBeNull();
    for (const way of peer.ways?.(here) ?? [undefined]) {
      const verdict = await judged(peer, here, way);
      expect(verdict, way).toMatchObject({ passed: true, compared: verdict.elements });
      // Nothing computed in float32 is exact: a result that is would be the reference's own.
      expect(verdict.worstShare).toBeGreaterThan(0);
    }
  });

  test('says what it is, and how many threads it has or what device', () => {
    expect(peer.about).toMatch(onDevice.includes(name) ? /WebGPU|SwiftShader|shader/ : /thread/);
  });

  if (name.startsWith('onnxruntime')) {
    test.each(Object.entries(onnxWays))('has every operator that fits: %s', (layer, ways) => {
      const here = layers[layer];
      const inPlace = name === 'onnxruntime-node' && ways.includes('GroupQueryAttention') ? ['GroupQueryAttention, cache in place'] : [];
      expect(here === undefined ? null : peer.ways?.(here)).toEqual([...ways, ...inPlace]);
    });

    test('refuses what would not fit into memory', async () => {
      expect(await peer.refuses(workload({}, { queryLength: 2 ** 20, keyLength: 2 ** 20 }))).toMatch(/GiB/);
    });
  }
});

test('a peer that does not start says why, wherever it is asked', async () => {
  const peer = await startOrExplain({ name: 'missing', role: 'peer', start: () => Promise.reject(new Error('Cannot find package')) }, { threads: 1 });
  expect(peer.about).toContain('Cannot find package');
  expect(await peer.refuses(workload({}))).toContain('Cannot find package');
});
