import type {
  AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, CallShape, EnqueueOptions, Explanation, Gradients, HostTensor, MergeClass, Partial, RunOptions, StopSignal, Tensor,
} from '@heed/core';
import type { Binder, BoundCall } from '@heed/core/compute';
import { AttentionError, isHostTensor } from '@heed/core';
import { classifyTiles, countTiles, createBinder } from '@heed/core/compute';
import type { Program, Submission, WasmRuntime } from '@heed/runtime-wasm';
import { assess, describePlan } from './assess.ts';
import { CallMemory } from './call-memory.ts';
import { CallWriter } from './call.ts';
import { emitProgram } from './emit/program.ts';
import { layoutsOf, type Layouts } from './layouts.ts';
import { mergingOf } from './merging.ts';
import { planOf, type Plan } from './plan.ts';

/** A compiled request on the WebAssembly runtime: bind → classify tiles → write records → run phases on the pool. */
export class CpuKernel implements AttentionKernel {
  readonly request: AttentionRequest;
  readonly mergeClass: MergeClass | null;
  readonly #runtime: WasmRuntime;
  readonly #plan: Plan;
  readonly #layouts: Layouts;
  readonly #binder: Binder;
  readonly #program: Program;
  readonly #pending = new Set<Submission>();
  readonly #onDispose: (kernel: CpuKernel) => void;
  #disposed = false;

