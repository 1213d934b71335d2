/** What a run found, as it is written to bench-results and read by the table and the page. */
import type { Competitor, Compiling } from './competitor.ts';
import type { Limits } from './limits.ts';
import type { Machine } from './machine.ts';
import type { Timing, Verdict } from './measure.ts';
import type { Workload } from './workloads.ts';

/** One workload on one competitor. */
export interface Outcome {
  readonly workload: string;
  readonly competitor: string;
  readonly role: 'backend' | 'peer';
  /** In which of several ways it was done, or what was done instead; null where there is one way. */
  readonly way: string | null;
  /** Null when the workload was refused before it ran. */
  readonly verdict: Verdict | null;
  /** Null when it was not timed; `refusal` says why. */
  readonly timing: Timing | null;
  readonly refusal: string | null;
  /** What making the kernel ready cost; null where it was not measured. */
  readonly compiling: Compiling | null;
  readonly peakBytes: number | null;
  readonly usefulGigaflopsPerSecond: number | null;
  readonly gigabytesPerSecond: number | null;
  /** The least time that the limit allows, over the median. */
  readonly limitShare: number | null;
}

/** One line for every timed workload, backend and peer: the record that claims are made from. */
export interface BenchRecord {
  readonly suite: string;
  readonly workload: string;
  readonly backend: string;
  readonly dtype: string;
  readonly milliseconds: Timing;
  readonly usefulGigaflopsPerSecond: number;
  readonly gigabytesPerSecond: number;
  readonly limitShare: number;
  /** What making the kernel ready cost, which is not in the times. */
  readonly compiling: Compiling | null;
  /** Beyond inputs and outputs; null where it cannot be measured. */
  readonly peakBytes: number | null;
  readonly maxAbsError: number;
  readonly maxRelError: number;
  readonly peer: string | null;
  /** Which of its operators the peer was measured with, and what that leaves out; null where there is one way. */
  readonly peerWay: string | null;
  readonly peerMilliseconds: number | null;
  /** The peer's median over ours: above 1 we are faster. */
  readonly ratio: number | null;
}

/** Attention of a whole model on one competitor, in milliseconds. Null where a layer was not timed. */
export interface ModelTotal {
  readonly competitor: string;
  readonly role: 'backend' | 'peer';
  readonly prefillMilliseconds: number | null;
  /** Of one generated token. Null also when none is generated. */
  readonly decodeMilliseconds: number | null;
}

/** What was measured. */
export interface Subject {
  /** A model's name, a file's name, or the suite's. */
  readonly name: string;
  readonly tokens: number | null;
  readonly decode: number;
  readonly batch: number;
  readonly dtype: string;
}

/** One run. */
export interface Report {
  readonly schema: 1;
  /** ISO 8601, UTC. */
  readonly createdAt: string;
  readonly subject: Subject;
  readonly machine: Machine;
  readonly limits: Limits;
  /** Who took part. */
  readonly competitors: readonly Pick<Competitor, 'name' | 'role' | 'about'>[];
  readonly records: readonly BenchRecord[];
  readonly totals: readonly ModelTotal[];
  readonly workloads: readonly Workload[];
  readonly outcomes: readonly Outcome[];
}

/** One record for each backend's timed workload and each peer that was timed on it; one with no peer where there is none. */
export function recordsOf(workloads: readonly Workload[], outcomes: readonly Outcome[]): readonly BenchRecord[] {
  return workloads.flatMap(({ id, suite, dtype }) => {
    const here = outcomes.filter((outcome) => outcome.workload === id);
    const peers = here.filter((outcome) => outcome.role === 'peer' && outcome.timing !== null);
    return here
      .filter(({ role }) => role === 'backend')
      .flatMap((ours) => (peers.length === 0 ? [null] : peers).map((peer) => recordOf(suite, dtype, ours, peer)))
      .filter((record) => record !== null);
  });
}

function recordOf(suite: string, dtype: string, ours: Outcome, peer: Outcome | null): BenchRecord | null {
  const { timing, verdict, usefulGigaflopsPerSecond, gigabytesPerSecond, limitShare, compiling, peakBytes } = ours;
  if (timing === null || verdict === null || usefulGigaflopsPerSecond === null || gigabytesPerSecond === null || limitShare === null) return null;
  const peerMilliseconds = peer?.timing?.median ?? null;
  return {
    suite,
    workload: ours.workload,
    backend: ours.competitor,
    dtype,
    milliseconds: timing,
    usefulGigaflopsPerSecond,
    gigabytesPerSecond,
    limitShare,
    compiling,
    peakBytes,
    maxAbsError: verdict.maxAbsError,
    maxRelError: verdict.maxRelError,
    peer: peer?.competitor ?? null,
    peerWay: peer?.way ?? null,
    peerMilliseconds,
    ratio: peerMilliseconds === null ? null : peerMilliseconds / timing.median,
  };
}

/** Sums the layers of a model: each median times the number of layers that have its shape. */
export function totalsOf(workloads: readonly Workload[], outcomes: readonly Outcome[], competitors: readonly Pick<Outcome, 'competitor' | 'role'>[]): readonly ModelTotal[] {
  const total = (competitor: string, phase: Workload['phase']): number | null => {
    const parts = workloads.filter((workload) => workload.phase === phase);
    const medians = parts.map(({ id }) => outcomes.find((outcome) => outcome.workload === id && outcome.competitor === competitor)?.timing?.median ?? null);
    if (medians.length === 0 || medians.includes(null)) return null;
    return medians.reduce<number>((sum, median, index) => sum + (median ?? 0) * (parts[index]?.layer.count ?? 0), 0);
  };
  return competitors.map(({ competitor, role }) => ({ competitor, role, prefillMilliseconds: total(competitor, 'prefill'), decodeMilliseconds: total(competitor, 'decode') }));
}
