import type { AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, CallShape, EnqueueOptions, Explanation, Gradients, HostTensor, MergeClass, ObservedStage, Partial, RunOptions, Tensor } from '@heed/core';
import { AttentionError, elementCount, isHostTensor } from '@heed/core';
import type { Binder, BoundCall, KeyInputs } from '@heed/core/compute';
import { classifyTiles, countTiles, createBinder, mergeClassOf, observedShapeOf, partialRequestOf } from '@heed/core/compute';
import { CallBuffers, operationCall, Slicer, type ElementShader, type Stage, type WebGpuRuntime, type Machine } from '@heed/runtime-webgpu';
import { assess, describePlan } from './assess.ts';
import { CallStages, programsOf, type Programs } from './stages.ts';
import { fillUnseen, sumOverRows } from './observation.ts';
import { observingPlanOf, partialPlanOf, planOf } from './plan.ts';
import { blockKeyOf, blockQueryOf, tileTable } from './tiles.ts';
import { transformProgram } from './kernels/transform.ts';

/** A compiled request on the GPU: bind → classify tiles → write records → dispatch, in slices. */
export class WebGpuKernel implements AttentionKernel {
  readonly request: AttentionRequest;
  readonly mergeClass: MergeClass | null;
  readonly #runtime: WebGpuRuntime;
  readonly #machine: Machine;
  readonly #binder: Binder;
  readonly #slicer: Slicer;
  readonly #main: Programs;
  /** One program for each stage that is looked at; weights too where only their sums are. */
  readonly #observing: ReadonlyMap<ObservedStage, Programs>;
  #partial: Programs | undefined;
  readonly #pending = new Set<Promise<unknown>>();
  readonly #onDispose: (kernel: WebGpuKernel) => void;
  #disposed = false;

  /** @param machine what plans count on: the device's, or less */
  constructor(runtime: WebGpuRuntime, request: AttentionRequest, machine: Machine, onDispose: (kernel: WebGpuKernel) => void) {
    this.#machine = machine;
    this.request = request;
    this.mergeClass = mergeClassOf(request.variant).mergeClass;
    this.#runtime = runtime;
    this.#binder = createBinder(request, { runtime });
    this.#slicer = new Slicer(runtime);
    this.#onDispose = onDispose;
    this.#main = programsOf(request, planOf(request, machine));
    const { stages = [], keyMass = false } = request.observe ?? {};
    const looked = new Set<ObservedStage>([...stages, ...(keyMass ? (['weights'] as const) : [])]);
    this.#observing = new Map([...looked].map((stage) => [stage, programsOf(request, observingPlanOf(request, machine, stage))]));
  }

