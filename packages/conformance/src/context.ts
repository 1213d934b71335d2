import type { AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, Backend, DType, FastWeightInputs, FastWeightKernel, FastWeightOutputs, FastWeightRequest, ObservedStage, Refusal, Request, RunOptions, Runtime, Tensor } from '@heed/core';
import { isAttentionError, isHostTensor, toFloat64 } from '@heed/core';
import type { Bound, Difference } from './compare.ts';
import { commonFactor, compare, firstDifferentBit, noDifference, worse } from './compare.ts';
import { describeDifference, describePlace, type Axes } from './difference-text.ts';
import { RandomSource } from './random.ts';

/** What a case throws when something does not hold. */
export class ConformanceFailure extends Error {
  /** By what all that was got is off, where it is one factor; null otherwise. */
  readonly factor: number | null;

  constructor(message: string, factor: number | null = null) {
    super(message);
    this.name = 'ConformanceFailure';
    this.factor = factor;
  }
}

/** What a case throws when the backend refused its request, and refused it as it must. */
export class Refused extends Error {
  readonly refusals: readonly Refusal[];

  constructor(refusals: readonly Refusal[]) {
    super(refusals.map((refusal) => `${refusal.stage}: ${refusal.reason}`).join('; '));
    this.name = 'Refused';
    this.refusals = refusals;
  }
}

/** Axes of what attention and fast weights give. */
const outputAxes = ['batch', 'head', 'row', 'channel'] as const;

/** Outputs of one call as numbers on the host. */
export interface Numbers {
  readonly output: Float64Array;
  readonly outputDtype: DType;
  readonly logSumExp: Float64Array | null;
  readonly observed: Readonly<Partial<Record<ObservedStage, Float64Array>>>;
  readonly keyMass: Float64Array | null;
}

export interface FastNumbers {
  readonly output: Float64Array;
  readonly state: Readonly<Record<string, Float64Array>>;
}

/** What a case gets: the backend under test, the reference, its own random numbers, and a place to write down what it compared. Everything it makes here is disposed after it. */
export class CaseContext {
  readonly backend: Backend;
  readonly reference: Backend;
  readonly random: RandomSource;
  /** Milliseconds after which something that should have answered has not. */
  readonly patience: number;
  readonly #create: () => Backend | Promise<Backend>;
  readonly #cleanups: (() => Promise<void>)[] = [];
  /** Axes of the arrays that were read, so that a failure can say where it is. */
  readonly #axes = new WeakMap<object, Axes>();
  #worst: Difference = noDifference;
  #compared = 0;

  constructor(options: { readonly backend: Backend; readonly reference: Backend; readonly seed: number; readonly patience: number; readonly create: () => Backend | Promise<Backend> }) {
    this.backend = options.backend;
    this.reference = options.reference;
    this.random = new RandomSource(options.seed);
    this.patience = options.patience;
    this.#create = options.create;
  }

  /** The worst difference so far; null when nothing was compared. */
  get worst(): Difference | null {
    return this.#compared === 0 ? null : this.#worst;
  }

  /** Compiles for the backend under test; where it refuses, checks the refusal and ends the case as a refusal. */
  async kernel(request: AttentionRequest): Promise<AttentionKernel> {
    await this.assessed(this.backend, request);
    const kernel = await this.backend.prepare(request);
    this.after(() => kernel.dispose());
    return kernel;
  }

  async fastKernel(request: FastWeightRequest): Promise<FastWeightKernel> {
    await this.assessed(this.backend, request);
    const kernel = await this.backend.prepare(request);
    this.after(() => kernel.dispose());
    return kernel;
  }

  /** Runs the backend under test. */
  async run(request: AttentionRequest, inputs: AttentionInputs, options?: RunOptions): Promise<Numbers> {
    const kernel = await this.kernel(request);
    return this.numbers(await kernel.run(inputs, options));
  }

