/** Checks, measures and times every workload on every competitor. */
import { isAttentionError } from '@heed/core';
import { boundOf, computeExpected, judge } from './check.ts';
import type { Competitor, Prepared } from './competitor.ts';
import { type Inputs, randomInputs, randomParameters } from './inputs.ts';
import { leastMilliseconds, type Limits } from './limits.ts';
import type { Machine } from './machine.ts';
import { type Contender, measure, type Measurement, type Verdict } from './measure.ts';
import type { MemoryProbe } from './memory.ts';
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
  /** Peak memory of one call beyond inputs and outputs; null where it cannot be measured. */
  probePeakBytes(call: Omit<MemoryProbe, 'argv'>): Promise<number | null>;
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
    competitors: competitors.map(({ name, role, about }) => ({ name, role, about })),
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
  readonly way: string | null;
  readonly prepared: Prepared;
  readonly verdict: Verdict;
  readonly peakBytes: number | null;
}

/** A call to make, and what the reference says of it. */
interface Task {
  readonly workload: Workload;
  readonly inputs: Inputs;
  judge(output: Float64Array): Verdict;
}

async function taskOf(workload: Workload, inputs: Inputs): Promise<Task> {
  const expected = await computeExpected(workload, inputs);
  const bound = boundOf(workload, inputs, expected);
  return { workload, inputs, judge: (output) => judge(workload, output, expected, bound) };
}

async function runWorkload(plan: RunPlan, workload: Workload): Promise<readonly Outcome[]> {
  const task = await taskOf(workload, plan.recorded.get(workload.id) ?? randomInputs(workload));
  const ready = new Map<Competitor, Ready>();
  const refused = new Map<Competitor, string>();
  try {
    for (const competitor of plan.competitors) {
      const made = await makeReady(plan, competitor, task);
      if (typeof made === 'string') refused.set(competitor, made);
      else ready.set(competitor, made);
    }
    const contenders = [...ready.values()].map(contenderOf);
    const measurements = await measure(contenders, { budget: budgetOf(plan, ready.size) });
    return plan.competitors.map((competitor) => {
      const one = ready.get(competitor);
      const measurement = measurements.find(({ name }) => name === competitor.name);
      return one === undefined || measurement === undefined ? refusal(workload, competitor, refused.get(competitor) ?? 'not prepared') : outcome(plan, workload, one, measurement);
    });
  } finally {
    for (const { prepared } of ready.values()) await prepared.dispose();
  }
}

/** Milliseconds for one workload on one of so many competitors. */
function budgetOf({ seconds, workloads }: RunPlan, competitors: number): number {
  return (seconds * 1000) / (workloads.length * Math.max(1, competitors));
}

function contenderOf({ competitor, prepared, verdict }: Ready): Contender {
  const { name, restMilliseconds = 0 } = competitor;
  const time = prepared.time?.bind(prepared);
  return { name, verdict, restMilliseconds, run: () => prepared.run(), ...(time === undefined ? {} : { time }) };
}

/** Prepares, runs once, and compares with the reference; or says why not. A peer that refuses a workload may do the lesser one that stands in for it. */
async function makeReady(plan: RunPlan, competitor: Competitor, task: Task): Promise<Ready | string> {
  const { workload, inputs } = task;
  const reason = await competitor.refuses(workload);
  if (reason === null) return makeReadyInBestWay(plan, competitor, task);
  const { lesser } = workload;
  if (lesser === undefined || competitor.role === 'backend') return reason;
  const stand: Workload = { ...workload, layer: lesser.layer };
  if ((await competitor.refuses(stand)) !== null) return reason;
  const made = await makeReadyInBestWay(plan, competitor, await taskOf(stand, { ...inputs, parameters: randomParameters(stand) }));
  return typeof made === 'string' ? made : { ...made, way: [made.way, lesser.what].filter((part) => part !== null).join(', ') };
}

/** Tries every way and keeps the quickest of those that are right. */
async function makeReadyInBestWay(plan: RunPlan, competitor: Competitor, task: Task): Promise<Ready | string> {
  const made: Ready[] = [];
  const failures: string[] = [];
  for (const way of competitor.ways?.(task.workload) ?? [null]) {
    const one = await makeReadyInWay(plan, competitor, task, way);
    if (typeof one === 'string') failures.push(way === null ? one : `${way}: ${one}`);
    else made.push(one);
  }
  const best = await quickestOf(made);
  for (const other of made) if (other !== best) await other.prepared.dispose();
  if (best === null) return failures.join('; ');
  // What a curve shows is time, and suites make claims about backends; what is wrong needs no further number, and a lesser call is not this one.
  const claimed = competitor.role === 'backend' || task.workload.suite === 'model';
  const probed = claimed && best.verdict.passed && task.workload.phase !== 'curve' && plan.workloads.includes(task.workload);
  return probed ? { ...best, peakBytes: await plan.probePeakBytes({ workload: task.workload.id, competitor: competitor.name, way: best.way }) } : best;
}

