import type { AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, CallShape, EnqueueOptions, Explanation, Gradients, MergeClass, ObservedStage, Partial, RunOptions, Tensor } from '@heed/core';
import { AttentionError, elementCount } from '@heed/core';
import { createBinder, mergeClassOf, observedShapeOf, partialRequestOf, type Binder, type BoundCall, type KeyInputs } from '@heed/core/compute';
import { CallBuffers, Slicer, type Stage, type WebGpuRuntime } from '@heed/runtime-webgpu';
import { assess } from './assess.ts';
import { fillUnseen, sumOverRows } from './observation.ts';
import { releaseQuietly, storePlane, storeWide, toHost } from './outputs.ts';
import { describePlan, observingPlanOf, partialPlanOf, planOf } from './plan.ts';
import { rowsProgram } from './rows.ts';
import { CallStages, programsOf, type Programs } from './stages.ts';

/** A compiled request on the GPU: bind → write integers → dispatch, in slices. */
export class GraphKernel implements AttentionKernel {
  readonly request: AttentionRequest;
  readonly mergeClass: MergeClass | null;
  readonly #runtime: WebGpuRuntime;
  readonly #scratchBytes: number;
  readonly #binder: Binder;
  readonly #slicer: Slicer;
  readonly #main: Programs;
  /** One program for each stage that is looked at; weights too where only their sums are. */
  readonly #observing: ReadonlyMap<ObservedStage, Programs>;
  readonly #pending = new Set<Promise<unknown>>();
  readonly #onDispose: (kernel: GraphKernel) => void;
  #partial: Programs | undefined;
  #disposed = false;

  /** @param scratchBytes of weights that wait at once, unless one node has more edges */
  constructor(runtime: WebGpuRuntime, request: AttentionRequest, scratchBytes: number, onDispose: (kernel: GraphKernel) => void) {
    this.request = request;
    this.mergeClass = mergeClassOf(request.variant).mergeClass;
    this.#runtime = runtime;
    this.#scratchBytes = scratchBytes;
    this.#binder = createBinder(request, { runtime });
    this.#slicer = new Slicer(runtime);
    this.#onDispose = onDispose;
    this.#main = programsOf(request, planOf(request));
    const { stages = [], keyMass = false } = request.observe ?? {};
    const looked = new Set<ObservedStage>([...stages, ...(keyMass ? (['weights'] as const) : [])]);
    this.#observing = new Map([...looked].map((stage) => [stage, programsOf(request, observingPlanOf(request, stage))]));
  }