  async runFast(request: FastWeightRequest, inputs: FastWeightInputs): Promise<FastNumbers> {
    const kernel = await this.fastKernel(request);
    return this.fastNumbers(await kernel.run(inputs));
  }

  /** What the float64 reference says: the same request with a float64 output. */
  async expected(request: AttentionRequest, inputs: AttentionInputs): Promise<Numbers> {
    const kernel = await this.reference.prepare({ ...request, dtypes: { ...request.dtypes, output: 'f64' } });
    this.after(() => kernel.dispose());
    return this.numbers(await kernel.run(inputs), this.reference.runtime);
  }

  async expectedFast(request: FastWeightRequest, inputs: FastWeightInputs): Promise<FastNumbers> {
    const kernel = await this.reference.prepare({ ...request, dtypes: { ...request.dtypes, output: 'f64' } });
    this.after(() => kernel.dispose());
    return this.fastNumbers(await kernel.run(inputs), this.reference.runtime);
  }

  /** Another backend of the same make, for cases that dispose it. Its runtime is disposed after the case. */
  async own(): Promise<Backend> {
    const backend = await this.#create();
    this.after(async () => {
      await backend.dispose();
      await backend.runtime.dispose();
    });
    return backend;
  }

  /** Elements of any tensor as float64. */
  async values(source: Tensor, runtime: Runtime = this.backend.runtime, names: readonly string[] = []): Promise<Float64Array> {
    const values = toFloat64(isHostTensor(source) ? source : await (source.runtime ?? runtime).read(source));
    this.#axes.set(values, { shape: source.shape, names });
    return values;
  }

  async numbers(outputs: AttentionOutputs, runtime: Runtime = this.backend.runtime): Promise<Numbers> {
    const observed: Partial<Record<ObservedStage, Float64Array>> = {};
    for (const [stage, seen] of Object.entries(outputs.observed ?? {})) observed[stage as ObservedStage] = await this.values(seen, runtime, ['batch', 'head', 'row', 'key']);
    return {
      output: await this.values(outputs.output, runtime, outputAxes),
      outputDtype: outputs.output.dtype,
      logSumExp: outputs.logSumExp === undefined ? null : await this.values(outputs.logSumExp, runtime, ['batch', 'head', 'row']),
      observed,
      keyMass: outputs.keyMass === undefined ? null : await this.values(outputs.keyMass, runtime, ['batch', 'head', 'key']),
    };
  }

  async fastNumbers(outputs: FastWeightOutputs, runtime: Runtime = this.backend.runtime): Promise<FastNumbers> {
    const state: Record<string, Float64Array> = {};
    for (const [name, part] of Object.entries(outputs.state)) state[name] = await this.values(part, runtime);
    return { output: await this.values(outputs.output, runtime, outputAxes), state };
  }

  /** @throws ConformanceFailure with the message, unless the condition holds */
  check(condition: boolean, message: () => string): void {
    if (!condition) throw new ConformanceFailure(message());
  }

  /** @throws ConformanceFailure unless every element is within the bound */
  close(what: string, got: ArrayLike<number> | null | undefined, want: ArrayLike<number> | null | undefined, bound: Bound, dtype: DType = 'f32'): void {
    if (got === null || got === undefined || want === null || want === undefined) throw new ConformanceFailure(`${what}: ${got === null || got === undefined ? 'nothing was returned' : 'nothing was expected'}.`);
    const difference = compare(got, want, bound, dtype);
    this.#compared += want.length;
    this.#worst = worse(this.#worst, difference);
    if (got.length !== want.length) throw new ConformanceFailure(`${what}: got ${got.length} elements, expected ${want.length}.`);
    if (difference.share > 1) throw new ConformanceFailure(`${what} at ${this.#place(got, difference.at)} is ${describeDifference(difference, bound)}.`, commonFactor(got, want, bound));
  }

