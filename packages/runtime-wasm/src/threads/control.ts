/**
 * The control block: what the calling thread and the workers share besides memory. A ring of descriptors, one for each phase of a job,
 * is filled at `tail` by the calling thread and emptied at `head` by everyone, strictly in order: a phase begins when the one before it is done.
 * Positions count up and wrap around at 2³²; the slot of a position is its low bits.
 */

export const ringSlots = 256;
export const maximumWorkers = 63;
/** UTF-8 bytes kept of the first error's message. */
const errorBytes = 1024;

/** Words of the block. */
export const word = {
  /** Changes with everything that a sleeping thread must see: new phases, a phase done, messages, the end. */
  signal: 0,
  /** Position after the last descriptor. */
  tail: 1,
  /** Position of the phase at work. */
  head: 2,
  /** Number of messages sent to each worker, so that one in its loop returns to its event loop. */
  messages: 3,
  /** Position, plus one bit that says "in use", of the phase whose error text is kept. */
  errorState: 4,
  errorLength: 5,
  /** Two words for each worker: whether it looks at the ring, and at which position. */
  workers: 16,
} as const;

const ringStart = word.workers + 2 * (maximumWorkers + 1);

/** Words of a descriptor. */
export const field = {
  function: 0,
  /** Number of tasks; tasks are numbered from 0. */
  tasks: 1,
  /** The task to be claimed next. */
  next: 2,
  /** Tasks that are done. The thread that does the last moves the head. */
  done: 3,
  arguments: 4,
  scratch: 5,
  /** Bytes of scratch of each thread. */
  scratchStride: 6,
  state: 7,
  /** Position after the last phase of the same job. */
  jobEnd: 8,
} as const;

const descriptorWords = 16;
const errorStart = (ringStart + ringSlots * descriptorWords) * 4;

/** State of a descriptor. Tasks of one that is not `normal` are claimed and counted, but not run. */
export const state = { normal: 0, aborted: 1, failed: 2 } as const;

export const controlBytes: number = errorStart + errorBytes;

/** Index of a descriptor's field in the control words. */
export function at(position: number, name: keyof typeof field): number {
  return ringStart + (position & (ringSlots - 1)) * descriptorWords + field[name];
}

/** Tells every thread that something changed. */
export function signal(control: Int32Array): void {
  Atomics.add(control, word.signal, 1);
  // Without workers the block is an ordinary buffer, and the name SharedArrayBuffer may not exist.
  if (!(control.buffer instanceof ArrayBuffer)) Atomics.notify(control, word.signal);
}

export type KernelCall = (task: number, argumentsAddress: number, scratchAddress: number) => void;

/**
 * Claims and runs tasks of the phase at `position` until none is left or `until` has passed.
 * @param thread 0 for the calling thread, 1 … for workers
 * @param until time by performance.now(); asked after each task
 * @returns true when no task was left to claim
 */
export function takePart(control: Int32Array, position: number, thread: number, functions: ReadonlyMap<number, KernelCall>, until: number): boolean {
  const tasks = Atomics.load(control, at(position, 'tasks'));
  if (Atomics.load(control, at(position, 'next')) >= tasks) return true;
  const call = functions.get(Atomics.load(control, at(position, 'function')));
  const argumentsAddress = Atomics.load(control, at(position, 'arguments'));
  const scratchAddress = Atomics.load(control, at(position, 'scratch')) + thread * Atomics.load(control, at(position, 'scratchStride'));
  for (;;) {
    const task = Atomics.add(control, at(position, 'next'), 1);
    if (task >= tasks) return true;
    if (Atomics.load(control, at(position, 'state')) === state.normal) {
      try {
        if (call === undefined) throw new RangeError('the function was never loaded, or was unloaded too early');
        call(task, argumentsAddress, scratchAddress);
      } catch (error) {
        fail(control, position, error);
      }
    }
    if (Atomics.add(control, at(position, 'done'), 1) + 1 === tasks) {
      Atomics.add(control, word.head, 1);
      signal(control);
    }
    if (until !== Infinity && performance.now() >= until) return false;
  }
}

/** Gives a state to the phase and to all later ones of its job. */
export function mark(control: Int32Array, position: number, value: number): void {
  const end = Atomics.load(control, at(position, 'jobEnd'));
  for (let one = position; one !== end; one = (one + 1) | 0) Atomics.store(control, at(one, 'state'), value);
}

function fail(control: Int32Array, position: number, error: unknown): void {
  mark(control, position, state.failed);
  // The first error's text is kept until the calling thread has read it.
  if (Atomics.compareExchange(control, word.errorState, 0, 1) !== 0) return;
  // encodeInto refuses shared memory, so the text is encoded beside it.
  const text = new TextEncoder().encode(String(error)).subarray(0, errorBytes);
  new Uint8Array(control.buffer, control.byteOffset + errorStart, errorBytes).set(text);
  Atomics.store(control, word.errorLength, text.length);
  Atomics.store(control, word.errorState, 2);
}

/** Takes the kept error text, so that another can be kept. */
export function takeErrorText(control: Int32Array): string {
  if (Atomics.load(control, word.errorState) !== 2) return '';
  const length = Atomics.load(control, word.errorLength);
  // TextDecoder refuses shared memory as well.
  const text = new TextDecoder().decode(new Uint8Array(control.buffer, control.byteOffset + errorStart, length).slice());
  Atomics.store(control, word.errorState, 0);
  return text;
}
