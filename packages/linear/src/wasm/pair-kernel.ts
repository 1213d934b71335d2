import type { AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, CallShape, EnqueueOptions, Explanation, Gradients, HostTensor, MergeClass, Partial, RunOptions, StopSignal, Tensor } from '@heed/core';
import { AttentionError, isHostTensor } from '@heed/core';
import { createBinder, HostValues, mergeClassOf, type Binder, type BoundCall, type BoundSequence } from '@heed/core/compute';
import { CallMemory, type Submission, type WasmRuntime } from '@heed/runtime-wasm';
import { describePlan } from '../assess.ts';
import { keysOfRows, refuseInputs } from '../pairs.ts';
import type { LinearReading } from '../recognise.ts';
import type { LinearCall, LinearSequence, StateAddresses } from './calls/call.ts';
import type { Loaded } from './calls/loaded.ts';

/** A pairwise variant that was recognised as linear attention: keys go into a state, rows read it, and no pair outside a chunk is ever formed. */
export class PairKernel implements AttentionKernel {
  readonly request: AttentionRequest;
  readonly mergeClass: MergeClass | null;
  readonly #runtime: WasmRuntime;
  readonly #binder: Binder;
  readonly #loaded: Loaded;
  readonly #reading: LinearReading;
  readonly #pending = new Set<Submission>();
  readonly #onDispose: (kernel: PairKernel) => void;
  #disposed = false;

  constructor(runtime: WasmRuntime, request: AttentionRequest, reading: LinearReading, loaded: Loaded, onDispose: (kernel: PairKernel) => void) {
    this.request = request;
    this.mergeClass = mergeClassOf(request.variant).mergeClass;
    this.#runtime = runtime;
    this.#binder = createBinder(request, { runtime });
    this.#reading = reading;
    this.#loaded = loaded;
    this.#onDispose = onDispose;
  }

  enqueue(inputs: AttentionInputs, options: EnqueueOptions = {}): AttentionOutputs<HostTensor> {
    this.#checkOpen();
    const { output } = this.#start(this.#binder.bind(inputs, options), options, false, undefined);
    return { output };
  }

