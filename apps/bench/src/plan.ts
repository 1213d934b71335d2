import { readFile } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { AttentionError, isAttentionError } from '@heed/core';
import type { Arguments } from './arguments.ts';
import { parseConfig } from './config.ts';
import type { Inputs } from './inputs.ts';
import { type Model, models } from './models.ts';
import { readRecorded, recordedCall } from './recorded-inputs.ts';
import type { Subject } from './results.ts';
import { modelRun, modelWorkloads, suiteWorkloads, type Workload } from './workloads.ts';

/** What is to be measured. */
export interface Work {
  readonly subject: Subject;
  readonly workloads: readonly Workload[];
  readonly recorded: ReadonlyMap<string, Inputs>;
}

/**
 * Turns the command line into calls to make, with their inputs where a file has them.
 *
 * @throws AttentionError `invalid-argument`, `invalid-file`, `invalid-shape`, `unsupported`
 */
export async function plannedWork(asked: Arguments): Promise<Work> {
  const work = await everything(asked);
  const { only } = asked;
  if (only === null) return work;
  const workloads = work.workloads.filter(({ id }) => only.some((text) => id.includes(text)));
  if (workloads.length === 0) throw new AttentionError('invalid-argument', `--only is '${only.join("', '")}'.`, `Expected a part of one of ${work.workloads.map(({ id }) => id).join(' ')}.`);
  return { ...work, workloads };
}

async function everything(asked: Arguments): Promise<Work> {
  const { suite, batch } = asked;
  const dtype = asked.dtype ?? 'f32';
  if (suite !== 'model') return { subject: { name: `suite ${suite}`, tokens: null, decode: 0, batch, dtype }, workloads: suiteWorkloads(suite, batch, dtype), recorded: new Map() };
  const model = await chosenModel(asked);
  if (asked.tensors !== null) {
    const { workload, inputs } = await namingFile(asked.tensors, async (path) => recordedCall(await readRecorded(path), model, asked.dtype));
    const name = `${basename(asked.tensors)}${model === null ? '' : ` in ${model.name}`}`;
    return { subject: { name, tokens: workload.keyLength, decode: 0, batch: workload.batch, dtype: workload.dtype }, workloads: [workload], recorded: new Map([[workload.id, inputs]]) };
  }
  const named = model ?? preset('gpt2');
  const run = modelRun(named, { ...asked, dtype });
  return { subject: { name: named.name, ...run }, workloads: modelWorkloads(named, run), recorded: new Map() };
}

/** Errors of the work begin with the path. */
async function namingFile<T>(path: string, work: (path: string) => Promise<T>): Promise<T> {
  try {
    return await work(path);
  } catch (error) {
    if (!isAttentionError(error)) throw error;
    const { code, message, hint } = error;
    throw new AttentionError(code, `${path}: ${message.endsWith(` ${hint}`) ? message.slice(0, -hint.length - 1) : message}`, hint, { cause: error });
  }
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
  return parseConfig(text, basename(config) === 'config.json' ? basename(dirname(resolve(config))) : basename(config, '.json'), config);
}

function preset(name: string): Model {
  const model = models.find((candidate) => candidate.name === name);
  if (model === undefined) throw new AttentionError('invalid-argument', `--model is '${name}'.`, `Expected one of ${models.map((candidate) => candidate.name).join(', ')}, or pass --config.`);
  return model;
}
