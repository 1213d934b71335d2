import type { Explanation, FastWeightInputs, FastWeightKernel, FastWeightOutputs, FastWeightRequest, FastWeightState, Gradients, HostTensor, Saved, StopSignal, Tensor } from '@heed/core';
import { AttentionError } from '@heed/core';
import { bindFastWeights, checkOptions, type BoundFastWeights } from '@heed/core/compute';
import { CallMemory, type Submission, type WasmRuntime } from '@heed/runtime-wasm';
import { describePlan } from '../assess.ts';
import { linearCall, stateAddresses } from './calls/linear-call.ts';
import { backward, loadGradients, type LoadedGradients } from './gradients/backward.ts';
import type { Loaded } from './calls/loaded.ts';
import type { WasmPlan } from './plan/machine-plan.ts';

/** A fast-weight request on the WebAssembly runtime: bind → write records → run phases on the pool. */
export class LinearKernel implements FastWeightKernel {
  readonly request: FastWeightRequest;
  readonly #runtime: WasmRuntime;
  readonly #loaded: Loaded;
  readonly #pending = new Set<Submission>();
  readonly #onDispose: (kernel: LinearKernel) => void;
  readonly #saved = new WeakSet<Saved>();
  readonly #backward = new Set<Promise<unknown>>();
  /** Made when the first gradients are asked for. */
  #gradients: LoadedGradients | undefined;
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

  async backward(inputs: FastWeightInputs, saved: Saved, outputGradients: { readonly output: Tensor; readonly state?: FastWeightState }): Promise<Gradients<HostTensor>> {
    const bound = this.#bind(inputs);
    const names = this.request.gradients ?? [];
    if (!this.#saved.has(saved)) throw new AttentionError('invalid-argument', 'backward got a `saved` that this kernel did not make.', 'Prepare with { gradients: […] } and hand over the `saved` of its forward call.');
    const work = backward(this.#runtime, (this.#gradients ??= loadGradients(this.#runtime, this.#loaded.plan, this.request.variant)), bound, outputGradients, names);
    this.#backward.add(work);
    try {
      return await work;
    } finally {
      this.#backward.delete(work);
    }
  }

  explain(): Explanation {
    this.#checkOpen();
    return { backend: 'linear', plan: [...describePlan(this.#loaded.plan), ...this.#runtime.describe()], alternatives: [], code: { linear: this.#loaded.program.text() } };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.allSettled([...[...this.#pending].map(async ({ done }) => done), ...this.#backward]);
    if (this.#gradients !== undefined) this.#runtime.releaseProgram(this.#gradients.program);
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
      return { outputs: { output, state, ...(this.request.gradients === undefined ? {} : { saved: this.#newSaved() }) }, submission };
    } catch (error) {
      for (const tensor of made) runtime.release(tensor);
      throw error;
    } finally {
      memory.release();
    }
  }

  /** The backward pass starts again from the inputs, so what is saved is only this kernel's mark. */
  #newSaved(): Saved {
    const saved = Object.freeze({}) as Saved;
    this.#saved.add(saved);
    return saved;
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