  async run(inputs: AttentionInputs, options: RunOptions = {}): Promise<AttentionOutputs> {
    this.#checkOpen();
    const call = this.#binder.bind(inputs, options);
    const { output, submission, isOwn } = this.#start(call, options, true, options.signal);
    const isHost = inputs.query.runtime === null;
    try {
      await submission.done;
      if (!isHost) return { output };
      const copy = await this.#runtime.read(output);
      const given = options.into?.output;
      if (given === undefined || given.runtime === this.#runtime || !isHostTensor(given)) return { output: copy };
      copyStrided(copy, given);
      return { output: given };
    } finally {
      if (isOwn && (isHost || submission.error !== undefined)) this.#runtime.release(output);
    }
  }

  async partial(): Promise<Partial> {
    throw new AttentionError('unsupported', 'This kernel gives no partial results.', 'Use the fast-weight reading: the states of segments add up, or pass the state of one segment to the next.');
  }

  async transformKeys(): Promise<Tensor> {
    throw new AttentionError('unsupported', 'This kernel keeps no transformed keys: its state holds their sum.', 'Use the fast-weight reading, and keep its state.');
  }

  async backward(): Promise<Gradients> {
    throw new AttentionError('unsupported', 'Gradients are computed for the fast-weight reading alone.', 'Prepare fastWeights({ rule: additiveRule(), … }) with the same maps.');
  }

  explain(about: CallShape | AttentionInputs): Explanation {
    this.#checkOpen();
    if ('query' in about) this.#binder.bind(about);
    return { backend: 'linear', plan: [...describePlan(this.#loaded.plan), ...this.#runtime.describe()], alternatives: [], code: { linear: this.#loaded.program.text() } };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.allSettled([...this.#pending].map(async ({ done }) => done));
    this.#runtime.releaseProgram(this.#loaded.program);
    this.#onDispose(this);
  }

  #start(call: BoundCall, { into = {} }: EnqueueOptions, awaited: boolean, signal: StopSignal | undefined): { readonly output: HostTensor; readonly submission: Submission; readonly isOwn: boolean } {
    refuseInputs(call);
    const runtime = this.#runtime;
    const { plan, writer } = this.#loaded;
    const linear = linearCall(call, this.#reading);
    const given = into.output;
    const isOwn = !(given?.runtime === runtime && isHostTensor(given));
    const output = given?.runtime === runtime && isHostTensor(given) ? given : runtime.tensor(call.outputShape, plan.dtypes.output);
    const memory = new CallMemory(runtime);
    try {
      const { phases, microseconds } = writer.phases(linear, memory, runtime, output, this.#state(linear, memory));
      const reads = [linear.query, linear.key, linear.value, ...Object.values(call.tables).map(({ tensor }) => tensor)].filter(({ runtime: owner }) => owner === runtime);
      // A stop signal is an AbortSignal as far as the pool looks at it.
      const job = signal === undefined ? { phases, microseconds } : { phases, microseconds, signal: signal as AbortSignal };
      const submission = runtime.submit(job, { participate: true, awaited, reads, writes: [output] });
      this.#track(submission);
      return { output, submission, isOwn };
    } catch (error) {
      if (isOwn) runtime.release(output);
      throw error;
    } finally {
      memory.release();
    }
  }

  /** Zeros for every head of every sequence, held until the call is over. */
  #state({ sequences, valueHeads }: LinearCall, memory: CallMemory): StateAddresses {
    const { width, valueDim, epsilon } = this.#loaded.plan;
    const lanes = Math.max(1, sequences.length * valueHeads);
    const zeros = (floats: number): number => {
      const address = memory.allocate(floats * 4);
      this.#runtime.heap.f32(address, floats).fill(0);
      return address;
    };
    const state = zeros(lanes * width * valueDim);
    const normalizer = epsilon === null ? 0 : zeros(lanes * width);
    return { memoryFrom: state, memory: state, normalizerFrom: normalizer, normalizer };
  }

  #track(submission: Submission): void {
    if (submission.settled) return;
    this.#pending.add(submission);
    const forget = (): void => {
      this.#pending.delete(submission);
    };
    submission.done.then(forget, forget);
  }

  #checkOpen(): void {
    if (this.#disposed) throw new AttentionError('disposed', 'This kernel or its backend is disposed.', 'Prepare a new kernel.');
  }
}

function linearCall(call: BoundCall, reading: LinearReading): LinearCall {
  const values = new HostValues(call);
  const { query, key, value } = call.inputs;
  return {
    sequences: call.sequences.map((sequence, index) => ({ ...linearSequence(sequence, reading, values), index })),
    heads: call.heads,
    keyHeads: call.keyHeads,
    valueHeads: call.heads,
    uniforms: call.uniforms,
    tables: call.tables,
    query,
    key,
    value,
    inputs: {},
  };
}

function linearSequence(sequence: BoundSequence, reading: LinearReading, values: HostValues): Omit<LinearSequence, 'index'> {
  const { tensorBatch, queryStart, queryRows, queryLength, keyStart, queryOffset, keyOffset } = sequence;
  const { keyLength, shift } = keysOfRows(sequence, reading, values);
  const { causal } = reading;
  return {
    tensorBatch,
    queryStart,
    queryRows,
    queryLength,
    keyStart,
    keyLength,
    shift,
    emptyRows: keyLength === 0 ? queryLength : Math.max(0, Math.min(-shift, queryLength)),
    prefix: causal ? Math.max(0, Math.min(shift, keyLength)) : keyLength,
    queryPosition: queryOffset,
    keyPosition: keyOffset,
  };
}

/** Elements of a dense tensor to their places in a strided one of the same shape. */
function copyStrided(source: HostTensor, target: HostTensor): void {
  const [from, to] = [source.view(), target.view()];
  for (let flat = 0; flat < from.length; flat += 1) {
    let [rest, place] = [flat, 0];
    for (let axis = source.shape.length - 1; axis >= 0; axis -= 1) {
      const size = source.shape[axis] ?? 1;
      place += (rest % size) * (target.strides[axis] ?? 0);
      rest = Math.floor(rest / size);
    }
    to[place] = from[flat] ?? 0;
  }
}
