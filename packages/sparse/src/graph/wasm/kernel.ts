import type { AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, CallShape, EnqueueOptions, Explanation, Gradients, HostTensor, MergeClass, Partial, RunOptions, Tensor } from '@heed/core';
import type { Binder, BoundCall, KeyInputs } from '@heed/core/compute';
import { AttentionError, isHostTensor, toFloat64 } from '@heed/core';
import { createBinder, mergeClassOf, observedShapeOf, partialRequestOf } from '@heed/core/compute';
import { CallMemory, type Program, type Submission, type WasmRuntime } from '@heed/runtime-wasm';
import { busiestNode } from '../node-runs.ts';
import { copyStrided } from '../copy-strided.ts';
import { assess } from './assess.ts';
import { CallWriter, type Prepared } from './call.ts';
import { emitProgram } from './emit/program.ts';
import { outputTensors } from './outputs.ts';
import { layoutsOf } from './plan/layouts.ts';
import { describePlan, observingPlanOf, partialPlanOf, planOf, type GraphMachine, type Plan } from './plan/plan.ts';

/** What runs over nodes: in one pass, or in two. */
const nodeFunctions = ['graph', 'weighNodes', 'gatherNodes'] as const;

/** A program with what it was made from. */
interface Loaded {
  readonly request: AttentionRequest;
  readonly plan: Plan;
  readonly program: Program;
  readonly writer: CallWriter;
}

/** A compiled request over edges on the WebAssembly runtime: bind → write records → run phases on the pool. */
export class GraphKernel implements AttentionKernel {
  readonly request: AttentionRequest;
  readonly mergeClass: MergeClass | null;
  readonly #runtime: WasmRuntime;
  readonly #machine: GraphMachine;
  readonly #binder: Binder;
  readonly #main: Loaded;
  /** The pass over rows that are looked at. */
  readonly #observing: Loaded | null;
  /** Made when the first partial result is asked for. */
  #partial: Loaded | undefined;
  readonly #pending = new Set<Submission>();
  readonly #onDispose: (kernel: GraphKernel) => void;
  #disposed = false;

  constructor(runtime: WasmRuntime, machine: GraphMachine, request: AttentionRequest, onDispose: (kernel: GraphKernel) => void) {
    this.request = request;
    this.mergeClass = mergeClassOf(request.variant).mergeClass;
    this.#runtime = runtime;
    this.#machine = machine;
    this.#binder = createBinder(request, { runtime });
    this.#onDispose = onDispose;
    this.#main = this.#load(request, planOf(request, machine), nodeFunctions);
    const observing = observingPlanOf(request, machine);
    this.#observing = observing === null ? null : this.#load(request, observing, ['observe']);
  }

  enqueue(inputs: AttentionInputs, options: EnqueueOptions = {}): AttentionOutputs<HostTensor> {
    this.#checkOpen();
    return this.#start(this.#binder.bind(inputs, options), options, false).outputs;
  }

  async run(inputs: AttentionInputs, options: RunOptions = {}): Promise<AttentionOutputs<HostTensor>> {
    this.#checkOpen();
    const { outputs, submission, owned } = this.#start(this.#binder.bind(inputs, options), options, true);
    try {
      await submission.done;
      return inputs.query.runtime === null ? await this.#toHost(outputs, options) : outputs;
    } finally {
      if (inputs.query.runtime === null || submission.error !== undefined) for (const tensor of owned) this.#runtime.release(tensor);
    }
  }

  async partial(inputs: AttentionInputs, options: RunOptions = {}): Promise<Partial<HostTensor>> {
    this.#checkOpen();
    const { mergeClass, refusal } = mergeClassOf(this.request.variant);
    if (mergeClass === null) throw new AttentionError('merge-refused', `Partial results of this variant do not merge: ${refusal}.`, 'Run it over all edges at once.');
    const call = this.#binder.bind(inputs, options);
    const { request, writer } = (this.#partial ??= this.#loadPartial());
    const { kind } = this.request.variant.normalization.rule;
    const row = (): HostTensor => this.#runtime.tensor(call.rowShape, 'f32');
    const output = this.#runtime.tensor(call.outputShape, 'f32');
    const statistics: Record<'logSumExp' | 'count' | 'denominator', HostTensor | undefined> = {
      logSumExp: kind === 'softmax' ? row() : undefined,
      count: kind === 'softmax' ? undefined : row(),
      denominator: kind === 'rowSum' ? row() : undefined,
    };
    const given = Object.entries(statistics).filter((entry): entry is [string, HostTensor] => entry[1] !== undefined);
    const tensors = [output, ...given.map(([, tensor]) => tensor)];
    const { logSumExp, ...rows } = statistics;
    try {
      await this.#submit(call, tensors, options, true, (memory) => [
        writer.nodes({ ...call, request }, memory, { output, ...(logSumExp === undefined ? {} : { logSumExp }) }, { ...(rows.count === undefined ? {} : { count: rows.count }), ...(rows.denominator === undefined ? {} : { denominator: rows.denominator }) }),
      ]).done;
      const finished = async (tensor: HostTensor): Promise<HostTensor> => (inputs.query.runtime === null ? this.#runtime.read(tensor) : tensor);
      const entries = await Promise.all(given.map(async ([name, tensor]) => [name, await finished(tensor)] as const));
      return { mergeClass, accumulator: await finished(output), statistics: Object.fromEntries(entries) };
    } finally {
      if (inputs.query.runtime === null) for (const tensor of tensors) this.#runtime.release(tensor);
    }
  }

