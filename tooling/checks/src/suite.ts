import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { countsFile, readCounts, writeCounts } from './counts.ts';
import { root } from './workspace.ts';

/**
 * Runs the conformance suite, from source, as a lane of the package it is run in:
 *
 *     node suite.ts conformance <backend>    judges `backends/<backend>.ts`; leaves the report as JSON and JUnit
 *     node suite.ts mutants                  judges the suite by backends that are wrong on purpose
 *
 * A lane of another name than `conformance` is given as a third argument. HEED_EXAMPLES, a number or `all`, says how many
 * examples to run besides the laws.
 */

const [mode, backend = '', lane = mode] = process.argv.slice(2);
const folder = process.cwd();
if (lane === undefined || (mode !== 'mutants' && backend === '')) throw new Error('Say which backend, or mutants.');

const report = countsFile(folder, lane);
mkdirSync(dirname(report), { recursive: true });
const examples = process.env.HEED_EXAMPLES;
const suite =
  mode === 'mutants'
    ? ['--mutants']
    : [
        join(import.meta.dirname, '../backends', `${backend}.ts`),
        ...['--json', report, '--junit', report.replace(/json$/, 'xml')],
        ...(examples === undefined ? [] : ['--examples', examples]),
      ];
const { status, stdout } = spawnSync(process.execPath, ['--conditions=@heed/source', join(root, 'packages/conformance/src/command-line.ts'), ...suite], {
  cwd: folder,
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
  maxBuffer: 64 * 1024 * 1024,
});
console.log(stdout);

if (mode === 'mutants') {
  // Its last line is the total.
  const [, passed, failed] = /(\d+) passed, (\d+) failed\s*$/.exec(stdout) ?? [];
  if (passed !== undefined && failed !== undefined) writeCounts(folder, lane, { passed: Number(passed), failed: Number(failed) });
} else if (readCounts(folder, lane) === undefined) {
  console.error(`No report at ${report}.`);
}
process.exitCode = status ?? 1;
