import { mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { chromiumIdentity } from './chromium.ts';
import { readCounts, type Counts } from './counts.ts';
import { lanes, type Lane } from './lanes.ts';
import { adapterIdentity } from './webgpu-adapter.ts';
import { root, workspacePackages } from './workspace.ts';

/**
 * The test command: runs every lane through turbo, which keeps the results of lanes whose inputs did not change, and adds up.
 * `--full` runs every example of the conformance suite instead of a seeded sample. The last line is `N passed, N failed`.
 */

interface Task {
  readonly task: string;
  readonly package: string;
  readonly cache: { readonly status: 'HIT' | 'MISS' };
  readonly execution?: { readonly startTime: number; readonly endTime: number; readonly exitCode: number | null };
}

/** What turbo says of a run: of the tasks that it ran or had kept, not of those whose needs failed. */
function runTurbo(scripts: readonly string[], concurrency: string, environment: Readonly<Record<string, string>>): { readonly status: number; readonly tasks: readonly Task[] } {
  const summaries = join(root, '.turbo/runs');
  rmSync(summaries, { recursive: true, force: true });
  mkdirSync(summaries, { recursive: true });
  const options = ['--continue=dependencies-successful', '--output-logs=errors-only', '--summarize', `--concurrency=${concurrency}`];
  const { status } = spawnSync('turbo', ['run', ...scripts, ...options], {
    cwd: root,
    stdio: 'inherit',
    shell: process.platform === 'win32',
    env: { ...process.env, TURBO_TELEMETRY_DISABLED: '1', ...environment },
  });
  const [summary] = readdirSync(summaries);
  if (summary === undefined) return { status: status ?? 1, tasks: [] };
  const { tasks } = JSON.parse(readFileSync(join(summaries, summary), 'utf8')) as { readonly tasks: readonly Task[] };
  return { status: status ?? 1, tasks };
}

/** A lane that ended badly has failed at least once, whatever it counted; one that counted nothing has proved nothing. */
function countsOf(folder: string, { leavesCounts, script }: Lane, task: Task | undefined): Counts {
  const succeeded = task?.execution?.exitCode === 0;
  if (!leavesCounts) return succeeded ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
  const counts = task === undefined ? undefined : readCounts(folder, script);
  if (counts === undefined) return { passed: 0, failed: 1 };
  const proved = succeeded && counts.passed + counts.failed > 0;
  return proved ? counts : { ...counts, failed: Math.max(1, counts.failed) };
}

function noteOf(task: Task | undefined): string {
  if (task?.execution === undefined) return 'not run: something it needs has failed';
  const { startTime, endTime } = task.execution;
  return task.cache.status === 'HIT' ? 'unchanged' : `${((endTime - startTime) / 1000).toFixed(1)} s`;
}

const started = performance.now();
const packages = workspacePackages();
for (const { folder } of packages) rmSync(join(folder, '.results'), { recursive: true, force: true });
/** What lanes in browsers and on GPUs depend on beside the sources: their results are kept as long as it stays. */
const identities = [chromiumIdentity(), adapterIdentity()];
const devices = createHash('sha256').update(identities.map((identity) => identity ?? randomUUID()).join('\n')).digest('hex');
const environment: Readonly<Record<string, string>> = { HEED_DEVICES: devices, ...(process.argv.includes('--full') ? { HEED_EXAMPLES: 'all' } : {}) };
const scripts = (alone: boolean): readonly string[] => lanes.filter((lane) => (lane.alone ?? false) === alone).map(({ script }) => script);
const runs = [runTurbo(scripts(false), '100%', environment), runTurbo(scripts(true), '1', environment)];
const tasks = runs.flatMap((run) => run.tasks);

const total = { passed: 0, failed: 0 };
const notes: string[] = [];
for (const lane of lanes) {
  const inLane = packages.filter(({ manifest }) => manifest.scripts?.[lane.script] !== undefined);
  if (inLane.length === 0) {
    console.log(`${lane.script.padEnd(18)} no package has this script`);
    total.failed += 1;
  }
  for (const { folder, manifest } of inLane) {
    const task = tasks.find((candidate) => candidate.task === lane.script && candidate.package === manifest.name);
    const { passed, failed, note } = countsOf(folder, lane, task);
    total.passed += passed;
    total.failed += failed;
    const counted = `${String(passed).padStart(6)} passed ${String(failed).padStart(4)} failed`;
    console.log(`${lane.script.padEnd(18)} ${manifest.name.padEnd(22)} ${counted}   ${noteOf(task)}`);
    if (note !== undefined) notes.push(note);
  }
}
// Turbo's own word counts too: it may fail without a task to blame.
if (total.failed === 0 && runs.some(({ status }) => status !== 0)) total.failed = 1;
for (const note of notes) console.log(note);
console.log(`${((performance.now() - started) / 1000).toFixed(0)} s`);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 ? 0 : 1;