  /** @throws ConformanceFailure unless every bit is the same */
  sameBits(what: string, got: ArrayLike<number> | null | undefined, want: ArrayLike<number> | null | undefined): void {
    if (got === null || got === undefined || want === null || want === undefined) throw new ConformanceFailure(`${what}: nothing was returned.`);
    const at = firstDifferentBit(got, want);
    this.#compared += want.length;
    if (at >= 0) throw new ConformanceFailure(`${what} at ${this.#place(got, at)} is ${String(got[at])}, expected the same bits as ${String(want[at])}.`);
  }

  /** @throws ConformanceFailure unless all are zero (either sign) */
  zero(what: string, got: ArrayLike<number>): void {
    for (let index = 0; index < got.length; index++) if (got[index] !== 0) throw new ConformanceFailure(`${what} at ${this.#place(got, index)} is ${String(got[index])}, expected 0.`);
    this.#compared += got.length;
  }

  #place(values: ArrayLike<number>, at: number): string {
    return describePlace(at, this.#axes.get(values));
  }

  /** @throws ConformanceFailure unless the call throws or rejects with one of the codes */
  async refuses(what: string, call: () => unknown, ...codes: readonly string[]): Promise<void> {
    let error: unknown;
    try {
      await this.soon(what, Promise.resolve(call()));
    } catch (caught) {
      if (caught instanceof ConformanceFailure) throw caught;
      error = caught;
    }
    if (error === undefined) throw new ConformanceFailure(`${what}: nothing was refused; expected ${codes.join(' or ')}.`);
    if (!isAttentionError(error)) throw new ConformanceFailure(`${what}: got ${error instanceof Error ? String(error) : typeof error}, expected an AttentionError with ${codes.join(' or ')}.`);
    this.check(codes.includes(error.code), () => `${what}: got code ${error.code} (${error.message}), expected ${codes.join(' or ')}.`);
    this.check(error.message.length > 0 && error.hint.length > 0, () => `${what}: ${error.code} has no message or no hint.`);
  }

  /** The promise's result, or a failure when it takes longer than `patience`. */
  async soon<T>(what: string, promise: Promise<T>): Promise<T> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new ConformanceFailure(`${what}: no answer after ${this.patience} ms.`));
      }, this.patience);
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Does this when the case has ended. */
  after(cleanup: () => Promise<void>): void {
    this.#cleanups.push(cleanup);
  }

  /** Ends the case: disposes what it made, last first. */
  async end(): Promise<void> {
    for (const cleanup of this.#cleanups.splice(0).reverse()) await cleanup();
  }

  /** Passes when the backend supports the request; otherwise checks how it refuses (L20) and throws {@link Refused}. */
  async assessed(backend: Backend, request: Request): Promise<void> {
    const assessment = backend.assess(request);
    if (assessment.supported) return;
    await this.properlyRefused(backend, request);
    throw new Refused(assessment.refusals);
  }

  /** @throws ConformanceFailure unless `assess` gives reasons, each with its stage and a remedy, and `prepare` rejects with them */
  async properlyRefused(backend: Backend, request: Request, stage?: Refusal['stage']): Promise<readonly Refusal[]> {
    const assessment = backend.assess(request);
    if (assessment.supported) throw new ConformanceFailure(`assess supports what the capabilities rule out${stage === undefined ? '' : ` (${stage})`}.`);
    const { refusals } = assessment;
    this.check(refusals.length > 0, () => 'assess refuses without a reason.');
    for (const refusal of refusals) this.check(refusal.reason.length > 0 && refusal.remedy.length > 0, () => `The refusal of ${refusal.stage} lacks a reason or a remedy.`);
    if (stage !== undefined) this.check(refusals.some((refusal) => refusal.stage === stage), () => `No refusal names the stage ${stage}; got ${refusals.map((refusal) => refusal.stage).join(', ')}.`);
    await this.refuses('prepare of a refused request', () => (request.variant.kind === 'attention' ? backend.prepare(request as AttentionRequest) : backend.prepare(request as FastWeightRequest)), 'unsupported');
    return refusals;
  }
}
