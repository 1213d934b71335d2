import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** What a lane did, test by test. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  /** What the test command should say though nothing failed. */
  readonly note?: string;
}

/** Where the script `task` of the package in `folder` leaves its counts. */
export function countsFile(folder: string, task: string): string {
  return join(folder, '.results', `${task.replaceAll(':', '-')}.json`);
}

export function writeCounts(folder: string, task: string, counts: Counts): void {
  const file = countsFile(folder, task);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(counts)}\n`);
}

/** The counts a lane left, or undefined where it left none that can be read. Other fields of the file are its own affair. */
export function readCounts(folder: string, task: string): Counts | undefined {
  const file = countsFile(folder, task);
  if (!existsSync(file)) return undefined;
  const parsed: unknown = JSON.parse(readFileSync(file, 'utf8'));
  if (typeof parsed !== 'object' || parsed === null || !('passed' in parsed) || !('failed' in parsed)) return undefined;
  const { passed, failed } = parsed;
  const note = 'note' in parsed && typeof parsed.note === 'string' ? { note: parsed.note } : {};
  return Number.isInteger(passed) && Number.isInteger(failed) ? { passed: passed as number, failed: failed as number, ...note } : undefined;
}

/** A named check and what is wrong, if anything. */
export interface Finding {
  readonly check: string;
  readonly problems: readonly string[];
}

/** Prints what is wrong, leaves the counts of `task` and sets the exit code: how a script of this folder ends. */
export function conclude(folder: string, task: string, findings: readonly Finding[], note?: string): void {
  const failed = findings.filter(({ problems }) => problems.length > 0);
  for (const { check, problems } of failed) console.error(`${check}\n${problems.map((problem) => `  ${problem.replaceAll('\n', '\n  ')}`).join('\n')}`);
  const counts = { passed: findings.length - failed.length, failed: failed.length };
  writeCounts(folder, task, note === undefined ? counts : { ...counts, note });
  console.log(`${task}: ${counts.passed} passed, ${counts.failed} failed${note === undefined ? '' : `\n${note}`}`);
  if (failed.length > 0) process.exitCode = 1;
}
