/** Checks, measures and times every workload on every competitor. */
import { isAttentionError } from '@heed/core';
import { boundOf, computeExpected, judge } from './check.ts';
import type { Competitor, Prepared } from './competitor.ts';
import { type Inputs, randomInputs } from './inputs.ts';
import { leastMilliseconds, type Limits } from './limits.ts';
import type { Machine } from './machine.ts';
import { type Contender, measure, type Measurement, type Verdict } from './measure.ts';
import type { Progress } from './progress.ts';
import { type Outcome, recordsOf, type Report, type Subject, totalsOf } from './results.ts';
import { leastBytes, usefulFlops, type Workload } from './workloads.ts';

/** What a run needs. */
export interface RunPlan {
  readonly subject: Subject;
  readonly workloads: readonly Workload[];
  /** Recorded inputs by workload id; random ones where there are none. */
  readonly recorded: ReadonlyMap<string, Inputs>;
  readonly competitors: readonly Competitor[];
  readonly machine: Machine;
  readonly limits: Limits;
  /** Seconds to spend on measuring, all together. */
  readonly seconds: number;
  readonly progress: Progress;
  /** Peak memory of one call beyond inputs and outputs, by workload id and competitor name; null where it cannot be measured. */
  probePeakBytes(workload: string, competitor: string): Promise<number | null>;
}

/** Runs the plan. A competitor that fails on a workload is reported there and goes on with the next. */
export async function runPlan(plan: RunPlan): Promise<Report> {
  const { workloads, competitors, subject, machine, limits, progress } = plan;
  const outcomes: Outcome[] = [];
  // Short calls come first, so that compilers have seen the code before the long ones.
  const ordered = [...workloads].sort((a, b) => usefulFlops(a) - usefulFlops(b));
  const total = ordered.reduce((sum, workload) => sum + weight(workload), 0);
  let done = 0;
  for (const workload of ordered) {
    progress.step(workload.id, done / total);
    outcomes.push(...(await runWorkload(plan, workload)));
    done += weight(workload);
  }
  progress.finish();
  return {
    schema: 1,
    createdAt: new Date().toISOString(),
    subject,
    machine,
    limits,
    records: recordsOf(workloads, outcomes),
    totals: workloads.every(({ suite }) => suite === 'model') ? totalsOf(workloads, outcomes, competitors.map(({ name, role }) => ({ competitor: name, role }))) : [],
    workloads,
    outcomes,
  };
}

/** Work that takes long takes more of the bar, but less than in proportion, since measuring has a budget. */
function weight(workload: Workload): number {
  return Math.sqrt(usefulFlops(workload) + 1e6);
}

/** A competitor that is ready, and what is known of it before it is timed. */
interface Ready {
  readonly competitor: Competitor;
  readonly prepared: Prepared;
  readonly verdict: Verdict;
  readonly prepareMilliseconds: number;
  readonly peakBytes: number | null;
}

async function runWorkload(plan: RunPlan, workload: Workload): Promise<readonly Outcome[]> {
  const inputs = plan.recorded.get(workload.id) ?? randomInputs(workload);
  const expected = await computeExpected(workload, inputs);
  const bound = boundOf(workload, inputs, expected);
  const ready = new Map<Competitor, Ready>();
  const refused = new Map<Competitor, string>();
  try {
    for (const competitor of plan.competitors) {
      const made = await makeReady(plan, competitor, workload, inputs, (output) => judge(workload, output, expected, bound));
      if (typeof made === 'string') refused.set(competitor, made);
      else ready.set(competitor, made);
    }
    const budget = (plan.seconds * 1000) / (plan.workloads.length * plan.competitors.length);
    const contenders = [...ready.values()].map(({ competitor, prepared, verdict }): Contender => ({ name: competitor.name, verdict, run: () => prepared.run() }));
    const measurements = await measure(contenders, { budget });
    return plan.competitors.map((competitor) => {
      const one = ready.get(competitor);
      const measurement = measurements.find(({ name }) => name === competitor.name);
      return one === undefined || measurement === undefined ? refusal(workload, competitor, refused.get(competitor) ?? 'not prepared') : outcome(plan, workload, one, measurement);
    });
  } finally {
    for (const { prepared } of ready.values()) await prepared.dispose();
  }
}

