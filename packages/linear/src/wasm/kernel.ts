import type { Explanation, FastWeightInputs, FastWeightKernel, FastWeightOutputs, FastWeightRequest, FastWeightState, Gradients, HostTensor, StopSignal, Tensor } from '@heed/core';
import { AttentionError } from '@heed/core';
import { bindFastWeights, checkOptions, type BoundFastWeights } from '@heed/core/compute';
import { CallMemory, type Submission, type WasmRuntime } from '@heed/runtime-wasm';
import { describePlan } from '../assess.ts';
import { asFloat32, type LinearCall, type StateAddresses } from './call.ts';
import type { Loaded } from './loaded.ts';
import type { WasmPlan } from './machine-plan.ts';

/** A fast-weight request on the WebAssembly runtime: bind → write records → run phases on the pool. */
export class LinearKernel implements FastWeightKernel {
  readonly request: FastWeightRequest;
  readonly #runtime: WasmRuntime;
  readonly #loaded: Loaded;
  readonly #pending = new Set<Submission>();
  readonly #onDispose: (kernel: LinearKernel) => void;
  #disposed = false;

  constructor(runtime: WasmRuntime, request: FastWeightRequest, loaded: Loaded, onDispose: (kernel: LinearKernel) => void) {
    this.request = request;
    this.#runtime = runtime;
    this.#loaded = loaded;
    this.#onDispose = onDispose;
  }

  enqueue(inputs: FastWeightInputs): FastWeightOutputs<HostTensor> {
    return this.#start(this.#bind(inputs), false, undefined).outputs;
  }

  async run(inputs: FastWeightInputs, options: { readonly signal?: StopSignal } = {}): Promise<FastWeightOutputs> {
    checkOptions(options);
    const { outputs, submission } = this.#start(this.#bind(inputs), true, options.signal);
    const made = [outputs.output, ...Object.values(outputs.state)];
    const isHost = inputs.query.runtime === null;
    try {
      await submission.done;
      if (!isHost) return outputs;
      const [output, ...state] = await Promise.all(made.map(async (tensor) => this.#runtime.read(tensor)));
      if (output === undefined) throw new RangeError('a call has an output');
      return { ...outputs, output, state: Object.fromEntries(Object.keys(outputs.state).map((name, index) => [name, state[index] ?? output])) };
    } finally {
      if (isHost || submission.error !== undefined) for (const tensor of made) this.#runtime.release(tensor);
    }
  }

  async backward(): Promise<Gradients> {
    throw new AttentionError('unsupported', 'This kernel computes no gradients.', 'Prepare it with gradients.');
  }

  explain(): Explanation {
    this.#checkOpen();
    return { backend: 'linear', plan: [...describePlan(this.#loaded.plan), ...this.#runtime.describe()], alternatives: [], code: { linear: this.#loaded.program.text() } };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.allSettled([...this.#pending].map(async ({ done }) => done));
    this.#runtime.releaseProgram(this.#loaded.program);
    this.#onDispose(this);
  }

  #bind(inputs: FastWeightInputs): BoundFastWeights {
    this.#checkOpen();
    return bindFastWeights(this.request, inputs, this.#runtime);
  }

  #start(bound: BoundFastWeights, awaited: boolean, signal: StopSignal | undefined): { readonly outputs: FastWeightOutputs<HostTensor>; readonly submission: Submission } {
    const runtime = this.#runtime;
    const { plan, writer } = this.#loaded;
    const made: HostTensor[] = [];
    const memory = new CallMemory(runtime);
    const create = (shape: readonly number[], dtype: WasmPlan['dtypes']['output']): HostTensor => {
      const tensor = runtime.tensor(shape, dtype);
      made.push(tensor);
      return tensor;
    };
    try {
      const output = create(bound.outputShape, plan.dtypes.output);
      const state = Object.fromEntries(Object.entries(bound.stateShapes).map(([name, shape]) => [name, create(shape, 'f32')]));
      const addresses = stateAddresses(runtime, memory, state, bound.inputs.state);
      const { phases, microseconds } = writer.phases(linearCall(bound), memory, runtime, output, addresses);
      const { query, key, value, logDecay, writeStrength, removalKey, removalWeight } = bound.inputs;
      const reads = [query, key, value, logDecay, writeStrength, removalKey, removalWeight, ...Object.values(bound.inputs.state ?? {}), ...Object.values(bound.tables).map(({ tensor }) => tensor)].filter((tensor): tensor is Tensor => tensor?.runtime === runtime);
      // A stop signal is an AbortSignal as far as the pool looks at it.
      const job = signal === undefined ? { phases, microseconds } : { phases, microseconds, signal: signal as AbortSignal };
      const submission = runtime.submit(job, { participate: true, awaited, reads, writes: made });
      this.#track(submission);
      return { outputs: { output, state }, submission };
    } catch (error) {
      for (const tensor of made) runtime.release(tensor);
      throw error;
    } finally {
      memory.release();
    }
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

/** Where G and z begin: in the state given, as dense float32, or as zeros where they will be kept. */
function stateAddresses(runtime: WasmRuntime, memory: CallMemory, state: Readonly<Record<string, HostTensor>>, given: FastWeightState | undefined): StateAddresses {
  const one = (name: string): { readonly from: number; readonly at: number } => {
    const kept = state[name];
    if (kept === undefined) return { from: 0, at: 0 };
    const at = runtime.addressOf(kept);
    const before = given?.[name];
    if (before === undefined) {
      kept.view().fill(0);
      return { from: at, at };
    }
    return { from: memory.place(asDense(runtime, asFloat32(runtime, before))).address, at };
  };
  const [memoryPlace, normalizer] = [one('memory'), one('normalizer')];
  return { memoryFrom: memoryPlace.from, memory: memoryPlace.at, normalizerFrom: normalizer.from, normalizer: normalizer.at };
}

function asDense(runtime: WasmRuntime, given: Tensor): Tensor {
  let stride = 1;
  for (let axis = given.shape.length - 1; axis >= 0; axis -= 1) {
    if (given.shape[axis] !== 1 && given.strides[axis] !== stride && given.runtime === runtime) return runtime.operations.copy(given);
    stride *= given.shape[axis] ?? 1;
  }
  return given;
}

function linearCall({ sequences, heads, valueHeads, uniforms, tables, inputs }: BoundFastWeights): LinearCall {
  const { query, key, value, logDecay, writeStrength, removalKey, removalWeight } = inputs;
  return {
    sequences: sequences.map(({ index, tensorBatch, start, length, offset }) => ({
      index, tensorBatch, queryStart: start, queryRows: length, queryLength: length, keyStart: start, keyLength: length, shift: 0, emptyRows: 0, prefix: 0, queryPosition: offset, keyPosition: offset,
    })),
    heads,
    keyHeads: heads,
    valueHeads,
    uniforms,
    tables,
    query,
    key,
    value,
    inputs: { ...(logDecay === undefined ? {} : { logDecay }), ...(writeStrength === undefined ? {} : { writeStrength }), ...(removalKey === undefined ? {} : { removalKey }), ...(removalWeight === undefined ? {} : { removalWeight }) },
  };
}
