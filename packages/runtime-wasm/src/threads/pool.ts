/**
 * Runs kernels on all cores. A job is a sequence of phases; the tasks of a phase are claimed one by one by whoever is free, the calling
 * thread included, and a phase begins when the one before it is done. Jobs run in the order in which they were submitted.
 */
import { AttentionError } from '@heed/core';
import type { LinearMemory } from '../memory.ts';
import { at, controlBytes, mark, maximumWorkers, ringSlots, signal, state, takeErrorText, takePart, word, type KernelCall } from './control.ts';
import { abortError, Pending, withResolvers, workerError, type Job, type KernelFunction, type Placed, type Resolvers, type Settle, type Submission } from './job.ts';
import { spawnWorker, type Spawn, type SpawnedWorker } from './spawn.ts';
import { nextTurn } from './turn.ts';
import type { WorkerMessage } from './worker.ts';

/** The calling thread works this long at most before its event loop has a turn. */
const sliceMilliseconds = 8;

/** Waking the workers costs about this much; a job below it runs on the calling thread alone. */
const inlineMicroseconds = 60;

export interface PoolOptions {
  readonly memory: LinearMemory;
  /** Threads that take part, the calling one included. 1 without a shared memory. */
  readonly threads: number;
  /** The calling thread may sleep in Atomics.wait. */
  readonly mayBlock: boolean;
  /** How workers start; other hosts may bring their own. */
  readonly spawn?: Spawn;
}

export interface SubmitOptions {
  /** The calling thread takes part at once, for one slice; else it begins in a later turn of its event loop. Default false. */
  readonly participate?: boolean;
  /** Called once when the job is over, in order; returns the error to report. */
  readonly settle?: Settle;
}

interface Loaded {
  readonly module: WebAssembly.Module;
  readonly functions: readonly (readonly [id: number, name: string])[];
}

interface WorkerState {
  readonly thread: number;
  readonly worker: SpawnedWorker;
  ready: boolean;
}

export class WorkerPool {
  /** Threads that take part, the calling one included. */
  readonly threads: number;
  readonly #memory: LinearMemory;
  readonly #mayBlock: boolean;
  readonly #spawn: Spawn;
  #control: Int32Array;
  #workers: WorkerState[] = [];
  readonly #functions = new Map<number, KernelCall>();
  readonly #loaded = new Set<Loaded>();
  #nextId = 1;
  /** In order; those with a start are in the ring. */
  readonly #queue: Pending[] = [];
  /** Jobs that went down with a worker, until all the workers of their time have ended. */
  readonly #dying: Pending[] = [];
  #pumping = false;
  #disposed = false;
  #startFailure = '';
  readonly #readyResolvers: Resolvers[] = [];

  constructor({ memory, threads, mayBlock, spawn = spawnWorker }: PoolOptions) {
    this.#memory = memory;
    this.#mayBlock = mayBlock;
    this.#spawn = spawn;
    this.threads = memory.shared ? Math.max(1, Math.min(threads, maximumWorkers + 1)) : 1;
    this.#control = this.#newControl();
    this.#startWorkers();
  }

  /** Threads that run or are starting, the calling one included. */
  get present(): number {
    return 1 + this.#workers.length;
  }

  /** Threads that have started, the calling one included. */
  get running(): number {
    return 1 + this.#workers.filter(({ ready }) => ready).length;
  }

  /** Why fewer threads run than were asked for; empty when all do. */
  get startFailure(): string {
    return this.#startFailure;
  }

  /** True when nothing waits or runs. */
  get idle(): boolean {
    return this.#queue.length === 0;
  }

