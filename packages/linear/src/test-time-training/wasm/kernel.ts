import type { Explanation, FastWeightInputs, FastWeightKernel, FastWeightOutputs, FastWeightRequest, Gradients, HostTensor, StopSignal, Tensor } from '@heed/core';
import { AttentionError } from '@heed/core';
import { bindFastWeights, checkOptions, fastWeightDTypes } from '@heed/core/compute';
import type { FloatStorage, Program, Submission, WasmRuntime } from '@heed/runtime-wasm';
import { describeTraining } from '../describe.ts';
import type { TrainingPlan } from '../plan.ts';
import { TrainingCall } from './call.ts';
import { emitTraining, kernelNames, type TrainingSource } from './program.ts';

type TrainingProgram = Program<(typeof kernelNames)[number]>;

/** Most phases of one job. */
const jobPhases = 200;

/** A rule that trains while the sequence passes, on the WebAssembly runtime: one task for each value head of each sequence, its weights in memory of its own. */
export class TrainingKernel implements FastWeightKernel {
  readonly request: FastWeightRequest;
  readonly #runtime: WasmRuntime;
  readonly #source: TrainingSource;
  readonly #program: TrainingProgram;
  readonly #pending = new Set<Submission>();
  readonly #onDispose: (kernel: FastWeightKernel) => void;
  #disposed = false;

  /** @param request checked, and without gradients; its plan is `plan` */
  constructor(runtime: WasmRuntime, request: FastWeightRequest, plan: TrainingPlan, onDispose: (kernel: FastWeightKernel) => void) {
    const { queryTransforms, keyTransforms, positionPeriod, tables, uniforms } = request.variant;
    this.request = request;
    this.#runtime = runtime;
    this.#source = {
      plan, queryTransforms, keyTransforms, positionPeriod, dim: request.dim, tables, uniforms: Object.keys(uniforms),
      dtypes: fastWeightDTypes(request) as Readonly<Record<'query' | 'key' | 'value' | 'output', FloatStorage>>,
    };
    this.#program = runtime.program(JSON.stringify(['training', request.variant.structure, this.#source]), kernelNames, () => emitTraining(this.#source, runtime.machine));
    this.#onDispose = onDispose;
  }

  enqueue(inputs: FastWeightInputs): FastWeightOutputs<HostTensor> {
    return this.#start(inputs, false).outputs;
  }

  async run(inputs: FastWeightInputs, options: { readonly signal?: StopSignal } = {}): Promise<FastWeightOutputs<HostTensor>> {
    checkOptions(options);
    const { outputs, submissions } = this.#start(inputs, true, options.signal);
    const runtime = this.#runtime;
    const made: readonly Tensor[] = [outputs.output, ...Object.values(outputs.state)];
    const onHost = inputs.query.runtime === null;
    try {
      await Promise.all(submissions.map(async ({ done }) => done));
      if (!onHost) return outputs;
      const state = await Promise.all(Object.entries(outputs.state).map(async ([name, part]) => [name, await runtime.read(part)] as const));
      return { output: await runtime.read(outputs.output), state: Object.fromEntries(state) };
    } finally {
      if (onHost || submissions.some(({ error }) => error !== undefined)) for (const tensor of made) runtime.release(tensor);
    }
  }

  async backward(): Promise<Gradients> {
    throw new AttentionError('unsupported', 'Rules that train in their forward pass have no gradients here.', 'Prepare a recurrent rule for gradients.');
  }

  explain(): Explanation {
    this.#checkOpen();
    return { backend: 'linear', plan: [...describeTraining(this.#source.plan), ...this.#runtime.describe()], alternatives: [], code: { training: this.#program.text() } };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.allSettled([...this.#pending].map(async ({ done }) => done));
    this.#runtime.releaseProgram(this.#program);
    this.#onDispose(this);
  }

  #start(inputs: FastWeightInputs, awaited: boolean, signal?: StopSignal): { readonly outputs: FastWeightOutputs<HostTensor>; readonly submissions: readonly Submission[] } {
    this.#checkOpen();
    const runtime = this.#runtime;
    const call = bindFastWeights(this.request, inputs, runtime);
    const made: HostTensor[] = [];
    const tensor = (shape: readonly number[], dtype: FloatStorage): HostTensor => {
      const one = runtime.tensor(shape, dtype);
      made.push(one);
      return one;
    };
    const training = new TrainingCall(runtime, this.#source, call);
    try {
      const state = Object.fromEntries(Object.entries(call.stateShapes).map(([name, shape]) => [name, tensor(shape, 'f32')]));
      const outputs = { output: tensor(call.outputShape, this.#source.dtypes.output), state };
      const phases = training.phases(this.#program.functions, outputs);
      const { query, key, value, state: before = {} } = inputs;
      const reads = [query, key, value, ...Object.values(before), ...Object.values(call.tables).map((table) => table.tensor)].filter((one) => one.runtime === runtime);
      const submissions: Submission[] = [];
      for (let first = 0; first < phases.length; first += jobPhases) {
        const job = { phases: phases.slice(first, first + jobPhases), ...(signal === undefined ? {} : { signal: signal as AbortSignal }) };
        // Later jobs read what earlier ones were to write, so that one that fails takes them along.
        submissions.push(runtime.submit(job, { participate: true, awaited, reads: first === 0 ? reads : [outputs.output], writes: made }));
      }
      for (const submission of submissions) this.#track(submission);
      return { outputs, submissions };
    } catch (error) {
      for (const one of made) runtime.release(one);
      throw error;
    } finally {
      training.release();
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
    if (this.#disposed) throw new AttentionError('disposed', 'This kernel is disposed.', 'Prepare a new one.');
  }
}
