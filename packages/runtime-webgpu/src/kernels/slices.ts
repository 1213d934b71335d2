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

/** Milliseconds that one slice should take, so that a page stays responsive. */
const sliceMilliseconds = 10;

/** Cuts stages into dispatches of about 10 ms; how much that is, it learns from those that it waited for. */
export class Slicer {
  readonly #runtime: WebGpuRuntime;
  /** Multiplications of one slice. */
  #budget = 4e6;

  constructor(runtime: WebGpuRuntime) {
    this.#runtime = runtime;
  }

  /** All slices, one after another, without waiting. */
  submit(stages: readonly Stage[]): void {
    for (const stage of stages) for (const [first, end] of this.#ranges(stage)) this.#dispatch(stage, first, end);
  }

  /**
   * Slice by slice, waiting between them.
   * @throws AttentionError `aborted`, `device-lost`, `disposed`
   */
  async run(stages: readonly Stage[], signal: StopSignal | undefined): Promise<void> {
    stopIfAborted(signal);
    let pending = 0;
    let start = performance.now();
    for (const stage of stages) {
      for (let first = 0; first < stage.costs.length; ) {
        if (pending >= this.#budget) {
          await this.#runtime.finished();
          const milliseconds = Math.max(0.1, performance.now() - start);
          this.#budget = Math.min(4 * this.#budget, Math.max(1e5, (pending / milliseconds) * sliceMilliseconds));
          pending = 0;
          start = performance.now();
          stopIfAborted(signal);
        }
        const end = this.#endOf(stage, first, this.#budget - pending);
        this.#dispatch(stage, first, end);
        for (let task = first; task < end; task += 1) pending += stage.costs[task] ?? 0;
        first = end;
      }
    }
  }

  *#ranges(stage: Stage): Generator<readonly [first: number, end: number]> {
    for (let first = 0; first < stage.costs.length; ) {
      const end = this.#endOf(stage, first, Infinity);
      yield [first, end];
      first = end;
    }
  }

  /** As many tasks as fit, at least one. */
  #endOf({ costs, mostTasks = Infinity }: Stage, first: number, budget: number): number {
    let end = first + 1;
    let cost = costs[first] ?? 0;
    while (end < costs.length && end - first < mostTasks && cost + (costs[end] ?? 0) <= budget) {
      cost += costs[end] ?? 0;
      end += 1;
    }
    return end;
  }

  #dispatch({ source, buffers, fields, values }: Stage, firstTask: number, endTask: number): void {
    const runtime = this.#runtime;
    const parameters = parameterWords(fields, { ...values, firstTask, endTask });
    runtime.submit([{ program: runtime.compileNow(source), parameters, buffers, workgroups: endTask - firstTask }]);
  }
}

export function stopIfAborted(signal: StopSignal | undefined): void {
  if (signal?.aborted === true) throw new AttentionError('aborted', 'The call was aborted by its signal.', 'The kernel can be called again.', { cause: signal.reason });
}
