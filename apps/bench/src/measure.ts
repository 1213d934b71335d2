/**
 * Times several contenders for the same work in one run, taking turns, so that a machine that slows down or speeds up does so for all.
 *
 * First right, then fast: a contender whose error exceeds the tolerance is not timed.
 */

import type { Bound } from '@heed/conformance';

/** What a comparison with the reference found. */
export interface Verdict {
  /** Whether every compared element is within the tolerance. */
  readonly passed: boolean;
  readonly maxAbsError: number;
  readonly maxRelError: number;
  /** |got − want| ≤ absolute + relative · |want|. */
  readonly bound: Bound;
  /** Largest |got − want| as a share of the bound. */
  readonly worstShare: number;
  /** Output elements compared and output elements there are. */
  readonly compared: number;
  readonly elements: number;
}

/** One of those who take turns. */
export interface Contender {
  readonly name: string;
  readonly verdict: Verdict;
  /** Does the work once and resolves when the result is complete. */
  run(): Promise<void> | void;
  /** Does the work so many times and resolves to the milliseconds that took, where the caller's clock would count more. */
  time?(calls: number): Promise<number>;
  /** Milliseconds for which it keeps a core busy after its work. They count as its own. Default 0. */
  readonly restMilliseconds?: number;
}

/** Times of one call in milliseconds. */
export interface Timing {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Samples behind the median. */
  readonly runs: number;
}

export type Measurement = { readonly name: string; readonly timing: Timing } | { readonly name: string; readonly refusal: string };

export interface MeasureOptions {
  /** Milliseconds that each contender may use, warm-up included. At least one call is made. */
  readonly budget: number;
  /**
   * Milliseconds of calls before the first sample, two calls at least: engines run code that they have not optimised yet, threads start, caches fill, and each contender
   * may have that behind it. Default a quarter of the budget, 250 at most.
   */
  readonly warmUp?: number;
  /** Most samples per contender. Default 51. */
  readonly maxRuns?: number;
  /** Shorter calls are repeated within a sample until it lasts this long, in milliseconds, so that the clock's grain does not matter. Default 1. */
  readonly minSample?: number;
  /** Milliseconds since any moment. Default `performance.now`. */
  readonly now?: () => number;
}

/**
 * Times every contender that is right, in turns, each round in the opposite order of the one before.
 *
 * @returns one measurement per contender, in the order given
 */
export async function measure(contenders: readonly Contender[], options: MeasureOptions): Promise<readonly Measurement[]> {
  const { budget, warmUp: warm = Math.min(250, budget / 4), maxRuns = 51, minSample = 1, now = () => performance.now() } = options;
  const clocks = new Map<Contender, Clock>();
  for (const contender of contenders) {
    if (contender.verdict.passed) clocks.set(contender, await warmUp(contender, { budget, warm, minSample, now }));
  }
  for (let round = 0; round < maxRuns; round++) {
    const active = [...clocks].filter(([, clock]) => clock.samples.length <= round && clock.fits());
    if (active.length === 0) break;
    for (const [contender, clock] of round % 2 === 0 ? active : active.toReversed()) await clock.sample(contender);
  }
  return contenders.map((contender) => {
    const clock = clocks.get(contender);
    return clock === undefined ? { name: contender.name, refusal: refusal(contender.verdict) } : { name: contender.name, timing: summarize(clock.samples) };
  });
}

/** One contender's samples and what is left of its budget. */
class Clock {
  readonly samples: number[] = [];
  readonly #repeats: number;
  readonly #now: () => number;
  #left: number;

  constructor(repeats: number, left: number, now: () => number) {
    this.#repeats = repeats;
    this.#left = left;
    this.#now = now;
  }

  /** Whether another sample is expected to stay within the budget; the first one always is. */
  fits(): boolean {
    const last = this.samples.at(-1);
    return last === undefined || last * this.#repeats <= this.#left;
  }

  async sample(contender: Contender): Promise<void> {
    const spent = await time(contender, this.#repeats, this.#now);
    this.#left -= spent + (await rest(contender));
    this.samples.push(spent / this.#repeats);
  }
}

/** Calls until it is warm, of which the last tells how many calls make a sample; a call that takes most of the budget is its own sample. */
async function warmUp(contender: Contender, { budget, warm, minSample, now }: { readonly budget: number; readonly warm: number; readonly minSample: number; readonly now: () => number }): Promise<Clock> {
  const first = await time(contender, 1, now);
  const rested = await rest(contender);
  if (first > budget / 4) {
    const clock = new Clock(1, budget - first - rested, now);
    clock.samples.push(first);
    return clock;
  }
  let last = await time(contender, 1, now);
  let spent = first + last;
  while (spent + last <= warm) {
    last = await time(contender, 1, now);
    spent += last;
  }
  const repeats = Math.max(1, Math.ceil(minSample / Math.max(last, minSample / 1000)));
  return new Clock(repeats, budget - spent - rested - (await rest(contender)), now);
}

/** Lets the threads of a contender fall asleep, so that the next one finds every core free. */
async function rest({ restMilliseconds = 0 }: Contender): Promise<number> {
  if (restMilliseconds > 0) await new Promise((resolve) => setTimeout(resolve, restMilliseconds));
  return restMilliseconds;
}

async function time(contender: Contender, repeats: number, now: () => number): Promise<number> {
  if (contender.time !== undefined) return contender.time(repeats);
  const start = now();
  for (let call = 0; call < repeats; call++) {
    // A contender that works in the calling thread is timed without a trip through the event loop.
    const pending = contender.run();
    if (pending !== undefined) await pending;
  }
  return now() - start;
}

function refusal({ worstShare, maxAbsError }: Verdict): string {
  return `not timed: its error is ${worstShare.toPrecision(3)} times the tolerance (largest absolute error ${maxAbsError.toExponential(2)})`;
}

/** Median, least and largest of at least one sample. */
export function summarize(samples: readonly number[]): Timing {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const low = sorted[Math.floor(middle)] ?? Number.NaN;
  const high = sorted[Math.ceil(middle)] ?? Number.NaN;
  return { median: (low + high) / 2, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN, runs: sorted.length };
}
