import { PassThrough } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { AttentionError } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { describe, expect, test } from 'vitest';
import { backendSources, competitorOf } from '../src/backends.ts';
import type { Competitor } from '../src/competitor.ts';
import { startOrExplain } from '../src/competitors.ts';
import { type Limit, leastMilliseconds, measureLimits } from '../src/limits.ts';
import { describeMachine } from '../src/machine.ts';
import { measurePeakBytes } from '../src/memory.ts';
import { attentionLayer, type Model } from '../src/models.ts';
import { plainJs } from '../src/peers/plain-js.ts';
import { createProgress } from '../src/progress.ts';
import type { Report } from '../src/results.ts';
import { runPlan } from '../src/run.ts';
import { modelWorkloads, type Workload } from '../src/workloads.ts';

const small: Model = {
  name: 'small',
  defaultTokens: 20,
  maxTokens: null,
  generates: true,
  layers: [attentionLayer({ name: 'self', count: 2, heads: 4, keyHeads: 2, queryDim: 8, softcap: 5, sink: true })],
};

const limit: Limit = { description: 'a machine', threads: 1, gigaflopsPerSecond: 10, readGigabytesPerSecond: 10, copyGigabytesPerSecond: 10 };

async function run(competitors: readonly Competitor[]): Promise<Report> {
  const subject = { name: 'small', tokens: 20, decode: 4, batch: 2, dtype: 'f32' } as const;
  const report = await runPlan({
    subject,
    workloads: modelWorkloads(small, subject),
    recorded: new Map(),
    competitors,
    machine: describeMachine(),
    limits: { javascript: limit },
    seconds: 1,
    progress: createProgress(new PassThrough().resume()),
    probePeakBytes: () => Promise.resolve(1000),
  });
  for (const competitor of competitors) await competitor.dispose();
  return report;
}

/** Plain loops whose results are off by a factor. */
function off(factor: number): Competitor {
  return {
    ...plainJs(),
    name: `off by ${factor}`,
    role: 'backend',
    async prepare(workload, inputs) {
      const prepared = await plainJs().prepare(workload, inputs);
      return { ...prepared, output: async () => (await prepared.output()).map((value) => value * factor) };
    },
  };
}

describe('a run', () => {
  test('checks and times the reference and the peer, and writes a record for each call with both', async () => {
    const report = await run([competitorOf(createReferenceBackend(), { about: 'float64', limit: 'javascript' }), plainJs()]);
    expect(report.outcomes).toHaveLength(report.workloads.length * 2);
    expect(report.outcomes.every(({ verdict, timing, refusal }) => verdict?.passed === true && timing !== null && refusal === null)).toBe(true);
    expect(report.records.map(({ backend, peer }) => [backend, peer])).toEqual(report.workloads.map(() => ['reference', 'plain-js']));
    expect(report.totals.every(({ prefillMilliseconds, decodeMilliseconds }) => prefillMilliseconds !== null && decodeMilliseconds !== null)).toBe(true);
    // What is written must be JSON: no NaN and no Infinity.
    expect(JSON.parse(JSON.stringify(report))).toEqual(JSON.parse(JSON.stringify(report, (_, value: unknown) => (typeof value === 'number' && !Number.isFinite(value) ? 'not a number' : value))));
  });

  test('times nothing that is wrong, however little', async () => {
    const report = await run([off(1.001), off(1)]);
    const [wrong, right] = ['off by 1.001', 'off by 1'].map((name) => report.outcomes.filter(({ competitor }) => competitor === name));
    expect(wrong?.every(({ timing, verdict, refusal }) => timing === null && verdict?.passed === false && refusal?.includes('tolerance'))).toBe(true);
    expect(right?.every(({ timing }) => timing !== null)).toBe(true);
    expect(wrong?.every(({ peakBytes }) => peakBytes === null)).toBe(true);
    expect(report.records.every(({ backend }) => backend === 'off by 1')).toBe(true);
  });

  test('goes on with the others when one refuses or fails with a typed error', async () => {
    const refusing: Competitor = { ...plainJs(), name: 'refusing', refuses: () => 'has no softcap' };
    const failing: Competitor = { ...plainJs(), name: 'failing', prepare: () => Promise.reject(new AttentionError('out-of-memory', 'Too large.', '')) };
    const report = await run([refusing, failing, plainJs()]);
    expect(new Set(report.outcomes.map(({ competitor, refusal }) => `${competitor}: ${refusal ?? 'timed'}`))).toEqual(new Set(['refusing: has no softcap', 'failing: failed with out-of-memory: Too large.', 'plain-js: timed']));
  });
});

describe('a limit', () => {
  test('of plain JavaScript is measured and finite', async () => {
    const { javascript } = await measureLimits([plainJs(), plainJs()]);
    for (const rate of [javascript?.gigaflopsPerSecond, javascript?.readGigabytesPerSecond, javascript?.copyGigabytesPerSecond]) expect(rate).toSatisfy((value: number) => value > 0.01 && value < 1e5);
  });

  test('gives the slower of computing and reading', () => {
    expect(leastMilliseconds(limit, 1e7, 1e6)).toBeCloseTo(1, 12);
    expect(leastMilliseconds(limit, 1e6, 1e7)).toBeCloseTo(1, 12);
  });
});