/** Prepares, runs once, and compares with the reference; or says why not. */
async function makeReady(plan: RunPlan, competitor: Competitor, workload: Workload, inputs: Inputs, judged: (output: Float64Array) => Verdict): Promise<Ready | string> {
  const reason = competitor.refuses(workload);
  if (reason !== null) return reason;
  const longest = (plan.seconds * 1000) / 3;
  try {
    const predicted = await predictMilliseconds(competitor, workload, longest);
    if (predicted !== null) return `one call would take about ${Math.ceil(predicted / 1000)} s; --seconds ${Math.ceil((predicted * 3) / 1000)} would allow it`;
    const start = performance.now();
    const prepared = await competitor.prepare(workload, inputs);
    const prepareMilliseconds = performance.now() - start;
    await prepared.run();
    const verdict = judged(await prepared.output());
    // What a curve shows is time; what is wrong needs no further number.
    const peakBytes = verdict.passed && workload.phase !== 'curve' ? await plan.probePeakBytes(workload.id, competitor.name) : null;
    return { competitor, prepared, prepareMilliseconds, peakBytes, verdict };
  } catch (error) {
    if (isAttentionError(error)) return `failed with ${error.code}: ${error.message}`;
    throw error;
  }
}

// Below this a call takes seconds at most, whoever makes it.
const surelyShort = 2e7;

/**
 * The time of a call that would take longer than `longest`, told from calls with fewer queries; null for one that would not.
 *
 * Time is taken to be a line over the work: what a call costs whatever its queries, and what each query adds.
 */
async function predictMilliseconds(competitor: Competitor, workload: Workload, longest: number): Promise<number | null> {
  const flops = usefulFlops(workload);
  if (flops < surelyShort) return null;
  let last = { flops: 0, spent: 0 };
  for (let queryLength = 2; queryLength < workload.queryLength; queryLength *= 4) {
    const probe: Workload = { ...workload, batch: 1, queryLength, queryOffset: workload.queryOffset + workload.queryLength - queryLength };
    const now = { flops: usefulFlops(probe), spent: await quickest(competitor, probe) };
    const predicted = now.spent + (Math.max(0, now.spent - last.spent) / (now.flops - last.flops)) * (flops - now.flops);
    if (predicted <= longest) return null;
    // Times shorter than this say more about the clock than about the work, and one point makes no line.
    if (now.spent > 100 && last.flops > 0) return predicted;
    last = now;
  }
  return null;
}

/** The quicker of two calls; the first alone where it is long enough to tell. */
async function quickest(competitor: Competitor, workload: Workload): Promise<number> {
  const prepared = await competitor.prepare(workload, randomInputs(workload));
  const timeOnce = async (): Promise<number> => {
    const start = performance.now();
    await prepared.run();
    return performance.now() - start;
  };
  const first = await timeOnce();
  const spent = first > 100 ? first : Math.min(first, await timeOnce());
  await prepared.dispose();
  return spent;
}

function refusal({ id }: Workload, { name, role }: Competitor, reason: string): Outcome {
  return {
    workload: id,
    competitor: name,
    role,
    verdict: null,
    timing: null,
    refusal: reason,
    prepareMilliseconds: null,
    peakBytes: null,
    usefulGigaflopsPerSecond: null,
    gigabytesPerSecond: null,
    limitShare: null,
  };
}

function outcome({ limits }: RunPlan, workload: Workload, ready: Ready, measurement: Measurement): Outcome {
  const { competitor, verdict, prepareMilliseconds, peakBytes } = ready;
  const base = { workload: workload.id, competitor: competitor.name, role: competitor.role, verdict, prepareMilliseconds, peakBytes };
  if ('refusal' in measurement) return { ...base, timing: null, refusal: measurement.refusal, usefulGigaflopsPerSecond: null, gigabytesPerSecond: null, limitShare: null };
  const { timing } = measurement;
  const flops = usefulFlops(workload);
  const bytes = leastBytes(workload);
  const limit = limits[competitor.limit];
  return {
    ...base,
    timing,
    refusal: null,
    usefulGigaflopsPerSecond: flops / timing.median / 1e6,
    gigabytesPerSecond: bytes / timing.median / 1e6,
    limitShare: limit === undefined ? null : leastMilliseconds(limit, flops, bytes) / timing.median,
  };
}
