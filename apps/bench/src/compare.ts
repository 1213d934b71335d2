import { readFile } from 'node:fs/promises';
import { AttentionError } from '@heed/core';
import { formatMilliseconds, formatShare } from './format.ts';
import type { Timing } from './measure.ts';
import type { Outcome, Report } from './results.ts';

/** One workload on one competitor, in two runs. */
export interface Change {
  readonly workload: string;
  readonly competitor: string;
  readonly role: 'backend' | 'peer';
  readonly before: Timing;
  readonly after: Timing;
  /** The median after over the median before: below 1 is faster. */
  readonly factor: number;
  /** How far apart medians may be by chance: the wider of the two spreads, as a share of its median. One sample has none, so nothing is said of it. */
  readonly noise: number | null;
  /** 'faster' and 'slower' only where the two runs' times do not overlap at all. */
  readonly verdict: 'faster' | 'slower' | 'within the noise' | 'too few samples';
}

/** What two runs have in common, in the order of the first. */
export function changesOf(before: Pick<Report, 'outcomes'>, after: Pick<Report, 'outcomes'>): readonly Change[] {
  return before.outcomes.flatMap((old) => {
    const now = after.outcomes.find(({ workload, competitor }) => workload === old.workload && competitor === old.competitor);
    return old.timing === null || now?.timing === undefined || now.timing === null ? [] : [changeOf(old, old.timing, now.timing)];
  });
}

function changeOf({ workload, competitor, role }: Outcome, before: Timing, after: Timing): Change {
  const spread = ({ min, max, median, runs }: Timing): number | null => (runs < 3 ? null : (max - min) / 2 / median);
  const [first, second] = [spread(before), spread(after)];
  const noise = first === null || second === null ? null : Math.max(first, second);
  return { workload, competitor, role, before, after, factor: after.median / before.median, noise, verdict: verdictOf(before, after, noise) };
}

function verdictOf(before: Timing, after: Timing, noise: number | null): Change['verdict'] {
  if (noise === null) return 'too few samples';
  if (after.max < before.min) return 'faster';
  return after.min > before.max ? 'slower' : 'within the noise';
}

/** The factor of all peers, whose code did not change: what the machine did between the two runs. Null without peers in both. */
export function driftOf(changes: readonly Change[]): number | null {
  const logs = changes.filter(({ role }) => role === 'peer').map(({ factor }) => Math.log(factor)).sort((a, b) => a - b);
  return logs.length === 0 ? null : Math.exp(logs[Math.floor(logs.length / 2)] ?? 0);
}

/** Both runs side by side, as text for a terminal. */
export function renderChanges(changes: readonly Change[]): string {
  const drift = driftOf(changes);
  const rows = changes.map(({ workload, competitor, before, after, factor, noise, verdict }) => [
    workload,
    competitor,
    formatMilliseconds(before.median),
    formatMilliseconds(after.median),
    `${factor < 1 ? '−' : '+'}${formatShare(Math.abs(factor - 1))}`,
    noise === null ? `${Math.min(before.runs, after.runs)} samples` : `± ${formatShare(noise)}`,
    verdict,
  ]);
  const table = [['workload', 'by', 'before', 'after', 'change', 'noise', ''], ...rows];
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  return [
    ...table.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd()),
    '',
    drift === null ? 'No peer is in both runs, so it is not known what the machine itself did between them.' : `Peers, whose code is the same in both runs, changed by a factor of ${drift.toFixed(2)} (median): that much is the machine.`,
    'faster, slower: no time of one run is among those of the other. noise: half of what the wider run spread.',
  ].join('\n');
}

/** Reads a report that the bench wrote. @throws AttentionError `invalid-file` */
export async function readReport(path: string): Promise<Pick<Report, 'outcomes' | 'createdAt'>> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new AttentionError('invalid-file', `${path} cannot be read as JSON.`, 'Pass a file that the bench wrote.', { cause });
  }
  const outcomes: unknown = typeof parsed === 'object' && parsed !== null ? Reflect.get(parsed, 'outcomes') : undefined;
  if (!Array.isArray(outcomes) || !outcomes.every(isOutcome)) throw new AttentionError('invalid-file', `${path} is no report of the bench.`, 'Pass a file that `bench --json` wrote.');
  return parsed as Report;
}

function isOutcome(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const timing: unknown = Reflect.get(value, 'timing');
  const isTiming = timing === null || (typeof timing === 'object' && ['median', 'min', 'max', 'runs'].every((name) => typeof Reflect.get(timing, name) === 'number'));
  return typeof Reflect.get(value, 'workload') === 'string' && typeof Reflect.get(value, 'competitor') === 'string' && isTiming;
}
