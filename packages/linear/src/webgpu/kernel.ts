import type { Explanation, FastWeightInputs, FastWeightKernel, FastWeightOutputs, FastWeightRequest, Gradients, StopSignal, Tensor } from '@heed/core';
import { AttentionError } from '@heed/core';
import { bindFastWeights, checkOptions } from '@heed/core/compute';
import { Slicer, type WebGpuRuntime } from '@heed/runtime-webgpu';
import type { Computation, StartedCall } from '../gpu/computation.ts';

/** A rule on the GPU, however it is computed. */
export class GpuFastWeightKernel implements FastWeightKernel {
  readonly request: FastWeightRequest;
  readonly #runtime: WebGpuRuntime;
  readonly #computation: Computation;
  readonly #slicer: Slicer;
  readonly #pending = new Set<Promise<unknown>>();
  readonly #onDispose: (kernel: FastWeightKernel) => void;
  #disposed = false;

  constructor(runtime: WebGpuRuntime, request: FastWeightRequest, computation: Computation, onDispose: (kernel: FastWeightKernel) => void) {
    this.request = request;
    this.#runtime = runtime;
    this.#computation = computation;
    this.#slicer = new Slicer(runtime);
    this.#onDispose = onDispose;
  }

  /** Compiles what every call needs, without stalling. */
  async compile(): Promise<void> {
    await Promise.all(this.#computation.programs.map(async (source) => this.#runtime.compile(source)));
  }

  enqueue(inputs: FastWeightInputs): FastWeightOutputs {
    const { stages, outputs, made } = this.#start(inputs);
    try {
      this.#slicer.submit(stages.stages);
      stages.end();
      return outputs;
    } catch (error) {
      stages.release();
      releaseQuietly(this.#runtime, made);
      throw error;
    }
  }

  async run(inputs: FastWeightInputs, options: { readonly signal?: StopSignal } = {}): Promise<FastWeightOutputs> {
    this.#checkOpen();
    checkOptions(options);
    const started = this.#start(inputs);
    return this.#track(this.#finish(started, inputs.query.runtime === null, options.signal));
  }

  async backward(): Promise<Gradients> {
    throw new AttentionError('unsupported', 'This runtime computes no gradients.', 'Use the linear backend on runtime-wasm.');
  }

  explain(): Explanation {
    this.#checkOpen();
    const { plan, programs } = this.#computation;
    return { backend: 'linear', plan: [...plan, ...this.#runtime.describe()], alternatives: [], code: Object.fromEntries(programs.map(({ name, code }) => [name, code])) };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.allSettled(this.#pending);
    this.#onDispose(this);
  }

  #start(inputs: FastWeightInputs): Started {
    this.#checkOpen();
    const runtime = this.#runtime;
    const call = bindFastWeights(this.request, inputs, runtime);
    const made: Tensor[] = [];
    const tensor = (shape: readonly number[], dtype: Tensor['dtype']): Tensor => {
      const one = runtime.tensor(shape, dtype);
      made.push(one);
      return one;
    };
    try {
      const output = tensor(call.outputShape, this.#computation.outputDtype);
      const state = Object.fromEntries(Object.entries(call.stateShapes).map(([name, shape]) => [name, tensor(shape, 'f32')]));
      return { stages: this.#computation.start(call, output, state), outputs: { output, state }, made };
    } catch (error) {
      releaseQuietly(runtime, made);
      throw error;
    }
  }

  async #finish({ stages, outputs, made }: Started, toHost: boolean, signal: StopSignal | undefined): Promise<FastWeightOutputs> {
    const runtime = this.#runtime;
    try {
      await this.#slicer.run(stages.stages, signal);
      stages.end();
      if (!toHost) {
        await runtime.finished();
        return outputs;
      }
      const names = Object.keys(outputs.state);
      const [output, ...state] = await runtime.readAll(made);
      releaseQuietly(runtime, made);
      if (output === undefined) throw new AttentionError('internal', 'Nothing came back from the device.', 'Please report it.');
      return { output, state: Object.fromEntries(names.flatMap((name, index) => (state[index] === undefined ? [] : [[name, state[index]]]))) };
    } catch (error) {
      stages.release();
      releaseQuietly(runtime, made);
      throw error;
    }
  }

  async #track<T>(work: Promise<T>): Promise<T> {
    this.#pending.add(work);
    try {
      return await work;
    } finally {
      this.#pending.delete(work);
    }
  }

  #checkOpen(): void {
    if (this.#disposed) throw new AttentionError('disposed', 'This kernel or its backend is disposed.', 'Prepare a new kernel.');
    this.#runtime.checkOpen();
  }
}

/** A call that was started, and what it writes. */
interface Started {
  readonly stages: StartedCall;
  readonly outputs: FastWeightOutputs;
  /** Output, then the tensors of the state in the order of their names. */
  readonly made: Tensor[];
}

/** What is live of these; after an error of the device or of the runtime nothing is. */
export function releaseQuietly(runtime: WebGpuRuntime, tensors: Tensor[]): void {
  for (const tensor of tensors.splice(0)) {
    try {
      runtime.release(tensor);
    } catch (error) {
      if (!(error instanceof AttentionError)) throw error;
    }
  }
}
