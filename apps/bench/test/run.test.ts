import { PassThrough } from 'node:stream';
import { AttentionError } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { describe, expect, test } from 'vitest';
import { competitorOf } from '../src/backends.ts';
import type { Competitor } from '../src/competitor.ts';
import { type Limit, leastMilliseconds, measureLimits } from '../src/limits.ts';
import { describeMachine } from '../src/machine.ts';
import { measurePeakBytes } from '../src/memory.ts';
import { attentionLayer, type Model } from '../src/models.ts';
import { plainJs } from '../src/peers/plain-js.ts';
import { createProgress } from '../src/progress.ts';
import type { Report } from '../src/results.ts';
import { runPlan } from '../src/run.ts';
import { modelWorkloads } from '../src/workloads.ts';

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
