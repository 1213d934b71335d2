import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { changesOf, driftOf, readReport, renderChanges } from '../src/compare.ts';
import type { Outcome } from '../src/results.ts';

const folder = await mkdtemp(join(tmpdir(), 'heed-compare-'));
afterAll(async () => rm(folder, { recursive: true }));

function outcome(workload: string, competitor: string, times: readonly number[], role: 'backend' | 'peer' = 'backend'): Outcome {
  const sorted = [...times].sort((a, b) => a - b);
  const timing = times.length === 0 ? null : { median: sorted[Math.floor(sorted.length / 2)] ?? 0, min: sorted[0] ?? 0, max: sorted.at(-1) ?? 0, runs: times.length };
  return { workload, competitor, role, way: null, verdict: null, timing, refusal: timing === null ? 'refused' : null, compiling: null, peakBytes: null, usefulGigaflopsPerSecond: null, gigabytesPerSecond: null, limitShare: null };
}

test('a change is clear only where the times of two runs do not overlap', () => {
  const before = { outcomes: [outcome('a', 'cpu', [10, 11, 12]), outcome('b', 'cpu', [10, 11, 12]), outcome('c', 'cpu', [10, 11, 12]), outcome('d', 'cpu', [10]), outcome('e', 'cpu', [])] };
  const after = { outcomes: [outcome('a', 'cpu', [5, 6, 7]), outcome('b', 'cpu', [11, 13, 14]), outcome('c', 'cpu', [20, 21, 22]), outcome('d', 'cpu', [5]), outcome('e', 'cpu', [1, 1, 1])] };
  const changes = changesOf(before, after);
  expect(changes.map(({ workload, verdict }) => [workload, verdict])).toEqual([['a', 'faster'], ['b', 'within the noise'], ['c', 'slower'], ['d', 'too few samples']]);
  expect(changes[0]?.factor).toBeCloseTo(6 / 11, 10);
  // The wider spread: (12 − 10) / 2 / 11 against (7 − 5) / 2 / 6.
  expect(changes[0]?.noise).toBeCloseTo(1 / 6, 10);
});

test('what peers did in between is the machine', () => {
  const changes = changesOf(
    { outcomes: [outcome('a', 'cpu', [1, 1, 1]), outcome('a', 'p', [1, 1, 1], 'peer'), outcome('b', 'p', [1, 1, 1], 'peer'), outcome('c', 'p', [1, 1, 1], 'peer')] },
    { outcomes: [outcome('a', 'cpu', [9, 9, 9]), outcome('a', 'p', [2, 2, 2], 'peer'), outcome('b', 'p', [1.5, 1.5, 1.5], 'peer'), outcome('c', 'p', [1, 1, 1], 'peer')] },
  );
  expect(driftOf(changes)).toBeCloseTo(1.5, 10);
  expect(renderChanges(changes)).toContain('factor of 1.50');
  expect(driftOf(changes.slice(0, 1))).toBeNull();
});

test('what is no report is refused', async () => {
  const path = join(folder, 'file.json');
  for (const text of ['', '[]', '{"outcomes":[1]}', '{"outcomes":[{"workload":"a","competitor":"b","timing":{"median":1}}]}']) {
    await writeFile(path, text);
    await expect(readReport(path)).rejects.toMatchObject({ code: 'invalid-file' });
  }
  await writeFile(path, JSON.stringify({ outcomes: [outcome('a', 'cpu', [1])] }));
  expect((await readReport(path)).outcomes).toHaveLength(1);
});
