import { mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { readCounts, type Counts } from './counts.ts';
import { lanes, type Lane } from './lanes.ts';
import { root, workspacePackages } from './workspace.ts';

/**
 * The test command: runs every lane through turbo, which keeps the results of lanes whose inputs did not change, and adds up.
 * `--full` runs every example of the conformance suite instead of a seeded sample. The last line is `N passed, N failed`.
 */

interface Task {
  readonly task: string;
  readonly package: string;
  readonly directory: string;
  readonly command: string;
  readonly cache: { readonly status: 'HIT' | 'MISS' };
  /** Absent where a task that this one needs has failed, so that it never ran. */
  readonly execution?: { readonly startTime: number; readonly endTime: number; readonly exitCode: number | null };
}

/** What turbo says of its run, or no tasks where it did not get that far. */
function runTurbo(full: boolean): { readonly status: number; readonly tasks: readonly Task[] } {
  const summaries = join(root, '.turbo/runs');
  rmSync(summaries, { recursive: true, force: true });
  mkdirSync(summaries, { recursive: true });
  const { status } = spawnSync('turbo', ['run', ...lanes.map(({ script }) => script), '--continue=dependencies-successful', '--output-logs=errors-only', '--summarize', '--concurrency=100%'], {
    cwd: root,
    stdio: 'inherit',
    shell: process.platform === 'win32',
    env: { ...process.env, TURBO_TELEMETRY_DISABLED: '1', ...(full ? { HEED_EXAMPLES: 'all' } : {}) },
  });
  const [summary] = readdirSync(summaries);
  if (summary === undefined) return { status: status ?? 1, tasks: [] };
  const { tasks } = JSON.parse(readFileSync(join(summaries, summary), 'utf8')) as { readonly tasks: readonly Task[] };
  return { status: status ?? 1, tasks: tasks.filter(({ command }) => command !== '<NONEXISTENT>') };
}

/** A lane that ended badly has failed at least once, whatever it counted; one that counted nothing has proved nothing. */
function countsOf(task: Task, { leavesCounts, script }: Lane): Counts {
  const succeeded = task.execution?.exitCode === 0;
  if (!leavesCounts) return succeeded ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
  const counts = task.execution === undefined ? undefined : readCounts(join(root, task.directory), script);
  if (counts === undefined) return { passed: 0, failed: 1 };
  const proved = succeeded && counts.passed + counts.failed > 0;
  return proved ? counts : { passed: counts.passed, failed: Math.max(1, counts.failed) };
}

function noteOf({ execution, cache }: Task): string {
  if (execution === undefined) return 'not run: something it needs has failed';
  return cache.status === 'HIT' ? 'unchanged' : `${((execution.endTime - execution.startTime) / 1000).toFixed(1)} s`;
}

const started = performance.now();
for (const { folder } of workspacePackages()) rmSync(join(folder, '.results'), { recursive: true, force: true });
const { status, tasks } = runTurbo(process.argv.includes('--full'));

const total = { passed: 0, failed: 0 };
for (const lane of lanes) {
  const inLane = tasks.filter(({ task }) => task === lane.script);
  if (inLane.length === 0) {
    console.log(`${lane.script.padEnd(14)} no package has this script`);
    total.failed += 1;
  }
  for (const task of inLane) {
    const { passed, failed } = countsOf(task, lane);
    total.passed += passed;
    total.failed += failed;
    console.log(`${lane.script.padEnd(14)} ${task.package.padEnd(22)} ${String(passed).padStart(6)} passed ${String(failed).padStart(4)} failed   ${noteOf(task)}`);
  }
}
// Turbo's own word counts too: it may fail without a task to blame.
if (status !== 0 && total.failed === 0) total.failed = 1;
console.log(`${((performance.now() - started) / 1000).toFixed(0)} s`);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 ? 0 : 1;