/** The quickest of those that are right; one that is wrong, to be shown, where none is. */
async function quickestOf(made: readonly Ready[]): Promise<Ready | null> {
  const right = made.filter(({ verdict }) => verdict.passed);
  if (right.length <= 1) return right[0] ?? made[0] ?? null;
  const times = await measure(
    right.map((one, index) => ({ ...contenderOf(one), name: String(index) })),
    { budget: trialMilliseconds, maxRuns: 5 },
  );
  const medians = times.map((measurement) => ('timing' in measurement ? measurement.timing.median : Infinity));
  return right[medians.indexOf(Math.min(...medians))] ?? null;
}

const trialMilliseconds = 500;

async function makeReadyInWay(plan: RunPlan, competitor: Competitor, task: Task, way: string | null): Promise<Ready | string> {
  const { workload, inputs } = task;
  const perCall = budgetOf(plan, plan.competitors.length);
  const longest = Math.min((plan.seconds * 1000) / 3, Math.max(shortPatience, patience * perCall));
  let prepared: Prepared | null = null;
  try {
    const predicted = await predictMilliseconds(competitor, workload, longest, way);
    if (predicted !== null) return `one call would take about ${Math.ceil(predicted / 1000)} s; --seconds ${Math.ceil((plan.seconds * predicted) / Math.max(longest, patience * perCall))} would allow it`;
    prepared = await competitor.prepare(workload, inputs, way ?? undefined);
    await prepared.run();
    return { competitor, way, prepared, peakBytes: null, verdict: task.judge(await prepared.output()) };
  } catch (error) {
    await prepared?.dispose();
    if (isAttentionError(error)) return `failed with ${error.code}: ${error.message}`;
    // Other systems throw what they like.
    if (competitor.role === 'peer') return `failed: ${(error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, ' ').trim()}`;
    throw error;
  }
}

// A call may take so many times its share of the time, or this many milliseconds.
const patience = 8;
const shortPatience = 2000;

// Below this a call takes seconds at most, whoever makes it.
const surelyShort = 2e7;

/**
 * The time of a call that would take longer than `longest`, told from calls with fewer queries; null for one that would not.
 *
 * Time is taken to be a line over the work: what a call costs whatever its queries, and what each query adds.
 */
async function predictMilliseconds(competitor: Competitor, workload: Workload, longest: number, way: string | null): Promise<number | null> {
  const flops = usefulFlops(workload);
  if (flops < surelyShort) return null;
  let last = { flops: 0, spent: 0 };
  for (let queryLength = 2; queryLength < workload.queryLength; queryLength *= 4) {
    const probe: Workload = { ...workload, batch: 1, queryLength, queryOffset: workload.queryOffset + workload.queryLength - queryLength };
    const now = { flops: usefulFlops(probe), spent: await quickest(competitor, probe, way) };
    // At most this, were all of it for the work.
    if ((now.spent / now.flops) * flops <= longest) return null;
    // What grew by less says more about the clock, or about what every call costs, than about the work; and one point makes no line.
    if (last.flops > 0 && now.spent > 2 * last.spent && now.spent - last.spent > telling) {
      const predicted = now.spent + ((now.spent - last.spent) / (now.flops - last.flops)) * (flops - now.flops);
      return predicted > longest ? predicted : null;
    }
    if (now.spent > longest) return now.spent;
    last = now;
  }
  return null;
}

// Milliseconds.
const telling = 100;

/** The quicker of two calls, since the first one may compile; the first alone where that hardly matters. */
async function quickest(competitor: Competitor, workload: Workload, way: string | null): Promise<number> {
  const prepared = await competitor.prepare(workload, randomInputs(workload), way ?? undefined);
  const timeOnce = async (): Promise<number> => {
    const start = performance.now();
    await prepared.run();
    return performance.now() - start;
  };
  const first = await timeOnce();
  const spent = first > 10 * telling ? first : Math.min(first, await timeOnce());
  await prepared.dispose();
  return spent;
}

function refusal({ id }: Workload, { name, role }: Competitor, reason: string): Outcome {
  return {
    workload: id,
    competitor: name,
    role,
    way: null,
    verdict: null,
    timing: null,
    refusal: reason,
    compiling: null,
    peakBytes: null,
    usefulGigaflopsPerSecond: null,
    gigabytesPerSecond: null,
    limitShare: null,
  };
}

function outcome({ limits }: RunPlan, workload: Workload, ready: Ready, measurement: Measurement): Outcome {
  const { competitor, way, verdict, prepared, peakBytes } = ready;
  const base = { workload: workload.id, competitor: competitor.name, role: competitor.role, way, verdict, compiling: prepared.compiling ?? null, peakBytes };
  if ('refusal' in measurement) return { ...base, timing: null, refusal: measurement.refusal, usefulGigaflopsPerSecond: null, gigabytesPerSecond: null, limitShare: null };
  const { timing } = measurement;
  const flops = usefulFlops(workload);
  const bytes = leastBytes(workload);
  const limit = competitor.limit === null ? undefined : limits[competitor.limit];
  return {
    ...base,
    timing,
    refusal: null,
    usefulGigaflopsPerSecond: flops / timing.median / 1e6,
    gigabytesPerSecond: bytes / timing.median / 1e6,
    limitShare: limit === undefined ? null : leastMilliseconds(limit, flops, bytes) / timing.median,
  };
}
