import type { AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, CallShape, EnqueueOptions, Explanation, Gradients, HostTensor, MergeClass, ObservedStage, Partial, RunOptions, StopSignal, Tensor } from '@heed/core';
import type { Binder, BoundCall, KeyInputs } from '@heed/core/compute';
import { AttentionError, isHostTensor } from '@heed/core';
import { classifyTiles, countTiles, mergeClassOf, observedShapeOf } from '@heed/core/compute';
import type { Submission, WasmRuntime } from '@heed/runtime-wasm';
import { CallMemory } from '@heed/runtime-wasm';
import { assess, describePlan } from './assess.ts';
import type { Operands, Prepared } from './call.ts';
import { fillUnseen, observationChains } from './observation.ts';
import { RecordCache } from './record-cache.ts';
import { partsOfCall } from './schedule.ts';
import type { Plan } from './plan.ts';
import type { Preparation } from './preparation.ts';
import { Programs, type Writers } from './programs.ts';

/** A compiled request on the WebAssembly runtime: bind → classify tiles → write records → run phases on the pool. */
export class CpuKernel implements AttentionKernel {
  readonly request: AttentionRequest;
  readonly mergeClass: MergeClass | null;
  readonly #runtime: WasmRuntime;
  readonly #binder: Binder;
  readonly #programs: Programs;
  readonly #records: RecordCache;
  readonly #pending = new Set<Submission>();
  readonly #onDispose: (kernel: CpuKernel) => void;
  #disposed = false;

  constructor(runtime: WasmRuntime, request: AttentionRequest, preparation: Preparation, writers: Writers, onDispose: (kernel: CpuKernel) => void) {
    this.request = request;
    this.mergeClass = preparation.mergeClass;
    this.#runtime = runtime;
    this.#binder = preparation.binder;
    this.#onDispose = onDispose;
    this.#records = new RecordCache(runtime, request);
    this.#programs = new Programs(runtime, request, preparation, writers);
  }

  enqueue(inputs: AttentionInputs, options: EnqueueOptions = {}): AttentionOutputs<HostTensor> {
    this.#checkOpen();
    return this.#start(this.#binder.bind(inputs, options), options, {}).outputs;
  }

  async run(inputs: AttentionInputs, options: RunOptions = {}): Promise<AttentionOutputs<HostTensor>> {
    this.#checkOpen();
    const call = this.#binder.bind(inputs, options);
    const { outputs, submission, owned } = this.#start(call, options, { awaited: true, ...stopOf(options) });
    try {
      await submission.done;
      if (inputs.query.runtime !== null) return outputs;
      return await this.#toHost(outputs, options);
    } finally {
      if (inputs.query.runtime === null || submission.error !== undefined) for (const tensor of owned) this.#runtime.release(tensor);
    }
  }