test('the peak of a call sees a large array that is gone when it returns, whatever was held before', async () => {
  const bytes = 64 * 2 ** 20;
  const touched = (size: number): number => new Float64Array(size / 8).fill(1)[5] ?? 0;
  const prepared = (size: number): Parameters<typeof measurePeakBytes>[0] => ({ run: () => void touched(size), output: () => new Float64Array(0), dispose: () => undefined });
  touched(3 * bytes);
  expect(await measurePeakBytes(prepared(bytes), 0)).toBeGreaterThan(0.9 * bytes);
  expect(await measurePeakBytes(prepared(1024), 0)).toBeLessThan(0.2 * bytes);
});

/** Plain loops that take a while longer and say how they go about it. */
function inWays(ways: Readonly<Record<string, { readonly delay: number; readonly factor: number }>>): Competitor {
  return {
    ...plainJs(),
    name: 'of many ways',
    ways: () => Object.keys(ways),
    async prepare(workload, inputs, way = '') {
      const { delay = 0, factor = 1 } = ways[way] ?? {};
      const prepared = await off(factor).prepare(workload, inputs);
      return {
        ...prepared,
        run: async () => {
          await setTimeout(delay);
          await prepared.run();
        },
      };
    },
  };
}

describe('a competitor with several ways', () => {
  test('is measured in the quickest of those that are right, and the report says which', async () => {
    const report = await run([competitorOf(createReferenceBackend(), { about: '', limit: 'javascript' }), inWays({ slow: { delay: 20, factor: 1 }, quick: { delay: 5, factor: 1 }, wrong: { delay: 0, factor: 1.01 } })]);
    const theirs = report.outcomes.filter(({ competitor }) => competitor === 'of many ways');
    expect(theirs.map(({ way, verdict }) => [way, verdict?.passed])).toEqual(theirs.map(() => ['quick', true]));
    expect(report.records.every(({ peer, peerWay }) => peer === 'of many ways' && peerWay === 'quick')).toBe(true);
  });

  test('is shown as wrong when all are', async () => {
    const report = await run([inWays({ one: { delay: 0, factor: 1.01 }, other: { delay: 0, factor: 1.02 } })]);
    expect(report.outcomes.every(({ timing, verdict }) => timing === null && verdict?.passed === false)).toBe(true);
  });
});

test('a peer that refuses a layer does the lesser one that stands in for it, judged by its own reference; a backend does not', async () => {
  const subject = { name: 'small', tokens: 20, decode: 0, batch: 1, dtype: 'f32' } as const;
  const plain = attentionLayer({ name: 'plain', count: 1, heads: 4, keyHeads: 2, queryDim: 8 });
  const workloads = modelWorkloads(small, subject).map((workload): Workload => ({ ...workload, lesser: { layer: plain, what: 'no softcap, no sink' } }));
  const refuses = ({ layer }: Workload): string | null => (layer.softcap === null ? null : 'has no softcap');
  const peer: Competitor = { ...plainJs(), name: 'peer', refuses };
  const backend: Competitor = { ...plainJs(), name: 'backend', role: 'backend', refuses };
  const report = await runPlan({ subject, workloads, recorded: new Map(), competitors: [peer, backend], machine: describeMachine(), limits: {}, seconds: 1, progress: createProgress(new PassThrough().resume()), probePeakBytes: () => Promise.resolve(1) });
  for (const { competitor, way, verdict, timing, refusal, peakBytes } of report.outcomes) {
    if (competitor === 'peer') expect([way, verdict?.passed, timing !== null, peakBytes]).toEqual(['no softcap, no sink', true, true, null]);
    else expect([way, verdict, timing, refusal]).toEqual([null, null, null, 'has no softcap']);
  }
});

describe('the cpu backends', () => {
  test.each(['cpu', 'cpu-wide'])('%s starts, is right and measures its limits, or says why it does not start', { timeout: 60_000 }, async (name) => {
    const source = backendSources.find((one) => one.name === name);
    if (source === undefined) throw new RangeError(`no backend is called ${name}`);
    const competitor = await startOrExplain(source, { threads: 2 });
    const report = await run([competitor]);
    if (competitor.limit === null) {
      // Wide vectors are an experiment of the engine; portable ones are not.
      expect([name, competitor.about]).toEqual(['cpu-wide', expect.stringContaining('does not start')]);
      return;
    }
    expect(report.outcomes.every(({ verdict, timing, compiling }) => verdict?.passed === true && timing !== null && compiling !== null)).toBe(true);
    const again = await startOrExplain(source, { threads: 2 });
    const limits = await measureLimits([again]);
    await again.dispose();
    expect(Object.keys(limits)).toHaveLength(2);
    expect(limits[again.limit ?? '']).toMatchObject({ threads: 2 });
    for (const { gigaflopsPerSecond, readGigabytesPerSecond } of Object.values(limits)) expect(Math.min(gigaflopsPerSecond, readGigabytesPerSecond)).toBeGreaterThan(0.1);
  });
});
