import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { AttentionError, isAttentionError } from '@heed/core';
import { type Arguments, helpText, parseArguments } from './arguments.ts';
import { backendSources, competitorOf } from './backends.ts';
import type { Competitor } from './competitor.ts';
import { parseConfig } from './config.ts';
import { type Inputs } from './inputs.ts';
import { javascriptLimit, measureJavascriptLimit, type MeasureLimit, measureLimits } from './limits.ts';
import { describeMachine } from './machine.ts';
import { type Model, models } from './models.ts';
import { renderPage } from './page.ts';
import { peerSources } from './peers/peers.ts';
import { createProgress } from './progress.ts';
import { readRecorded, recordedCall } from './recorded-inputs.ts';
import type { Report, Subject } from './results.ts';
import { runPlan } from './run.ts';
import { renderTable } from './table.ts';
import { modelRun, modelWorkloads, suiteWorkloads, type Workload } from './workloads.ts';

/** What is to be measured. */
interface Work {
  readonly subject: Subject;
  readonly workloads: readonly Workload[];
  readonly recorded: ReadonlyMap<string, Inputs>;
}

async function plannedWork(asked: Arguments): Promise<Work> {
  const { suite, batch } = asked;
  const dtype = asked.dtype ?? 'f32';
  if (suite !== 'model') return { subject: { name: `suite ${suite}`, tokens: null, decode: 0, batch, dtype }, workloads: suiteWorkloads(suite, batch, dtype), recorded: new Map() };
  const model = await chosenModel(asked);
  if (asked.tensors !== null) {
    const { workload, inputs } = recordedCall(await readRecorded(asked.tensors), model, asked.dtype);
    const name = `${basename(asked.tensors)}${model === null ? '' : ` in ${model.name}`}`;
    return { subject: { name, tokens: workload.keyLength, decode: 0, batch: workload.batch, dtype: workload.dtype }, workloads: [workload], recorded: new Map([[workload.id, inputs]]) };
  }
  const named = model ?? preset('gpt2');
  const run = modelRun(named, { ...asked, dtype });
  return { subject: { name: named.name, ...run }, workloads: modelWorkloads(named, run), recorded: new Map() };
}

/** The model that was named; null when none was. */
async function chosenModel({ model, config }: Arguments): Promise<Model | null> {
  if (config === null) return model === null ? null : preset(model);
  let text: string;
  try {
    text = await readFile(config, 'utf8');
  } catch (cause) {
    throw new AttentionError('invalid-file', `Cannot read ${config}.`, 'Check the path and its permissions.', { cause });
  }
  // A config.json is named after the folder of its checkpoint.
  return parseConfig(text, basename(config) === 'config.json' ? basename(dirname(join(process.cwd(), config))) : basename(config, '.json'));
}

function preset(name: string): Model {
  const model = models.find((candidate) => candidate.name === name);
  if (model === undefined) throw new AttentionError('invalid-argument', `--model is '${name}'.`, `Expected one of ${models.map((candidate) => candidate.name).join(', ')}, or pass --config.`);
  return model;
}

/** The rows whose names were asked for, all when none were. */
function chosen<T extends { readonly name: string }>(option: string, rows: readonly T[], names: readonly string[] | null): readonly T[] {
  const unknown = names?.find((name) => !rows.some((row) => row.name === name));
  if (unknown !== undefined) throw new AttentionError('invalid-argument', `${option} is '${unknown}'.`, `Expected one of ${rows.map(({ name }) => name).join(', ')}.`);
  return names === null ? rows : rows.filter(({ name }) => names.includes(name));
}

async function startCompetitors(asked: Arguments): Promise<readonly Competitor[]> {
  const backends = chosen('--backend', backendSources, asked.backends);
  const peers = chosen('--peer', peerSources, asked.peers);
  const started = await Promise.all(backends.map(async (source) => competitorOf(source, await source.create())));
  return [...started, ...peers.map((peer) => peer.create())];
}

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
    console.log(helpText(backendSources.map(({ name }) => name), peerSources.map(({ name }) => name)));
    return 0;
  }
  const work = await plannedWork(asked);
  const competitors = await startCompetitors(asked);
  const progress = createProgress(process.stderr);
  try {
    progress.step('measuring the limits of this machine', 0);
    const limits = await measureLimits(new Map<string, MeasureLimit>([[javascriptLimit, measureJavascriptLimit]]));
    const report = await runPlan({ ...work, competitors, machine: describeMachine(), limits, seconds: asked.seconds, progress });
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