  /** Compiles every program that calls of this request surely need, without stalling. */
  async compile(): Promise<void> {
    const programs = [this.#main, ...this.#observing.values()];
    await Promise.all(programs.flatMap(({ attention, rows }) => [attention, ...rows]).map(async (source) => this.#runtime.compile(source)));
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
    if (mergeClass === null) throw new AttentionError('merge-refused', `Partial results of this variant do not merge: ${refusal}.`, 'Run it over all keys at once.');
    const request = partialRequestOf(this.request);
    const programs = (this.#partial ??= programsOf(request, partialPlanOf(request, this.#machine)));
    const call = { ...this.#binder.bind(inputs), request };
    const runtime = this.#runtime;
    const buffers = new CallBuffers(runtime);
    const made: Tensor[] = [];
    const tensor = (shape: readonly number[]): Tensor => {
      const one = runtime.tensor(shape, 'f32');
      made.push(one);
      return one;
    };
    const work = async (): Promise<Partial> => {
      try {
        const accumulator = tensor(call.outputShape);
        const rows = programs.plan.statistics.map((name) => [name, tensor(call.rowShape)] as const);
        const planes = buffers.acquire(4 * rows.length * rowCountOf(call));
        const stages = new CallStages(runtime, buffers, call).attention(programs, { output: runtime.bufferOf(accumulator), statistics: planes });
        await this.#slicer.run(stages, options.signal);
        operationCall(runtime, (operation) => {
          rows.forEach(([, target], plane) => {
            operation.run(copyPlane, rowCountOf(call), [plane * rowCountOf(call)], [planes], runtime.bufferOf(target));
          });
        });
        await runtime.finished();
        if (inputs.query.runtime !== null) return { mergeClass, accumulator, statistics: Object.fromEntries(rows) };
        const [sum, ...statistics] = await runtime.readAll(made);
        for (const one of made.splice(0)) runtime.release(one);
        if (sum === undefined) throw new AttentionError('internal', 'A partial result has no accumulator.', 'Please report it.');
        return { mergeClass, accumulator: sum, statistics: Object.fromEntries(rows.map(([name], index) => [name, statistics[index]])) };
      } catch (error) {
        releaseQuietly(runtime, made);
        throw error;
      } finally {
        buffers.release();
      }
    };
    return this.#track(work());
  }

  enqueueKeys(inputs: KeyInputs): Tensor {
    this.#checkOpen();
    const call = this.#binder.bindKeys(inputs);
    const runtime = this.#runtime;
    const [batch = 0, keyHeads = 0, keyRows = 0] = inputs.key.shape;
    const shape = [batch, keyHeads, keyRows, call.scoreDim];
    const buffers = new CallBuffers(runtime);
    const { dtypes } = this.#main.plan;
    const made = runtime.tensor(shape, dtypes.key);
    try {
      const wide = dtypes.key === 'f32' ? runtime.bufferOf(made) : buffers.acquire(4 * batch * keyHeads * keyRows * call.scoreDim);
      this.#slicer.submit([new CallStages(runtime, buffers, call).rows(transformProgram(this.request, this.#main.plan, 'key'), 'key', inputs.key, wide)]);
      if (dtypes.key !== 'f32') this.#store(wide, shape, made);
      return made;
    } catch (error) {
      releaseQuietly(runtime, [made]);
      throw error;
    } finally {
      buffers.release();
    }
  }

  async transformKeys(inputs: KeyInputs): Promise<Tensor> {
    this.#checkOpen();
    const call = this.#binder.bindKeys(inputs);
    const runtime = this.#runtime;
    const { key } = inputs;
    const [batch = 0, keyHeads = 0, keyRows = 0] = key.shape;
    const shape = [batch, keyHeads, keyRows, call.scoreDim];
    const buffers = new CallBuffers(runtime);
    const { dtypes } = this.#main.plan;
    const made = runtime.tensor(shape, dtypes.key);
    const work = async (): Promise<Tensor> => {
      try {
        const wide = dtypes.key === 'f32' ? runtime.bufferOf(made) : buffers.acquire(4 * batch * keyHeads * keyRows * call.scoreDim);
        const stage = new CallStages(runtime, buffers, call).rows(transformProgram(this.request, this.#main.plan, 'key'), 'key', key, wide);
        await this.#slicer.run([stage], undefined);
        if (dtypes.key !== 'f32') this.#store(wide, shape, made);
        await runtime.finished();
        if (key.runtime !== null) return made;
        const copy = await runtime.read(made);
        runtime.release(made);
        return copy;
      } catch (error) {
        releaseQuietly(runtime, [made]);
        throw error;
      } finally {
        buffers.release();
      }
    };
    return this.#track(work());
  }

  async backward(): Promise<Gradients> {
    throw new AttentionError('unsupported', 'The webgpu backend computes no gradients.', 'Use the reference backend.');
  }

  explain(about: CallShape | AttentionInputs): Explanation {
    this.#checkOpen();
    const call = 'query' in about ? this.#binder.bind(about) : null;
    const shape = call === null ? (about as CallShape) : { batch: call.outputShape[0] ?? 0, heads: call.heads, keyHeads: call.keyHeads, queryLength: call.queryRows, keyLength: call.keyRows };
    const assessment = assess(this.request, this.#machine, shape);
    const { plan, attention, rows } = this.#main;
    return {
      backend: 'webgpu',
      plan: [...describePlan(plan), ...this.#runtime.describe(), ...tileTable(this.#machine)],
      ...(call === null ? {} : { tiles: countTiles(classifyTiles(call, { blockQuery: blockQueryOf(plan.tile), blockKey: blockKeyOf(plan.tile) })) }),
      ...(assessment.supported && assessment.cost !== undefined ? { cost: assessment.cost } : {}),
      alternatives: [],
      code: Object.fromEntries([attention, ...rows].map(({ name, code }) => [name, code])),
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
    if (call.edges !== null) throw new AttentionError('unsupported', 'The webgpu backend takes no edge lists.', 'Use a graph kernel, or blocks.');
    const runtime = this.#runtime;
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
      const { plan } = this.#main;
      const output = tensor(call.outputShape, plan.dtypes.output, into.output);
      const logSumExp = plan.statistics.includes('logSumExp') ? tensor(call.rowShape, 'f32', into.logSumExp) : null;
      const calls = new CallStages(runtime, buffers, call);
      const taken = calls.inputs();
      // Kernels write whole rows of float32, and never to what they read.
      const direct = plan.dtypes.output === 'f32' && runtime.isDense(output) && !taken.includes(runtime.placeOf(output).buffer);
      const wide = direct ? runtime.bufferOf(output) : buffers.acquire(4 * call.outputShape.reduce((product, size) => product * size, 1));
      const rows = logSumExp === null || taken.includes(runtime.bufferOf(logSumExp)) ? buffers.acquire(4 * rowCountOf(call)) : runtime.bufferOf(logSumExp);
      const stages = [...calls.attention(this.#main, { output: wide, statistics: rows })];
      const observed = this.#observe(call, calls, stages, tensor);
      const end = (): void => {
        if (!direct) this.#store(wide, call.outputShape, output);
        if (logSumExp !== null && rows !== runtime.bufferOf(logSumExp)) runtime.copyBytes(rows, runtime.bufferOf(logSumExp), 0, 4 * rowCountOf(call));
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
      stages.push(...calls.observed(programs, runtime.bufferOf(target), shape));
    }
    const seen = Object.fromEntries(observe.stages.flatMap((stage) => {
      const target = targets.get(stage);
      return target === undefined ? [] : [[stage, target] as const];
    }));
    const weights = targets.get('weights');
    if (observe.keyMass !== true || weights === undefined) return { outputs: { observed: seen }, end: () => undefined };
    const keyMass = tensor(shape.mass, 'f32');
    const end = (): void => {
      sumOverRows(runtime, weights, keyMass);
      if (!observe.stages.includes('weights')) runtime.release(weights);
    };
    return { outputs: { observed: seen, keyMass }, end };
  }

  async #finish(started: Started, inputs: AttentionInputs, { into = {}, signal }: RunOptions): Promise<AttentionOutputs> {
    const runtime = this.#runtime;
    try {
      await this.#slicer.run(started.stages, signal);
      started.end();
      if (inputs.query.runtime !== null) {
        await runtime.finished();
        return started.outputs;
      }
      return await this.#toHost(started.outputs, into);
    } catch (error) {
      started.fail();
      throw error;
    } finally {
      if (inputs.query.runtime === null) releaseQuietly(runtime, started.owned);
    }
  }

  /** Copies for a host query, by one readback; into the host's own tensors where they were given. */
  async #toHost(outputs: AttentionOutputs, into: NonNullable<EnqueueOptions['into']>): Promise<AttentionOutputs> {
    const runtime = this.#runtime;
    const { output, logSumExp, observed, keyMass } = outputs;
    const stages = Object.entries(observed ?? {});
    const wanted: readonly (Tensor | undefined)[] = [output, logSumExp, keyMass, ...stages.map(([, seen]) => seen)];
    const present = wanted.filter((one) => one !== undefined);
    const copies = new Map((await runtime.readAll(present)).map((copy, index) => [present[index], copy]));
    const one = (made: Tensor, given?: Tensor): Tensor => {
      const copy = copies.get(made);
      if (given === made || copy === undefined) return made;
      if (given === undefined || !isHostTensor(given)) return copy;
      copyStrided(copy, given);
      return given;
    };
    return {
      output: one(output, into.output),
      ...(logSumExp === undefined ? {} : { logSumExp: one(logSumExp, into.logSumExp) }),
      ...(observed === undefined ? {} : { observed: Object.fromEntries(stages.map(([stage, seen]) => [stage, one(seen)])) }),
      ...(keyMass === undefined ? {} : { keyMass: one(keyMass) }),
    };
  }

  /** Float32 numbers to a tensor of its own type. */
  #store(wide: GPUBuffer, shape: readonly number[], target: Tensor): void {
    const runtime = this.#runtime;
    if (target.dtype === 'f32' && runtime.isDense(target)) {
      runtime.copyBytes(wide, runtime.bufferOf(target), 0, 4 * elementCount(shape));
      return;
    }
    operationCall(runtime, (call) => {
      call.write(wide, 'f32', target);
    });
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

const copyPlane: ElementShader = {
  name: 'copy a plane of statistics',
  reads: { planes: 'f32' },
  result: 'f32',
  fields: [['start', 'u32']],
  body: (writer) => writer.line('result[place] = planes[parameters.start + place];'),
};

function rowCountOf({ rowShape }: BoundCall): number {
  return rowShape.reduce((product, size) => product * size, 1);
}

/** What is live of these; after an error of the device or of the runtime nothing is. */
function releaseQuietly(runtime: WebGpuRuntime, tensors: Tensor[]): void {
  for (const tensor of tensors.splice(0)) {
    try {
      runtime.release(tensor);
    } catch (error) {
      if (!(error instanceof AttentionError)) throw error;
    }
  }
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
