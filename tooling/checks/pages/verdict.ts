import type { Report } from '@heed/conformance';

/** A check of the page itself and what is wrong, if anything. */
export interface PageFinding {
  readonly check: string;
  readonly problems: readonly string[];
}

/** What a page says when it is done. */
export interface Verdict {
  readonly report: Pick<Report, 'passed' | 'failed' | 'cases'>;
  /** What the runtime says it does here. */
  readonly description: readonly string[];
  readonly findings: readonly PageFinding[];
}

/** What a page is asked, in its address. */
export interface Question {
  /** The page must be cross-origin isolated, or must not be. */
  readonly isolated: boolean;
  /** How many examples besides the laws. */
  readonly examples: number;
}

/** What the page of the CPU backend is asked. */
export interface CpuQuestion extends Question {
  readonly vectors: 'portable' | 'wide';
  /** Vectors must be packed: V8 packs on x64. */
  readonly packed: boolean;
}