  async transformKeys(inputs: KeyInputs): Promise<Tensor> {
    this.#checkOpen();
    const call = this.#binder.bindKeys(inputs);
    const { key } = inputs;
    const [batch = 0, keyHeads = 0, keyRows = 0] = key.shape;
    const runtime = this.#runtime;
    const made = runtime.tensor([batch, keyHeads, keyRows, call.scoreDim], this.#main.plan.dtypes.key);
    const memory = new CallMemory(runtime);
    try {
      const submission = runtime.submit(this.#main.writer.keys(call, memory, memory.place(key), made), { participate: true, awaited: true, reads: key.runtime === runtime ? [key] : [], writes: [made] });
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
    throw new AttentionError('unsupported', 'The graph backend computes no gradients.', 'Use the reference backend.');
  }

  explain(about: CallShape | AttentionInputs): Explanation {
    this.#checkOpen();
    const call = 'query' in about ? this.#binder.bind(about) : null;
    const shape = call === null ? (about as CallShape) : shapeOf(call);
    const starts = call?.edges?.starts;
    const known = starts !== undefined && isHostTensor(starts) ? { busiest: busiestNode(toFloat64(starts)), threads: this.#runtime.threads } : undefined;
    const assessment = assess(this.request, this.#machine, shape, known);
    return {
      backend: 'graph',
      plan: [...describePlan(this.#main.plan), ...this.#runtime.describe()],
      ...(assessment.supported && assessment.cost !== undefined ? { cost: assessment.cost } : {}),
      alternatives: [],
      code: { graph: this.#main.program.text() },
    };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.allSettled([...this.#pending].map(async ({ done }) => done));
    for (const loaded of [this.#main, this.#observing, this.#partial ?? null]) if (loaded !== null) this.#runtime.releaseProgram(loaded.program);
    this.#onDispose(this);
  }

  /** Submits the pass over all nodes and, where stages are looked at, a second one over the chosen rows. */
  #start(call: BoundCall, options: RunOptions, awaited: boolean): { readonly outputs: AttentionOutputs<HostTensor>; readonly submission: Submission; readonly owned: readonly HostTensor[] } {
    const observing = this.#observing;
    const shape = observing === null ? null : observedShapeOf(call);
    const { outputs, owned, all } = outputTensors(this.#runtime, call, options.into ?? {}, this.#main.plan.dtypes.output, shape);
    try {
      const submission = this.#submit(call, all, options, awaited, (memory) => [
        this.#main.writer.nodes(call, memory, outputs),
        ...(observing === null || shape === null ? [] : [observing.writer.observation(call, memory, outputs, shape)]),
      ]);
      return { outputs, submission, owned };
    } catch (error) {
      for (const tensor of owned) this.#runtime.release(tensor);
      throw error;
    }
  }

  #submit(call: BoundCall, writes: readonly HostTensor[], { signal }: RunOptions, awaited: boolean, write: (memory: CallMemory) => readonly Prepared[]): Submission {
    if (call.blocks !== null) throw new AttentionError('unsupported', 'masking: the graph backend takes no block lists.', 'Pass edges, or use a backend over blocks.');
    const runtime = this.#runtime;
    const memory = new CallMemory(runtime);
    try {
      const parts = write(memory);
      const { query, key, value } = call.inputs;
      const lists = call.edges === null ? [] : [call.edges.starts, call.edges.keys];
      const reads = [query, key, value, ...lists, ...Object.values(call.tables).map(({ tensor }) => tensor)].filter(({ runtime: owner }) => owner === runtime);
      const job = { phases: parts.flatMap(({ phases }) => phases), microseconds: parts.reduce((sum, { microseconds }) => sum + microseconds, 0) };
      // A stop signal is an AbortSignal as far as the pool looks at it.
      const submission = runtime.submit(signal === undefined ? job : { ...job, signal: signal as AbortSignal }, { participate: true, awaited, reads, writes });
      this.#track(submission);
      return submission;
    } finally {
      memory.release();
    }
  }

  #loadPartial(): Loaded {
    const request = partialRequestOf(this.request);
    return this.#load(request, partialPlanOf(request, this.#machine), nodeFunctions);
  }

  #load(request: AttentionRequest, plan: Plan, functions: readonly string[]): Loaded {
    const layouts = layoutsOf(request, plan);
    const key = JSON.stringify(['graph', request.variant.structure, request.queryDim, request.keyDim, request.valueDim, plan]);
    const program = this.#runtime.program(key, ['prepare', 'transformKeys', ...functions], () => emitProgram(request, plan, layouts));
    return { request, plan, program, writer: new CallWriter(plan, layouts, program.functions) };
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
    const one = async (made: HostTensor, given?: Tensor): Promise<HostTensor> => {
      if (given?.runtime === this.#runtime) return made;
      const copy = await this.#runtime.read(made);
      if (given === undefined || !isHostTensor(given)) return copy;
      copyStrided(copy, given);
      return given;
    };
    return {
      output: await one(outputs.output, into.output),
      ...(outputs.logSumExp === undefined ? {} : { logSumExp: await one(outputs.logSumExp, into.logSumExp) }),
      ...(outputs.observed === undefined ? {} : { observed: Object.fromEntries(await Promise.all(Object.entries(outputs.observed).map(async ([stage, seen]) => [stage, await one(seen)] as const))) }),
      ...(outputs.keyMass === undefined ? {} : { keyMass: await one(outputs.keyMass) }),
    };
  }

  #checkOpen(): void {
    if (this.#disposed) throw new AttentionError('disposed', 'This kernel or its backend is disposed.', 'Prepare a new kernel.');
  }
}

function shapeOf(call: BoundCall): CallShape {
  return { batch: call.sequences.length, heads: call.heads, keyHeads: call.keyHeads, queryLength: call.queryRows, keyLength: call.keyRows, edges: call.edges?.keys.shape[0] ?? 0 };
}