  async partial(inputs: AttentionInputs, options: RunOptions = {}): Promise<Partial<HostTensor>> {
    this.#checkOpen();
    const { mergeClass, refusal } = mergeClassOf(this.request.variant);
    if (mergeClass === null) throw new AttentionError('merge-refused', `Partial results of this variant do not merge: ${refusal}.`, 'Run it over all keys at once.');
    const call = this.#binder.bind(inputs, options);
    const program = this.#programs.partial;
    const { kind } = this.request.variant.normalization.rule;
    const row = (): HostTensor => this.#runtime.tensor(call.rowShape, 'f32');
    const made = {
      output: this.#runtime.tensor(call.outputShape, 'f32'),
      ...(kind === 'softmax' ? { logSumExp: row() } : { count: row() }),
      ...(kind === 'rowSum' ? { denominator: row() } : {}),
    };
    const statistics: { readonly logSumExp?: HostTensor; readonly count?: HostTensor; readonly denominator?: HostTensor } = made;
    const tensors: readonly HostTensor[] = Object.values(made);
    // Kernels write both statistics wherever there is one.
    const spare = kind === 'elementwise' ? row() : null;
    try {
      await this.#submit(call, tensors, { awaited: true, ...stopOf(options) }, (memory, operands) => {
        const written = { ...(statistics.count === undefined ? {} : { count: statistics.count }), denominator: statistics.denominator ?? spare ?? made.output };
        const { writer } = program;
        const own = { ...call, request: program.request };
        return [writer.phases(writer.blocks(own, memory), own, memory, { operands, outputs: made, statistics: written })];
      }).done;
      const finished = async (tensor: HostTensor): Promise<HostTensor> => (inputs.query.runtime === null ? this.#runtime.read(tensor) : tensor);
      const { output, ...rows } = made;
      const entries = await Promise.all(Object.entries(rows).map(async ([name, tensor]) => [name, await finished(tensor)] as const));
      return { mergeClass, accumulator: await finished(output), statistics: Object.fromEntries(entries) };
    } finally {
      if (spare !== null) this.#runtime.release(spare);
      if (inputs.query.runtime === null) for (const tensor of tensors) this.#runtime.release(tensor);
    }
  }

  enqueueKeys(inputs: KeyInputs): Tensor {
    this.#checkOpen();
    const call = this.#binder.bindKeys(inputs);
    const { key } = inputs;
    const [batch = 0, keyHeads = 0, keyRows = 0] = key.shape;
    const runtime = this.#runtime;
    const made = runtime.tensor([batch, keyHeads, keyRows, call.scoreDim], this.#programs.keys.plan.dtypes.key);
    const memory = new CallMemory(runtime);
    try {
      const { phases, microseconds } = this.#programs.keys.writer.keys(call, memory, memory.place(key), made);
      this.#track(runtime.submit({ phases, microseconds }, { reads: key.runtime === runtime ? [key] : [], writes: [made] }));
      return made;
    } catch (error) {
      runtime.release(made);
      throw error;
    } finally {
      memory.release();
    }
  }

  async transformKeys(inputs: KeyInputs): Promise<Tensor> {
    this.#checkOpen();
    const call = this.#binder.bindKeys(inputs);
    const { key } = inputs;
    const [batch = 0, keyHeads = 0, keyRows = 0] = key.shape;
    const runtime = this.#runtime;
    const made = runtime.tensor([batch, keyHeads, keyRows, call.scoreDim], this.#programs.keys.plan.dtypes.key);
    const memory = new CallMemory(runtime);
    try {
      const { phases, microseconds } = this.#programs.keys.writer.keys(call, memory, memory.place(key), made);
      const submission = runtime.submit({ phases, microseconds }, { participate: true, awaited: true, reads: key.runtime === runtime ? [key] : [], writes: [made] });
      this.#track(submission);
      memory.release();
      await submission.done;
      if (key.runtime !== null) return made;
      const copy = await runtime.read(made);
      runtime.release(made);
      return copy;
    } catch (error) {
      memory.release();
      runtime.release(made);
      throw error;
    }
  }

  async backward(): Promise<Gradients> {
    throw new AttentionError('unsupported', 'The cpu backend computes no gradients.', 'Use the reference backend.');
  }

  explain(about: CallShape | AttentionInputs): Explanation {
    this.#checkOpen();
    const call = 'query' in about ? this.#binder.bind(about) : null;
    const shape = call === null ? (about as CallShape) : shapeOf(call);
    const { plan } = this.#programs.blocks;
    const assessment = assess(this.request, this.#runtime.machine, shape);
    return {
      backend: 'cpu',
      plan: [...describePlan(plan), ...this.#runtime.describe()],
      ...(call === null ? {} : { tiles: countTiles(classifyTiles(call, { blockQuery: plan.blockQuery, blockKey: plan.stepKey })) }),
      ...(assessment.supported && assessment.cost !== undefined ? { cost: assessment.cost } : {}),
      alternatives: [],
      code: this.#programs.text(),
    };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.allSettled([...this.#pending].map(async ({ done }) => done));
    this.#records.clear();
    this.#programs.release();
    this.#onDispose(this);
  }

  /** Submits the main phases and, where stages are looked at, those of a second pass over the chosen rows. */
  #start(call: BoundCall, { into = {} }: EnqueueOptions, run: Start): { readonly outputs: AttentionOutputs<HostTensor>; readonly submission: Submission; readonly owned: readonly Tensor[] } {
    const runtime = this.#runtime;
    const owned: HostTensor[] = [];
    const target = (given: Tensor | undefined, shape: readonly number[], dtype: Plan['dtypes']['output']): HostTensor => {
      if (given?.runtime === runtime && isHostTensor(given)) return given;
      const made = runtime.tensor(shape, dtype);
      owned.push(made);
      return made;
    };
    try {
      const { blocks, observing } = this.#programs;
      const shape = observing === null ? null : observedShapeOf(call);
      const stages = new Map<ObservedStage, HostTensor>();
      for (const stage of observing?.plan.observed ?? []) stages.set(stage, target(undefined, shape?.stage ?? [], 'f32'));
      const keyMass = observing?.plan.observesMass === true ? target(undefined, shape?.mass ?? [], 'f32') : null;
      const outputs: AttentionOutputs<HostTensor> = {
        output: target(into.output, call.outputShape, blocks.plan.dtypes.output),
        ...(this.request.variant.normalization.rule.kind === 'softmax' ? { logSumExp: target(into.logSumExp, call.rowShape, 'f32') } : {}),
        ...(this.request.observe === undefined ? {} : { observed: Object.fromEntries(stages) }),
        ...(keyMass === null ? {} : { keyMass }),
      };
      const writes = [outputs.output, ...(outputs.logSumExp === undefined ? [] : [outputs.logSumExp]), ...stages.values(), ...(keyMass === null ? [] : [keyMass])];
      for (const [stage, tensor] of stages) fillUnseen(stage, tensor);
      keyMass?.view().fill(0);
      const submission = this.#submit(call, writes, run, (memory, operands) => {
        const inPlace = this.#readsInPlace(call, operands);
        const records = this.#records.records(call, inPlace, memory, (held) => {
          const few = inPlace ? partsOfCall(call, this.#programs.partsPlan) : null;
          return few === null ? blocks.writer.blocks(call, held) : this.#programs.parts.writer.parts(call, held, few);
        });
        const parts = [blocks.writer.phases(records, call, memory, { operands, outputs })];
        if (observing !== null && shape !== null) {
          const { tasks, chains } = observationChains(call, observing.plan, shape, keyMass === null ? 0 : runtime.addressOf(keyMass));
          const addresses = new Map([...stages].map(([stage, tensor]) => [stage, runtime.addressOf(tensor)] as const));
          const looking = observing.writer;
          parts.push(looking.phases(looking.observation(call, memory, tasks, chains), call, memory, { operands, outputs, stages: addresses }));
        }
        return parts;
      });
      return { outputs, submission, owned };
    } catch (error) {
      for (const tensor of owned) runtime.release(tensor);
      throw error;
    }
  }

  #submit(call: BoundCall, writes: readonly HostTensor[], { awaited = false, signal }: Start, write: (memory: CallMemory, operands: Operands) => readonly Prepared[]): Submission {
    if (call.edges !== null) throw new AttentionError('unsupported', 'masking: the cpu backend takes no edge lists.', 'Pass blocks, or use the sparse backend.');
    const runtime = this.#runtime;
    const memory = new CallMemory(runtime);
    try {
      const { query, key, value } = call.inputs;
      const parts = write(memory, { query: memory.place(query), key: memory.place(key), value: memory.place(value) });
      const reads = [query, key, value, ...Object.values(call.tables).map(({ tensor }) => tensor)].filter(({ runtime: owner }) => owner === runtime);
      const job = { phases: parts.flatMap(({ phases }) => phases), microseconds: parts.reduce((sum, { microseconds }) => sum + microseconds, 0) };
      // A stop signal is an AbortSignal as far as the pool looks at it.
      const submission = runtime.submit(signal === undefined ? job : { ...job, signal: signal as AbortSignal }, { participate: true, awaited, reads, writes });
      this.#track(submission);
      return submission;
    } finally {
      memory.release();
    }
  }

  /** Neighbouring channels, and keys as they are to be combined. */
  #readsInPlace({ keysTransformed, request }: BoundCall, { key, value }: Operands): boolean {
    return key.strides[3] === 1 && value.strides[3] === 1 && (keysTransformed || request.variant.scoring.keyTransforms.length === 0);
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
      ...(outputs.observed === undefined ? {} : { observed: Object.fromEntries(await Promise.all(Object.entries(outputs.observed).map(async ([stage, seen]) => [stage, await one(seen, undefined)] as const))) }),
      ...(outputs.keyMass === undefined ? {} : { keyMass: await one(outputs.keyMass, undefined) }),
    };
  }

  #checkOpen(): void {
    if (this.#disposed) throw new AttentionError('disposed', 'This kernel or its backend is disposed.', 'Prepare a new kernel.');
  }
}

interface Start {
  readonly awaited?: boolean;
  readonly signal?: StopSignal;
}

function stopOf({ signal }: RunOptions): Start {
  return signal === undefined ? {} : { signal };
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