  constructor(runtime: WasmRuntime, request: AttentionRequest, onDispose: (kernel: CpuKernel) => void) {
    this.request = request;
    this.mergeClass = mergingOf(request.variant).mergeClass;
    this.#runtime = runtime;
    this.#plan = planOf(request, runtime.machine);
    this.#layouts = layoutsOf(request, this.#plan);
    this.#binder = createBinder(request, { runtime });
    this.#onDispose = onDispose;
    const names = ['packKeys', 'packValues', 'transformKeys', this.#plan.path === 'online' ? 'prefill' : 'rows'];
    this.#program = runtime.program(programKey(request, this.#plan), names, () => emitProgram(request, this.#plan, this.#layouts));
  }

  enqueue(inputs: AttentionInputs, options: EnqueueOptions = {}): AttentionOutputs<HostTensor> {
    this.#checkOpen();
    return this.#start(this.#binder.bind(inputs, options), options, {}).outputs;
  }

  async run(inputs: AttentionInputs, options: RunOptions = {}): Promise<AttentionOutputs<HostTensor>> {
    this.#checkOpen();
    const { signal } = options;
    const call = this.#binder.bind(inputs, options);
    const { outputs, submission, owned } = this.#start(call, options, { awaited: true, ...(signal === undefined ? {} : { signal }) });
    try {
      await submission.done;
      if (inputs.query.runtime !== null) return outputs;
      return await this.#toHost(outputs, options);
    } finally {
      if (inputs.query.runtime === null || submission.error !== undefined) for (const tensor of owned) this.#runtime.release(tensor);
    }
  }

  async partial(_inputs: AttentionInputs, _options?: RunOptions): Promise<Partial> {
    throw new AttentionError('unsupported', 'The cpu backend computes no partial results.', 'Use the reference backend.');
  }

  async transformKeys(_inputs: Parameters<AttentionKernel['transformKeys']>[0]): Promise<Tensor> {
    throw new AttentionError('unsupported', 'The cpu backend does not transform keys apart from a call.', 'Pass the keys as they are.');
  }

  async backward(): Promise<Gradients> {
    throw new AttentionError('unsupported', 'The cpu backend computes no gradients.', 'Use the reference backend.');
  }

  explain(about: CallShape | AttentionInputs): Explanation {
    this.#checkOpen();
    const call = 'query' in about ? this.#binder.bind(about) : null;
    const shape = call === null ? (about as CallShape) : shapeOf(call);
    const assessment = assess(this.request, this.#runtime.machine, shape);
    return {
      backend: 'cpu',
      plan: [...describePlan(this.#plan), ...this.#runtime.describe()],
      ...(call === null ? {} : { tiles: countTiles(classifyTiles(call, { blockQuery: this.#plan.blockQuery, blockKey: this.#plan.stepKey })) }),
      ...(assessment.supported && assessment.cost !== undefined ? { cost: assessment.cost } : {}),
      alternatives: [],
      code: { attention: this.#program.text() },
    };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.allSettled([...this.#pending].map(async ({ done }) => done));
    this.#runtime.releaseProgram(this.#program);
    this.#onDispose(this);
  }

  #start(call: BoundCall, { into = {} }: EnqueueOptions, run: { readonly awaited?: boolean; readonly signal?: StopSignal }): { readonly outputs: AttentionOutputs<HostTensor>; readonly submission: Submission; readonly owned: readonly Tensor[] } {
    if (call.edges !== null) throw new AttentionError('unsupported', 'masking: the cpu backend takes no edge lists.', 'Pass blocks, or use the sparse backend.');
    const runtime = this.#runtime;
    const memory = new CallMemory(runtime);
    const owned: HostTensor[] = [];
    const target = (given: Tensor | undefined, shape: readonly number[], dtype: Plan['dtypes']['output']): HostTensor => {
      if (given?.runtime === runtime && isHostTensor(given)) return given;
      const made = runtime.tensor(shape, dtype);
      owned.push(made);
      return made;
    };
    try {
      const { query, key, value } = call.inputs;
      const operands = { query: memory.place(query), key: memory.place(key), value: memory.place(value) };
      const outputs: AttentionOutputs<HostTensor> = {
        output: target(into.output, call.outputShape, this.#plan.dtypes.output),
        ...(this.request.variant.normalization.rule.kind === 'softmax' ? { logSumExp: target(into.logSumExp, call.rowShape, 'f32') } : {}),
      };
      const { phases, microseconds } = new CallWriter(this.#plan, this.#layouts, memory, this.#program.functions).attention(call, operands, outputs);
      const submission = runtime.submit(
        { phases, microseconds, ...(run.signal === undefined ? {} : { signal: run.signal as AbortSignal }) },
        { participate: true, awaited: run.awaited ?? false, reads: [query, key, value, ...Object.values(call.tables).map(({ tensor }) => tensor)].filter(({ runtime: owner }) => owner === runtime), writes: Object.values(outputs) as HostTensor[] },
      );
      this.#track(submission);
      return { outputs, submission, owned };
    } catch (error) {
      for (const tensor of owned) runtime.release(tensor);
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

  /** Copies for a host query, into the host's own tensors where they were given. */
  async #toHost(outputs: AttentionOutputs<HostTensor>, { into = {} }: EnqueueOptions): Promise<AttentionOutputs<HostTensor>> {
    const one = async (made: HostTensor, given: Tensor | undefined): Promise<HostTensor> => {
      if (given?.runtime === this.#runtime) return made;
      const copy = await this.#runtime.read(made);
      if (given === undefined || !isHostTensor(given)) return copy;
      copyStrided(copy, given);
      return given;
    };
    return {
      output: await one(outputs.output, into.output),
      ...(outputs.logSumExp === undefined ? {} : { logSumExp: await one(outputs.logSumExp, into.logSumExp) }),
    };
  }

  #checkOpen(): void {
    if (this.#disposed) throw new AttentionError('disposed', 'This kernel or its backend is disposed.', 'Prepare a new kernel.');
  }
}

/** Everything that the emitted code depends on. */
function programKey(request: AttentionRequest, plan: Plan): string {
  return JSON.stringify([request.variant.structure, request.queryDim, request.keyDim, request.valueDim, plan]);
}

function shapeOf(call: BoundCall): CallShape {
  return { batch: call.outputShape[0] ?? 0, heads: call.heads, keyHeads: call.keyHeads, queryLength: call.queryRows, keyLength: call.keyRows };
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