  /** Compiles every program that calls of this request surely need, without stalling. */
  async compile(): Promise<void> {
    await Promise.all([this.#main, ...this.#observing.values()].flatMap(({ nodes, rows }) => [nodes, ...rows]).map(async (source) => this.#runtime.compile(source)));
  }

  enqueue(inputs: AttentionInputs, options: EnqueueOptions = {}): AttentionOutputs {
    this.#checkOpen();
    const started = this.#start(this.#binder.bind(inputs, options), options);
    try {
      this.#slicer.submit(started.stages);
      started.end();
      return started.outputs;
    } catch (error) {
      started.fail();
      throw error;
    }
  }

  async run(inputs: AttentionInputs, options: RunOptions = {}): Promise<AttentionOutputs> {
    this.#checkOpen();
    const started = this.#start(this.#binder.bind(inputs, options), options);
    return this.#track(this.#finish(started, inputs, options));
  }

  async partial(inputs: AttentionInputs, options: RunOptions = {}): Promise<Partial> {
    this.#checkOpen();
    const { mergeClass, refusal } = mergeClassOf(this.request.variant);
    if (mergeClass === null) throw new AttentionError('merge-refused', `Partial results of this variant do not merge: ${refusal}.`, 'Run it over all edges at once.');
    const request = partialRequestOf(this.request);
    const programs = (this.#partial ??= programsOf(request, partialPlanOf(request)));
    const call = { ...this.#binder.bind(inputs, options), request };
    const runtime = this.#runtime;
    return this.#track(this.#withTensors<Partial>(async (buffers, tensor) => {
      const accumulator = tensor(call.outputShape, 'f32');
      const rows = programs.plan.statistics.map((name) => [name, tensor(call.rowShape, 'f32')] as const);
      const planes = buffers.acquire(Math.max(4, 4 * rows.length * elementCount(call.rowShape)));
      await this.#slicer.run(new CallStages(runtime, buffers, call, this.#scratchBytes).nodes(programs, { output: runtime.bufferOf(accumulator), statistics: planes }), options.signal);
      rows.forEach(([, target], plane) => {
        storePlane(runtime, planes, plane, target);
      });
      await runtime.finished();
      if (inputs.query.runtime !== null) return { keep: true, value: { mergeClass, accumulator, statistics: Object.fromEntries(rows) } };
      const read = async ([name, target]: readonly [string, Tensor]): Promise<readonly [string, Tensor]> => [name, await runtime.read(target)];
      return { keep: false, value: { mergeClass, accumulator: await runtime.read(accumulator), statistics: Object.fromEntries(await Promise.all(rows.map(read))) } };
    }));
  }

  async transformKeys(inputs: KeyInputs): Promise<Tensor> {
    this.#checkOpen();
    const call = this.#binder.bindKeys(inputs);
    const { key } = inputs;
    const [batch = 0, keyHeads = 0, keyRows = 0] = key.shape;
    const runtime = this.#runtime;
    const { plan } = this.#main;
    return this.#track(this.#withTensors(async (buffers, tensor) => {
      const made = tensor([batch, keyHeads, keyRows, call.scoreDim], plan.dtypes.key);
      const wide = plan.dtypes.key === 'f32' ? runtime.bufferOf(made) : buffers.acquire(Math.max(4, 4 * elementCount(made.shape)));
      await this.#slicer.run([new CallStages(runtime, buffers, call, this.#scratchBytes).rows(rowsProgram(this.request, plan, 'key'), 'key', key, wide)], undefined);
      if (plan.dtypes.key !== 'f32') storeWide(runtime, wide, made);
      await runtime.finished();
      return key.runtime === null ? { keep: false, value: await runtime.read(made) } : { keep: true, value: made };
    }));
  }

  async backward(): Promise<Gradients> {
    throw new AttentionError('unsupported', 'The graph backend computes no gradients.', 'Use the reference backend.');
  }

  explain(about: CallShape | AttentionInputs): Explanation {
    this.#checkOpen();
    const shape = 'query' in about ? shapeOf(this.#binder.bind(about)) : about;
    const assessment = assess(this.request, { ...this.#runtime.machine, scratchBytes: this.#scratchBytes }, shape);
    const { plan, nodes, rows } = this.#main;
    return {
      backend: 'graph',
      plan: [...describePlan(plan), ...this.#runtime.describe()],
      ...(assessment.supported && assessment.cost !== undefined ? { cost: assessment.cost } : {}),
      alternatives: [],
      code: Object.fromEntries([nodes, ...rows].map(({ name, code }) => [name, code])),
    };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.allSettled(this.#pending);
    this.#onDispose(this);
  }

  /** Everything that a call needs, made; its inputs are on the device when this returns. */
  #start(call: BoundCall, { into = {} }: EnqueueOptions): Started {
    const runtime = this.#runtime;
    const { plan } = this.#main;
    const buffers = new CallBuffers(runtime);
    const made: Tensor[] = [];
    const tensor = (shape: readonly number[], dtype: Tensor['dtype'], given?: Tensor): Tensor => {
      if (given?.runtime === runtime) return given;
      const one = runtime.tensor(shape, dtype);
      made.push(one);
      return one;
    };
    const fail = (): void => {
      buffers.release();
      releaseQuietly(runtime, made);
    };
    try {
      const calls = new CallStages(runtime, buffers, call, this.#scratchBytes);
      const taken = calls.inputs();
      const output = tensor(call.outputShape, plan.dtypes.output, into.output);
      const logSumExp = plan.statistics.includes('logSumExp') ? tensor(call.rowShape, 'f32', into.logSumExp) : null;
      // Kernels write whole rows of float32, and never to what they read.
      const wideOf = (target: Tensor): GPUBuffer => {
        const direct = target.dtype === 'f32' && runtime.isDense(target) && !taken.includes(runtime.placeOf(target).buffer);
        return direct ? runtime.bufferOf(target) : buffers.acquire(Math.max(4, 4 * elementCount(target.shape)));
      };
      const targets = { output: wideOf(output), statistics: logSumExp === null ? null : wideOf(logSumExp) };
      const stages = [...calls.nodes(this.#main, targets)];
      const observed = this.#observe(call, calls, stages, tensor);
      const end = (): void => {
        for (const [target, wide] of [[output, targets.output], [logSumExp, targets.statistics]] as const) {
          if (target !== null && wide !== null && wide !== runtime.placeOf(target).buffer) storeWide(runtime, wide, target);
        }
        observed.end();
        buffers.release();
      };
      return { stages, end, fail, owned: made, outputs: { output, ...(logSumExp === null ? {} : { logSumExp }), ...observed.outputs } };
    } catch (error) {
      fail();
      throw error;
    }
  }

  /** Adds the stages of the passes that look at rows. */
  #observe(call: BoundCall, calls: CallStages, stages: Stage[], tensor: (shape: readonly number[], dtype: 'f32') => Tensor): { readonly outputs: Pick<AttentionOutputs, 'observed' | 'keyMass'>; readonly end: () => void } {
    const { observe } = this.request;
    const runtime = this.#runtime;
    if (observe === undefined) return { outputs: {}, end: () => undefined };
    const shape = observedShapeOf(call);
    const targets = new Map<ObservedStage, Tensor>();
    for (const [stage, programs] of this.#observing) {
      const target = tensor(shape.stage, 'f32');
      targets.set(stage, target);
      fillUnseen(runtime, stage, target);
      stages.push(...calls.nodes(programs, { output: runtime.bufferOf(target), statistics: null }, shape));
    }
    const observed = Object.fromEntries(observe.stages.flatMap((stage) => {
      const target = targets.get(stage);
      return target === undefined ? [] : [[stage, target] as const];
    }));
    const weights = targets.get('weights');
    if (observe.keyMass !== true || weights === undefined) return { outputs: { observed }, end: () => undefined };
    const keyMass = tensor(shape.mass, 'f32');
    const end = (): void => {
      sumOverRows(runtime, weights, keyMass);
    };
    return { outputs: { observed, keyMass }, end };
  }

  async #finish(started: Started, inputs: AttentionInputs, { into = {}, signal }: RunOptions): Promise<AttentionOutputs> {
    const runtime = this.#runtime;
    try {
      await this.#slicer.run(started.stages, signal);
      started.end();
      if (inputs.query.runtime === null) return await toHost(runtime, started.outputs, into);
      await runtime.finished();
      return started.outputs;
    } catch (error) {
      started.fail();
      throw error;
    } finally {
      if (inputs.query.runtime === null) releaseQuietly(runtime, started.owned);
    }
  }

  /** Work with buffers and tensors of its own: tensors stay when the result says so, and nothing does after an error. */
  async #withTensors<T>(work: (buffers: CallBuffers, tensor: (shape: readonly number[], dtype: Tensor['dtype']) => Tensor) => Promise<{ readonly keep: boolean; readonly value: T }>): Promise<T> {
    const runtime = this.#runtime;
    const buffers = new CallBuffers(runtime);
    const made: Tensor[] = [];
    try {
      const { keep, value } = await work(buffers, (shape, dtype) => {
        const one = runtime.tensor(shape, dtype);
        made.push(one);
        return one;
      });
      if (keep) made.length = 0;
      return value;
    } finally {
      releaseQuietly(runtime, made);
      buffers.release();
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

/** A call whose buffers stand and whose stages wait to be submitted. */
interface Started {
  readonly stages: readonly Stage[];
  readonly outputs: AttentionOutputs;
  /** Outputs that were made for this call. */
  readonly owned: Tensor[];
  /** After the last stage was submitted. */
  readonly end: () => void;
  readonly fail: () => void;
}

function shapeOf({ sequences, heads, keyHeads, queryRows, keyRows, edges }: BoundCall): CallShape {
  return { batch: sequences.length, heads, keyHeads, queryLength: queryRows, keyLength: keyRows, edges: edges?.keys.shape[0] ?? 0 };
}
