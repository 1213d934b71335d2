import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { spawnSync } from 'node:child_process';
import { countsFile, readCounts, writeCounts } from './counts.ts';
import { runIn, type OtherRuntime } from './runtimes.ts';
import { root } from './workspace.ts';

/**
 * Runs the conformance suite as a lane of the package it is run in:
 *
 *     node suite.ts conformance <backend>               judges `backends/<backend>.ts`; leaves the report as JSON and JUnit
 *     node suite.ts conformance <backend> --in deno     the same in Deno, or in bun, with the packages as built
 *     node suite.ts mutants                             judges the suite by backends that are wrong on purpose
 *
 * `--complete` forbids refusals, except of what the backend's capabilities leave out.
 * `--lane` names the lane where it is not `conformance` (or `conformance-deno`, `conformance-bun`). In Node everything runs from source, and
 * HEED_EXAMPLES, a number or `all`, says how many examples to run besides the laws; where it says nothing, `--examples` does, for a lane in which every
 * example compiles for long. Other runtimes run few: they differ in how threads and WebAssembly work, not in arithmetic.
 */

const fewExamples = '10';

const { values, positionals } = parseArgs({ allowPositionals: true, options: { in: { type: 'string' }, lane: { type: 'string' }, complete: { type: 'boolean', default: false }, examples: { type: 'string' } } });
const [mode, backend = ''] = positionals;
if (mode !== 'mutants' && (mode !== 'conformance' || backend === '')) throw new Error('Say which backend, or mutants.');
const runtime = otherRuntime(values.in);
const folder = process.cwd();
const lane = values.lane ?? (runtime === undefined ? mode : `${mode}-${runtime}`);
const report = countsFile(folder, lane);
mkdirSync(dirname(report), { recursive: true });

function otherRuntime(name: string | undefined): OtherRuntime | undefined {
  if (name === undefined || name === 'deno' || name === 'bun') return name;
  throw new Error(`There is no runtime '${name}'; expected deno or bun.`);
}

function runSuite(): { readonly status: number; readonly output: string } {
  const examples = runtime === undefined ? (process.env.HEED_EXAMPLES ?? values.examples) : fewExamples;
  const suite =
    mode === 'mutants'
      ? ['--mutants']
      : [
          join(import.meta.dirname, '../backends', `${backend}.ts`),
          ...['--json', report, '--junit', report.replace(/json$/, 'xml')],
          ...(examples === undefined ? [] : ['--examples', examples]),
          ...(values.complete ? ['--no-refusals'] : []),
        ];
  if (runtime !== undefined) return runIn(runtime, join(root, 'packages/conformance/dist/command-line.js'), suite, folder);
  const command = ['--conditions=@heed/source', join(root, 'packages/conformance/src/command-line.ts'), ...suite];
  const { status, stdout } = spawnSync(process.execPath, command, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 64 * 1024 * 1024 });
  return { status: status ?? 1, output: stdout };
}

const { status, output } = runSuite();
console.log(output);

if (mode === 'mutants') {
  // Its last line is the total.
  const [, passed, failed] = /(\d+) passed, (\d+) failed\s*$/.exec(output) ?? [];
  if (passed !== undefined && failed !== undefined) writeCounts(folder, lane, { passed: Number(passed), failed: Number(failed) });
} else if (readCounts(folder, lane) === undefined) {
  console.error(`No report at ${report}.`);
}
process.exitCode = status;
