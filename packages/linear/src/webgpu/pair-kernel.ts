import type { AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, CallShape, EnqueueOptions, Explanation, Gradients, MergeClass, Partial, RunOptions, Tensor } from '@heed/core';
import { AttentionError, isHostTensor } from '@heed/core';
import { createBinder, mergeClassOf, type Binder, type BoundCall } from '@heed/core/compute';
import { Slicer, type ProgramSource, type WebGpuRuntime } from '@heed/runtime-webgpu';
import { describePlan } from '../assess.ts';
import { refuseInputs } from '../pairs.ts';
import type { LinearPlan } from '../plan.ts';
import type { LinearReading } from '../recognise.ts';
import { gpuPlan } from './gpu-plan.ts';
import { releaseQuietly } from './kernel.ts';
import { LinearStages, programsOf, sourcesOf, type Programs } from './stages.ts';
import { pairWork } from './work.ts';

/** A pairwise variant that was recognised as linear attention, on the GPU: keys go into a state, rows read it. */
export class GpuPairKernel implements AttentionKernel {
  readonly request: AttentionRequest;
  readonly mergeClass: MergeClass | null;
  readonly #runtime: WebGpuRuntime;
  readonly #binder: Binder;
  readonly #reading: LinearReading;
  readonly #programs: Programs;
  readonly #slicer: Slicer;
  readonly #pending = new Set<Promise<unknown>>();
  readonly #onDispose: (kernel: AttentionKernel) => void;
  #disposed = false;

  constructor(runtime: WebGpuRuntime, request: AttentionRequest, reading: LinearReading, plan: LinearPlan, onDispose: (kernel: AttentionKernel) => void) {
    this.request = request;
    this.mergeClass = mergeClassOf(request.variant).mergeClass;
    this.#runtime = runtime;
    this.#binder = createBinder(request, { runtime });
    this.#reading = reading;
    this.#programs = programsOf(gpuPlan(plan), request.variant);
    this.#slicer = new Slicer(runtime);
    this.#onDispose = onDispose;
  }

  /** Compiles what every call needs, without stalling. */
  async compile(): Promise<void> {
    await Promise.all(sourcesOf(this.#programs).map(async (source: ProgramSource) => this.#runtime.compile(source)));
  }

  enqueue(inputs: AttentionInputs, options: EnqueueOptions = {}): AttentionOutputs {
    this.#checkOpen();
    const { stages, output, made } = this.#start(this.#binder.bind(inputs, options), options);
    try {
      this.#slicer.submit(stages.stages);
      stages.end();
      return { output: this.#deliver(output, made, options) };
    } catch (error) {
      stages.release();
      releaseQuietly(this.#runtime, made);
      throw error;
    }
  }

  async run(inputs: AttentionInputs, options: RunOptions = {}): Promise<AttentionOutputs> {
    this.#checkOpen();
    const started = this.#start(this.#binder.bind(inputs, options), options);
    return this.#track(this.#finish(started, inputs.query.runtime === null, options));
  }

  async partial(): Promise<Partial> {
    throw new AttentionError('unsupported', 'This kernel gives no partial results.', 'Use the fast-weight reading: the states of segments add up, or pass the state of one segment to the next.');
  }

  async transformKeys(): Promise<Tensor> {
    throw new AttentionError('unsupported', 'This kernel keeps no transformed keys: its state holds their sum.', 'Use the fast-weight reading, and keep its state.');
  }

  async backward(): Promise<Gradients> {
    throw new AttentionError('unsupported', 'This runtime computes no gradients.', 'Use the linear backend on runtime-wasm.');
  }

  explain(about: CallShape | AttentionInputs): Explanation {
    this.#checkOpen();
    if ('query' in about) this.#binder.bind(about);
    return { backend: 'linear', plan: [...describePlan(this.#programs.plan), ...this.#runtime.describe()], alternatives: [], code: Object.fromEntries(sourcesOf(this.#programs).map(({ name, code }) => [name, code])) };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.allSettled(this.#pending);
    this.#onDispose(this);
  }

  /** The output is a tensor of its own; `deliver` copies it where the caller wants it. */
  #start(call: BoundCall, { into = {} }: EnqueueOptions): Started {
    refuseInputs(call);
    const runtime = this.#runtime;
    const { plan } = this.#programs;
    const work = pairWork(call, this.#reading);
    const made: Tensor[] = [];
    const tensor = (shape: readonly number[], dtype: Tensor['dtype']): Tensor => {
      const one = runtime.tensor(shape, dtype);
      made.push(one);
      return one;
    };
    try {
      const output = tensor(call.outputShape, into.output?.dtype ?? plan.dtypes.output);
      const lanes = Math.max(1, work.lanes.length);
      const state = { memory: tensor([lanes, plan.width, plan.valueDim], 'f32'), ...(plan.epsilon === null ? {} : { normalizer: tensor([lanes, plan.width], 'f32') }) };
      return { stages: new LinearStages(runtime, this.#programs, work, output, state), output, made };
    } catch (error) {
      releaseQuietly(runtime, made);
      throw error;
    }
  }

  /** The output, or the caller's tensor of this runtime with it; everything else is given back. */
  #deliver(output: Tensor, made: readonly Tensor[], { into = {} }: EnqueueOptions): Tensor {
    const given = into.output?.runtime === this.#runtime ? into.output : undefined;
    if (given !== undefined) this.#runtime.operations.copy(output, { into: given });
    releaseQuietly(this.#runtime, made.filter((one) => one !== output || given !== undefined));
    return given ?? output;
  }

  async #finish({ stages, output, made }: Started, toHost: boolean, options: RunOptions): Promise<AttentionOutputs> {
    const runtime = this.#runtime;
    const given = options.into?.output;
    try {
      await this.#slicer.run(stages.stages, options.signal);
      stages.end();
      const delivered = this.#deliver(output, made, options);
      if (!toHost) {
        await runtime.finished();
        return { output: delivered };
      }
      const copy = delivered === given ? given : await runtime.read(delivered);
      if (delivered === given) await runtime.finished();
      else releaseQuietly(runtime, [delivered]);
      if (given === undefined || delivered === given) return { output: copy };
      if (isHostTensor(given) && isHostTensor(copy)) copyStrided(copy.view(), given.view(), given.shape, given.strides);
      return { output: given };
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

interface Started {
  readonly stages: LinearStages;
  readonly output: Tensor;
  /** The output, and the state that keys are summed in. */
  readonly made: Tensor[];
}

/** Dense elements to their places in a strided array. */
function copyStrided(from: ArrayLike<number>, to: Record<number, number>, shape: readonly number[], strides: readonly number[]): void {
  for (let flat = 0; flat < from.length; flat += 1) {
    let [rest, place] = [flat, 0];
    for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
      const size = shape[axis] ?? 1;
      place += (rest % size) * (strides[axis] ?? 0);
      rest = Math.floor(rest / size);
    }
    to[place] = from[flat] ?? 0;
  }
}
