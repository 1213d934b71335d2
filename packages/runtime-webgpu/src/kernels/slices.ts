import { AttentionError, type StopSignal } from '@heed/core';
import type { ProgramSource } from '../pipelines.ts';
import type { WebGpuRuntime } from '../runtime.ts';
import { parameterWords, type ParameterField } from './parameters.ts';

/** One program over tasks, which may be cut into dispatches between any two of them. */
export interface Stage {
  readonly source: ProgramSource;
  /** From binding 1 on. */
  readonly buffers: readonly GPUBuffer[];
  readonly fields: readonly ParameterField[];
  readonly values: Readonly<Record<string, number>>;
  /** Multiplications of each task. */
  readonly costs: readonly number[];
  /** Most tasks of one dispatch, where a scratch buffer holds no more. */
  readonly mostTasks?: number;
}

/** Dispatches of one slice: tasks first … end − 1 of stages. */
interface Cut {
  readonly stage: Stage;
  readonly first: number;
  readonly end: number;
}

/** Milliseconds that one slice should take, so that a page stays responsive. */
const defaultMilliseconds = 10;

/** Multiplications of the first slice, before anything was measured: a millisecond of a slow device. */
const firstBudget = 4e6;

/** By how much a budget grows at most from one slice to the next. */
const largestGrowth = 8;

/** Slices that the device has at the same time: it works on one while the host makes ready the next. */
const mostWaiting = 2;

/** Cuts stages into slices of a budget of milliseconds; how many multiplications that is, it learns from the slices that it ran: by the device's clock where it tells. */
export class Slicer {
  readonly #runtime: WebGpuRuntime;
  readonly #milliseconds: number;
  /** Multiplications of one slice. */
  #budget = firstBudget;

  /** @param milliseconds of one slice. Default 10. */
  constructor(runtime: WebGpuRuntime, milliseconds: number = defaultMilliseconds) {
    this.#runtime = runtime;
    this.#milliseconds = milliseconds;
  }

  /** All slices, one after another, without waiting. */
  submit(stages: readonly Stage[]): void {
    for (const slice of this.#slices(stages)) this.#dispatchAll(slice);
  }

  /**
   * Slice by slice; the signal stops those that the device does not have yet. The last is not waited for.
   * @throws AttentionError `aborted`, `device-lost`, `disposed`
   */
  async run(stages: readonly Stage[], signal: StopSignal | undefined): Promise<void> {
    stopIfAborted(signal);
    const waiting: Promise<void>[] = [];
    let before: readonly Cut[] = [];
    let last = 0;
    const measured = async (slice: readonly Cut[]): Promise<void> => {
      const submitted = performance.now();
      const own = await this.#runtime.timed(() => {
        this.#dispatchAll(slice);
      });
      // Without a clock of the device: from when it could begin until it was known to be done.
      const now = performance.now();
      this.#learn(slice, own ?? now - Math.max(submitted, last));
      last = now;
    };
    try {
      for (const slice of this.#slices(stages)) {
        if (before.length > 0) {
          const running = measured(before);
          // Whoever waits for it hears of it; nobody may be waiting yet.
          running.catch(() => undefined);
          waiting.push(running);
          if (waiting.length >= mostWaiting) await waiting.shift();
          stopIfAborted(signal);
        }
        before = slice;
      }
      this.#dispatchAll(before);
    } finally {
      await Promise.all(waiting);
    }
  }

  /** Groups of dispatches, each of about one budget, as the budget is when the group is asked for. */
  *#slices(stages: readonly Stage[]): Generator<readonly Cut[]> {
    let slice: Cut[] = [];
    let cost = 0;
    for (const stage of stages) {
      for (let first = 0; first < stage.costs.length; ) {
        const { end, cost: own } = endOf(stage, first, this.#budget - cost);
        slice.push({ stage, first, end });
        cost += own;
        first = end;
        if (cost < this.#budget) continue;
        yield slice;
        slice = [];
        cost = 0;
      }
    }
    if (slice.length > 0) yield slice;
  }

  #learn(slice: readonly Cut[], milliseconds: number): void {
    const cost = slice.reduce((sum, { stage, first, end }) => sum + costOf(stage, first, end), 0);
    // A slice that is far from full, or too short for the clock, says little.
    if (cost < this.#budget / 4) return;
    const wanted = (cost / Math.max(milliseconds, 0.01)) * this.#milliseconds;
    this.#budget = Math.min(largestGrowth * this.#budget, Math.max(1e5, wanted));
  }

  #dispatchAll(slice: readonly Cut[]): void {
    for (const cut of slice) this.#dispatch(cut);
  }

  #dispatch({ stage: { source, buffers, fields, values }, first: firstTask, end: endTask }: Cut): void {
    const runtime = this.#runtime;
    const parameters = parameterWords(fields, { ...values, firstTask, endTask });
    runtime.submit([{ program: runtime.compileNow(source), parameters, buffers, workgroups: endTask - firstTask }]);
  }
}

/** As many tasks as fit, at least one. */
function endOf({ costs, mostTasks = Infinity }: Stage, first: number, budget: number): { readonly end: number; readonly cost: number } {
  let end = first + 1;
  let cost = costs[first] ?? 0;
  while (end < costs.length && end - first < mostTasks && cost + (costs[end] ?? 0) <= budget) {
    cost += costs[end] ?? 0;
    end += 1;
  }
  return { end, cost };
}

function costOf({ costs }: Stage, first: number, end: number): number {
  let sum = 0;
  for (let task = first; task < end; task += 1) sum += costs[task] ?? 0;
  return sum;
}

export function stopIfAborted(signal: StopSignal | undefined): void {
  if (signal?.aborted === true) throw new AttentionError('aborted', 'The call was aborted by its signal.', 'The kernel can be called again.', { cause: signal.reason });
}
