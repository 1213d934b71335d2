import type { Inputs } from './inputs.ts';
import type { Workload } from './workloads.ts';

/** Something that computes attention here: a heed backend or somebody else's implementation. */
export interface Competitor {
  readonly name: string;
  /** A backend's records are compared with every peer's. */
  readonly role: 'backend' | 'peer';
  /** Which of the measured limits binds it. */
  readonly limit: string;
  /** Says why it cannot do a workload; null when it can. */
  refuses(workload: Workload): string | null;
  /** Makes everything ready that is not part of a call: compiles, uploads. */
  prepare(workload: Workload, inputs: Inputs): Promise<Prepared>;
  /** Releases threads and devices. */
  dispose(): Promise<void>;
}

/** One workload, ready to run on one competitor. */
export interface Prepared {
  /** One call; done when it returns or resolves. */
  run(): Promise<void> | void;
  /** The result of the last call, dense, [batch, heads, queryLength, valueDim]. */
  output(): Promise<Float64Array> | Float64Array;
  /** Bytes its runtime holds now and held at most, where it keeps count. */
  memory?(): { readonly bytes: number; readonly peakBytes: number };
  dispose(): Promise<void> | void;
}
