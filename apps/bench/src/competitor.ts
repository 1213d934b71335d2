import type { Inputs } from './inputs.ts';
import type { Limits } from './limits.ts';
import type { Workload } from './workloads.ts';

/** Something that computes attention here: a heed backend or somebody else's implementation. */
export interface Competitor {
  readonly name: string;
  /** A backend's records are compared with every peer's. */
  readonly role: 'backend' | 'peer';
  /** Version, threads and whatever else a reader must know of how it runs here. */
  readonly about: string;
  /** Which of the measured limits binds it; null: none that is measured here. */
  readonly limit: string | null;
  /** Milliseconds for which its threads keep a core busy after a call; whoever is next waits that long. Default 0. */
  readonly restMilliseconds?: number;
  /** Measures the limits of the code that it runs, by name. */
  measureLimits?(): Promise<Limits>;
  /** Says why it cannot do a workload; null when it can. */
  refuses(workload: Workload): Promise<string | null> | string | null;
  /** Names of the ways in which it can compute a workload it does not refuse, where there are several: each is checked, and the quickest of the right ones is measured. */
  ways?(workload: Workload): readonly string[];
  /** Makes everything ready that is not part of a call: compiles, uploads. */
  prepare(workload: Workload, inputs: Inputs, way?: string): Promise<Prepared>;
  /** Releases threads and devices. */
  dispose(): Promise<void>;
}

/** Emitting and compiling a kernel, in milliseconds. */
export interface Compiling {
  /** The first time in this process. */
  readonly cold: number;
  /** Again, while the first one is there: the median of several times. */
  readonly cached: number;
}

/** One workload, ready to run on one competitor. */
export interface Prepared {
  /** One call; done when it returns or resolves. */
  run(): Promise<void> | void;
  /** Makes so many calls and resolves to the milliseconds that they took, where they happen in another process: the way there does not count. */
  time?(calls: number): Promise<number>;
  /** The result of the last call, dense, [batch, heads, queryLength, valueDim]. */
  output(): Promise<Float64Array> | Float64Array;
  /** What making the kernel ready cost, where that is more than copying inputs. */
  readonly compiling?: Compiling;
  /** Bytes its runtime holds now and held at most, where it keeps count. */
  memory?(): { readonly bytes: number; readonly peakBytes: number };
  dispose(): Promise<void> | void;
}
