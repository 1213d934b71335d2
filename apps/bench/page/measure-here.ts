import { AttentionError } from '@heed/core';
import { backendSources } from '../src/backends.ts';
import type { Competitor } from '../src/competitor.ts';
import type { CompetitorSource } from '../src/competitors.ts';
import type { BenchDtype } from '../src/dtypes.ts';
import { measureLimits } from '../src/limits.ts';
import { models } from '../src/models.ts';
import type { Progress } from '../src/progress.ts';
import { refusingCompetitor } from '../src/refusing.ts';
import type { Report, Subject } from '../src/results.ts';
import { runPlan } from '../src/run.ts';
import { modelRun, modelWorkloads, suites, suiteWorkloads, type Workload } from '../src/workloads.ts';
import { describeBrowser } from './machine.ts';
import { peerSources } from './peers.ts';

/** Everything that can be measured in a page. cpu-wide needs a flag of the engine, which a page cannot set. */
export const pageSources: readonly CompetitorSource[] = [...backendSources.filter(({ ownProcess }) => ownProcess !== true), ...peerSources];

/** What `suite` may be: fixed lists, then models. */
export const subjects: readonly string[] = [...suites.filter((suite) => suite !== 'model').toReversed(), ...models.map(({ name }) => name)];

/** What the form asks for. */
export interface Asked {
  readonly suite: string;
  /** Part of the ids of the calls that are measured; empty: all. */
  readonly only: string;
  readonly dtype: BenchDtype;
  readonly seconds: number;
  /** Names of backends and peers. */
  readonly competitors: readonly string[];
}

/** @throws AttentionError `invalid-argument` for calls or competitors that are not there */
export async function measureHere(asked: Asked, progress: Progress): Promise<Report> {
  const { subject, workloads } = workOf(asked);
  const chosen = pageSources.filter(({ name }) => asked.competitors.includes(name));
  if (chosen.length === 0) throw new AttentionError('invalid-argument', 'Nobody is to be measured.', 'Choose a backend or a peer.');
  const competitors: Competitor[] = [];
  try {
    for (const source of chosen) {
      progress.step(`starting ${source.name}`, 0);
      await painted();
      competitors.push(yielding(await startOrExplain(source)));
    }
    progress.step('measuring what this machine can do at most', 0);
    await painted();
    const limits = await measureLimits(competitors);
    // A page has no way to tell what a call takes of memory.
    return await runPlan({ subject, workloads, recorded: new Map(), competitors, machine: await describeBrowser(), limits, seconds: asked.seconds, progress, probePeakBytes: () => Promise.resolve(null) });
  } finally {
    for (const competitor of competitors) await competitor.dispose();
  }
}

function workOf({ suite, only, dtype }: Asked): { readonly subject: Subject; readonly workloads: readonly Workload[] } {
  const model = models.find(({ name }) => name === suite);
  const run = model === undefined ? { tokens: null, decode: 0, batch: 1, dtype } : modelRun(model, { tokens: null, decode: null, batch: 1, dtype });
  const all = model === undefined ? suiteWorkloads(suite, 1, dtype) : modelWorkloads(model, run);
  const workloads = all.filter(({ id }) => id.includes(only));
  if (workloads.length === 0) throw new AttentionError('invalid-argument', `No call of ${suite} has '${only}' in its name.`, `There are ${all.map(({ id }) => id).join(' ')}.`);
  return { subject: { name: model?.name ?? `suite ${suite}`, ...run }, workloads };
}

async function startOrExplain(source: CompetitorSource): Promise<Competitor> {
  try {
    return await source.start({ threads: navigator.hardwareConcurrency });
  } catch (error) {
    return refusingCompetitor(source, error);
  }
}

/** Lets the page paint before work that may hold it. */
function yielding(competitor: Competitor): Competitor {
  return {
    ...competitor,
    prepare: async (...given) => {
      await painted();
      return competitor.prepare(...given);
    },
  };
}

async function painted(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 20));
}