  /** Resolves when every worker has started or failed to. Jobs need not wait for it. */
  async ready(): Promise<void> {
    for (const { ready, worker } of this.#workers) if (!ready) worker.hold?.();
    while (!this.#disposed && this.#workers.some(({ ready }) => !ready)) {
      const resolvers = withResolvers();
      this.#readyResolvers.push(resolvers);
      await resolvers.promise;
    }
  }

  /**
   * Gives a module to every thread. It imports `env.memory`, of the pool's kind.
   * @param names exported functions to call
   * @returns a handle for each name
   */
  load<const Names extends readonly string[]>(module: WebAssembly.Module, names: Names): Readonly<Record<Names[number], KernelFunction>> {
    this.#checkLive();
    const { exports } = new WebAssembly.Instance(module, { env: { memory: this.#memory.memory } });
    const functions = names.map((name) => {
      const call = exports[name];
      if (typeof call !== 'function') {
        throw new AttentionError('internal', `The module exports no function '${name}'.`, `It has ${Object.keys(exports).join(', ')}.`);
      }
      const id = this.#nextId;
      this.#nextId += 1;
      this.#functions.set(id, call as KernelCall);
      return [id, name] as const;
    });
    const loaded: Loaded = { module, functions };
    this.#loaded.add(loaded);
    this.#broadcast({ kind: 'load', ...loaded });
    return Object.fromEntries(functions.map(([id, name]) => [name, { id, name }])) as Readonly<Record<Names[number], KernelFunction>>;
  }

  /** Forgets functions, after the last job that calls them. */
  unload(functions: readonly KernelFunction[]): void {
    const ids = functions.map(({ id }) => id);
    for (const id of ids) this.#functions.delete(id);
    for (const loaded of this.#loaded) {
      if (loaded.functions.some(([id]) => ids.includes(id))) this.#loaded.delete(loaded);
    }
    if (!this.#disposed) this.#broadcast({ kind: 'unload', ids });
  }

  /**
   * Queues a job behind all others. A small one on an idle pool runs before this returns.
   * @throws AttentionError `disposed`, `out-of-memory` for arguments and scratch
   */
  submit(job: Job, { participate = false, settle }: SubmitOptions = {}): Submission {
    this.#checkLive();
    const pending = new Pending(job, settle);
    if (job.signal?.aborted === true) {
      pending.settle(abortError(job.signal));
      return pending;
    }
    if (this.#queue.length === 0 && (job.microseconds ?? Infinity) <= inlineMicroseconds) {
      this.#runInline(pending);
      return pending;
    }
    this.#place(pending, this.threads);
    if (job.signal !== undefined) this.#listenToAbort(pending, job.signal);
    this.#queue.push(pending);
    this.#publish();
    if (participate) this.#slice();
    this.#pump();
    return pending;
  }

  /** Resolves when everything submitted so far is over, well or not. */
  async drained(): Promise<void> {
    // In this order: those that are dying end before a job that was submitted after them is waited for.
    for (const last of [this.#dying.at(-1), this.#queue.at(-1)]) await last?.done.catch(() => undefined);
  }

  /** Runs once everything submitted so far is over, well or not; now if nothing is pending. */
  afterAll(run: () => void): void {
    const last = this.#queue.at(-1) ?? this.#dying.at(-1);
    if (last === undefined) run();
    else last.afterwards.push(run);
  }

  /** Ends the workers; jobs that wait or run reject with `disposed`. May be called twice. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    void this.#endWorkers();
    this.#rejectAll(new AttentionError('disposed', 'The runtime was disposed while work was pending.', 'Await the work first.'));
    this.#functions.clear();
    this.#loaded.clear();
    this.#wakeReady();
  }

  #checkLive(): void {
    if (this.#disposed) throw new AttentionError('disposed', 'The runtime is disposed.', 'Create another one.');
  }

  // ── Running ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #runInline(pending: Pending): void {
    this.#place(pending, 1);
    let failure: AttentionError | undefined;
    try {
      for (const { phase, argumentsAddress, scratchAddress } of pending.placed) {
        const call = this.#functions.get(phase.function.id);
        if (call === undefined) throw new RangeError(`the function '${phase.function.name}' was unloaded`);
        for (let task = 0; task < phase.tasks; task += 1) call(task, argumentsAddress, scratchAddress);
      }
    } catch (error) {
      failure = workerError(error);
    }
    this.#finish(pending, failure);
  }

  /** Writes the arguments of all phases, and finds scratch memory: one block for all, since a phase begins when the one before it is done. */
  #place(pending: Pending, threads: number): void {
    const phases = pending.job.phases.filter(({ tasks }) => tasks > 0);
    if (phases.length > ringSlots) {
      throw new AttentionError('internal', `A job of ${phases.length} phases does not fit.`, `Split it into jobs of ${ringSlots}.`);
    }
    const sizes = phases.map(({ arguments: words, scratchBytes = 0 }) => {
      const stride = Math.ceil(scratchBytes / 64) * 64;
      const argumentBytes = Math.ceil((words.length * 4) / 64) * 64;
      return { stride, argumentBytes };
    });
    const scratchBytes = sizes.reduce((most, { stride }) => Math.max(most, stride * threads), 0);
    const total = sizes.reduce((sum, { argumentBytes }) => sum + argumentBytes, scratchBytes);
    const scratchAddress = total === 0 ? 0 : this.#memory.allocate(total);
    let address = scratchAddress + scratchBytes;
    pending.block = scratchAddress;
    phases.forEach((phase, index) => {
      const { stride = 0, argumentBytes = 0 } = sizes[index] ?? {};
      this.#memory.i32(address, phase.arguments.length).set(phase.arguments);
      pending.placed.push({ phase, argumentsAddress: address, scratchAddress, scratchStride: stride });
      address += argumentBytes;
    });
  }

  /** Moves waiting jobs into the ring while it has room for all their phases. */
  #publish(): void {
    let published = false;
    for (const pending of this.#queue) {
      if (pending.start !== undefined) continue;
      const first = Atomics.load(this.#control, word.tail);
      const end = (first + pending.placed.length) | 0;
      if (!this.#hasRoom(end)) break;
      pending.placed.forEach((placed, index) => {
        this.#describe((first + index) | 0, end, placed);
      });
      pending.start = first;
      Atomics.store(this.#control, word.tail, end);
      published = true;
    }
    if (published) signal(this.#control);
  }

  /** True when the slots before `end` belong to settled jobs, and no worker still looks at one of them. */
  #hasRoom(end: number): boolean {
    const oldest = this.#queue[0]?.start ?? Atomics.load(this.#control, word.head);
    if (((end - oldest) | 0) > ringSlots) return false;
    return this.#workers.every(({ thread }) => {
      const looking = word.workers + 2 * thread;
      return Atomics.load(this.#control, looking) === 0 || ((end - Atomics.load(this.#control, looking + 1)) | 0) <= ringSlots;
    });
  }

  #describe(position: number, jobEnd: number, { phase, argumentsAddress, scratchAddress, scratchStride }: Placed): void {
    const control = this.#control;
    control[at(position, 'function')] = phase.function.id;
    control[at(position, 'tasks')] = phase.tasks;
    control[at(position, 'done')] = 0;
    control[at(position, 'arguments')] = argumentsAddress;
    control[at(position, 'scratch')] = scratchAddress;
    control[at(position, 'scratchStride')] = scratchStride;
    control[at(position, 'state')] = state.normal;
    control[at(position, 'jobEnd')] = jobEnd;
    Atomics.store(control, at(position, 'next'), 0);
  }

  /** Takes part until the queue is empty or the slice is over. */
  #slice(): void {
    const control = this.#control;
    const until = performance.now() + sliceMilliseconds;
    for (;;) {
      this.#settleDone();
      if (control !== this.#control || this.#queue.length === 0) return;
      const seen = Atomics.load(control, word.signal);
      const head = Atomics.load(control, word.head);
      if (head !== Atomics.load(control, word.tail)) takePart(control, head, 0, this.#functions, until);
      else {
        this.#publish();
        if (head === Atomics.load(control, word.tail)) return;
      }
      const left = until - performance.now();
      if (left <= 0) {
        this.#settleDone();
        return;
      }
      if (Atomics.load(control, word.head) !== head) continue;
      if (!this.#waitForOthers(control, seen, head, left)) return;
    }
  }

  /** Others run the last tasks of the phase. Returns false when this thread must not wait. */
  #waitForOthers(control: Int32Array, seen: number, head: number, milliseconds: number): boolean {
    const spinUntil = performance.now() + Math.min(0.05, milliseconds);
    while (performance.now() < spinUntil) {
      if (Atomics.load(control, word.head) !== head) return true;
    }
    if (!this.#mayBlock) return false;
    Atomics.wait(control, word.signal, seen, milliseconds);
    return true;
  }

  /** Goes on slice by slice, with a turn of the event loop in between, as long as work is pending. */
  #pump(): void {
    if (this.#pumping || this.#queue.length === 0) return;
    this.#pumping = true;
    nextTurn(() => {
      this.#pumping = false;
      if (this.#disposed) return;
      this.#slice();
      this.#pump();
    });
  }

  #settleDone(): void {
    for (;;) {
      const [pending] = this.#queue;
      if (pending?.start === undefined) return;
      const phases = pending.placed.length;
      const head = Atomics.load(this.#control, word.head);
      // Positions wrap, so they are compared by their distance.
      if (((head - pending.start) | 0) < phases) return;
      this.#queue.shift();
      const last = (pending.start + phases - 1) | 0;
      const outcome = phases === 0 ? state.normal : Atomics.load(this.#control, at(last, 'state'));
      if (outcome === state.failed) this.#finish(pending, workerError(takeErrorText(this.#control)));
      else this.#finish(pending, outcome === state.aborted ? abortError(pending.job.signal) : undefined);
      this.#publish();
    }
  }

  #finish(pending: Pending, error: AttentionError | undefined): void {
    if (pending.block !== 0) this.#memory.release(pending.block);
    if (pending.onAbort !== undefined) pending.job.signal?.removeEventListener('abort', pending.onAbort);
    pending.settle(error);
    for (const run of pending.afterwards.splice(0)) run();
  }

  #listenToAbort(pending: Pending, abort: AbortSignal): void {
    pending.onAbort = () => {
      if (pending.settled) return;
      if (pending.start === undefined) {
        const index = this.#queue.indexOf(pending);
        this.#queue.splice(index, 1);
        // What waits for this job waits for the jobs before it as well.
        this.#queue[index - 1]?.afterwards.push(...pending.afterwards.splice(0));
        this.#finish(pending, abortError(abort));
        return;
      }
      // Phases that are over keep their state; their slots are not read again.
      const passed = (Atomics.load(this.#control, word.head) - pending.start) | 0;
      const phases = pending.placed.length;
      if (passed < phases) mark(this.#control, (pending.start + Math.max(0, passed)) | 0, state.aborted);
    };
    abort.addEventListener('abort', pending.onAbort, { once: true });
  }

  // ── Workers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #newControl(): Int32Array {
    return new Int32Array(this.#memory.shared ? new SharedArrayBuffer(controlBytes) : new ArrayBuffer(controlBytes));
  }

  #startWorkers(): void {
    for (let thread = 1; thread < this.threads; thread += 1) {
      const events = {
        ready: (): void => {
          one.ready = true;
          this.#wakeReady();
        },
        dead: (reason: string): void => {
          this.#workerDied(one, reason);
        },
      };
      const one: WorkerState = { thread, ready: false, worker: this.#spawn(events) };
      this.#workers.push(one);
      one.worker.postMessage({ kind: 'start', memory: this.#memory.memory, control: this.#control, thread });
      for (const loaded of this.#loaded) one.worker.postMessage({ kind: 'load', ...loaded });
      one.worker.postMessage({ kind: 'work', messages: Atomics.load(this.#control, word.messages) });
    }
  }

  /** Sends to all workers, which leave their loop to receive it. */
  #broadcast(message: WorkerMessage): void {
    const messages = Atomics.add(this.#control, word.messages, 1) + 1;
    for (const { worker } of this.#workers) {
      worker.postMessage(message);
      worker.postMessage({ kind: 'work', messages });
    }
    signal(this.#control);
  }

  /** One that never started is done without. One that dies later may have died inside a task, so everything starts anew. */
  #workerDied(one: WorkerState, reason: string): void {
    if (this.#disposed || !this.#workers.includes(one)) return;
    if (!one.ready) {
      this.#workers = this.#workers.filter((other) => other !== one);
      this.#startFailure = `A worker did not start: ${reason}.`;
      this.#wakeReady();
      return;
    }
    const ended = this.#endWorkers();
    this.#dying.push(...this.#queue.splice(0));
    this.#control = this.#newControl();
    this.#startWorkers();
    const error = new AttentionError('worker-failed', `A worker died: ${reason}.`, 'Run the call again; the workers were started anew.');
    // The other workers may write until they have ended, so their jobs keep their memory until then.
    void ended.then(() => {
      this.#rejectAll(error);
    });
  }

  /** Resolves when they have ended. */
  #endWorkers(): Promise<unknown> {
    const ended = this.#workers;
    this.#workers = [];
    return Promise.allSettled(
      ended.map(async ({ worker }) => {
        worker.hold?.();
        await worker.terminate();
      }),
    );
  }

  /** Everything that was begun with workers that are gone; all, once the pool is disposed. */
  #rejectAll(error: AttentionError): void {
    const all = this.#disposed ? [...this.#dying.splice(0), ...this.#queue.splice(0)] : this.#dying.splice(0);
    for (const pending of all) this.#finish(pending, error);
  }

  #wakeReady(): void {
    for (const { resolve } of this.#readyResolvers.splice(0)) resolve();
  }
}
