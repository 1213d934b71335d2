import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isAttentionError } from '@heed/core';
import { helpText, parseArguments } from './arguments.ts';
import { competitorSources, startCompetitors } from './competitors.ts';
import { measureLimits } from './limits.ts';
import { runLinearSuite } from './linear/suite.ts';
import { describeMachine } from './machine.ts';
import { probePeakBytes } from './memory.ts';
import { renderPage } from './page.ts';
import { plannedWork } from './plan.ts';
import { createProgress } from './progress.ts';
import type { Report } from './results.ts';
import { runPlan } from './run.ts';
import { runSparseSuite } from './sparse/suite.ts';
import { renderTable } from './table.ts';

async function writeReport(report: Report, json: string | null): Promise<readonly string[]> {
  const stem = join('bench-results', report.createdAt.replace(/[:.]/g, '-'));
  const text = `${JSON.stringify(report, null, 2)}\n`;
  await mkdir(dirname(stem), { recursive: true });
  await writeFile(`${stem}.json`, text);
  await writeFile(`${stem}.html`, renderPage(report));
  if (json !== null) {
    await mkdir(dirname(json), { recursive: true });
    await writeFile(json, text);
  }
  return [`${stem}.json`, `${stem}.html`, ...(json === null ? [] : [json])];
}

/** Runs the command line and returns the exit code: 0 when everything that ran was right, 1 when a backend was not, 2 for bad input. */
async function main(argv: readonly string[]): Promise<number> {
  const asked = parseArguments(argv);
  if (asked.help) {
    console.log(helpText(competitorSources));
    return 0;
  }
  if (asked.suite === 'linear') return runLinearSuite(asked);
  if (asked.suite === 'sparse') return runSparseSuite(asked);
  const work = await plannedWork(asked);
  const competitors = await startCompetitors(asked);
  const progress = createProgress(process.stderr);
  try {
    progress.step('measuring the limits of this machine', 0);
    const limits = await measureLimits(competitors);
    const report = await runPlan({ ...work, competitors, machine: describeMachine(), limits, seconds: asked.seconds, progress, probePeakBytes: (probe) => probePeakBytes({ argv, ...probe }) });
    console.log(renderTable(report));
    console.log(`written: ${(await writeReport(report, asked.json)).join(', ')}`);
    return report.outcomes.some(({ role, verdict }) => role === 'backend' && verdict?.passed === false) ? 1 : 0;
  } finally {
    for (const competitor of competitors) await competitor.dispose();
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!isAttentionError(error)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 2;
}
