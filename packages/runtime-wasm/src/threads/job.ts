/** A job, what became of it, and the ways in which it can end. */
import { AttentionError } from '@heed/core';

/** An exported function `(task, arguments address, scratch address)` that every thread has. A task should take 10 µs to 2 ms. */
export interface KernelFunction {
  readonly id: number;
  readonly name: string;
}

export interface Phase {
  readonly function: KernelFunction;
  /** Number of tasks, numbered from 0; they are claimed in this order, so put long ones first. */
  readonly tasks: number;
  /** 32-bit words that the kernel reads at its arguments address. */
  readonly arguments: ArrayLike<number>;
  /** Bytes of scratch memory for each thread. Default 0. */
  readonly scratchBytes?: number;
}

export interface Job {
  readonly phases: readonly Phase[];
  /** Guess of the time on one thread; small jobs do not wake the workers. Default: large. */
  readonly microseconds?: number;
  readonly signal?: AbortSignal;
}

export interface Submission {
  /** True when it is over, well or not. */
  readonly settled: boolean;
  /** The reason, once it went wrong. */
  readonly error: AttentionError | undefined;
  /** Resolves when it is over; rejects with `error`. */
  readonly done: Promise<void>;
}

/** A phase whose arguments and scratch have their place in memory. */
export interface Placed {
  readonly phase: Phase;
  readonly argumentsAddress: number;
  readonly scratchAddress: number;
  readonly scratchStride: number;
}

export type Settle = (error: AttentionError | undefined) => AttentionError | undefined;

/** @internal for the pool */
export class Pending implements Submission {
  readonly job: Job;
  /** Phases with tasks. */
  readonly placed: Placed[] = [];
  /** Memory of arguments and scratch; 0 when there is none. */
  block = 0;
  /** Position of the first phase, once it is in the ring. */
  start: number | undefined;
  onAbort: (() => void) | undefined;
  /** Run after the job is settled. */
  readonly afterwards: (() => void)[] = [];
  settled = false;
  error: AttentionError | undefined;
  #resolvers: Resolvers | undefined;

  readonly #settle: Settle | undefined;

  constructor(job: Job, settle?: Settle) {
    this.job = job;
    this.#settle = settle;
  }

  get done(): Promise<void> {
    if (this.settled) return this.error === undefined ? Promise.resolve() : Promise.reject(this.error);
    this.#resolvers ??= withResolvers();
    return this.#resolvers.promise;
  }

  settle(outcome: AttentionError | undefined): void {
    const error = this.#settle === undefined ? outcome : this.#settle(outcome);
    this.settled = true;
    this.error = error;
    if (error === undefined) this.#resolvers?.resolve();
    else this.#resolvers?.reject(error);
  }
}

export interface Resolvers {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export function withResolvers(): Resolvers {
  let resolve = (): void => undefined;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<void>((whenDone, whenFailed) => {
    resolve = whenDone;
    reject = whenFailed;
  });
  return { promise, resolve, reject };
}

/** A trap or another error inside a kernel; `cause` is an error, or the text that a worker left. */
export function workerError(cause: unknown): AttentionError {
  const text = cause instanceof Error || typeof cause === 'string' ? String(cause) : '';
  const message = text === '' ? 'A kernel stopped after an earlier error.' : `A kernel stopped: ${text}.`;
  return new AttentionError('worker-failed', message, 'The runtime is still usable.', { cause });
}

export function abortError(signal: AbortSignal | undefined): AttentionError {
  return new AttentionError('aborted', 'The call was aborted by its signal.', 'Its outputs hold nothing of use.', { cause: signal?.reason });
}
