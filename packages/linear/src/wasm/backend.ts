import type { Assessment, AttentionKernel, AttentionRequest, Backend, CallShape, Capabilities, FastWeightKernel, FastWeightRequest, Request } from '@heed/core';
import { AttentionError, contractVersion } from '@heed/core';
import { checkFastWeightRequest, checkNames, checkRequest, unsupported, type Names } from '@heed/core/compute';
import { createWasmRuntime, type WasmRuntime, type WasmRuntimeOptions } from '@heed/runtime-wasm';
import { assessLinear, isFastWeights, readRequest } from '../assess.ts';
import type { Limits } from '../limits.ts';
import { recognise } from '../recognise.ts';
import { planOfTraining } from '../test-time-training/plan-of.ts';
import { TrainingKernel } from '../test-time-training/wasm/kernel.ts';
import { LinearKernel } from './kernel.ts';
import { load, type Loaded } from './calls/loaded.ts';
import { wasmPlan } from './plan/machine-plan.ts';
import { PairKernel } from './pair-kernel.ts';

export interface LinearWasmOptions extends Pick<WasmRuntimeOptions, 'threads' | 'vectors'> {
  /** The runtime to work on, shared with others; `threads` and `vectors` are then its own. Default: a new one, which `dispose` closes too. */
  readonly runtime?: WasmRuntime;
  /** Tokens of a chunk, for comparisons: the result does not depend on it beyond rounding (L12). 1 computes token by token. Default: the plan's own. */
  readonly chunk?: number;
}

const optionNames: Names<LinearWasmOptions> = { threads: true, vectors: true, runtime: true, chunk: true };

/** What this backend can do; `assess` refuses the rest. */
export const capabilities: Capabilities = Object.freeze({
  variants: ['attention', 'fastWeights'],
  dtypes: ['f32', 'f16', 'bf16'],
  logSumExp: false,
  partial: false,
  blocks: false,
  edges: false,
  packed: true,
  explicitPositions: false,
  transformKeys: false,
  observe: [],
  keyMass: false,
  gradients: true,
  storage: ['contiguous'],
  abort: true,
  nonFinite: 'exact',
  deterministic: true,
  maxDim: 4096,
} as const);

const limits: Limits = { maxDim: capabilities.maxDim, gradients: capabilities.gradients };
/** Operations of one millisecond on one thread, for estimates. */
const rate = 2.5e7;

/**
 * Linear attention and recurrent fast-weight rules on all cores: WebAssembly SIMD, emitted for the request at hand.
 * @throws AttentionError as `createWasmRuntime`; `invalid-argument` for an option of another name or a chunk that is no count
 */
export async function createLinearBackend(options: LinearWasmOptions = {}): Promise<LinearWasmBackend> {
  checkNames('the options of createLinearBackend', options, optionNames);
  const { runtime, chunk = null, ...own } = options;
  if (chunk !== null && (!Number.isSafeInteger(chunk) || chunk < 1 || chunk > 4096)) throw new AttentionError('invalid-argument', `createLinearBackend got a chunk of ${String(chunk)} tokens.`, 'Expected an integer from 1 to 4096.');
  return new LinearWasmBackend(runtime ?? (await createWasmRuntime(own)), runtime === undefined, chunk);
}

export class LinearWasmBackend implements Backend {
  readonly contract: typeof contractVersion = contractVersion;
  readonly name = 'linear';
  readonly capabilities: Capabilities = capabilities;
  readonly runtime: WasmRuntime;
  readonly #ownsRuntime: boolean;
  readonly #chunk: number | null;
  readonly #kernels = new Set<FastWeightKernel | AttentionKernel>();
  #disposed = false;

  /** @internal use {@link createLinearBackend} */
  constructor(runtime: WasmRuntime, ownsRuntime: boolean, chunk: number | null) {
    this.runtime = runtime;
    this.#ownsRuntime = ownsRuntime;
    this.#chunk = chunk;
  }

  assess(request: Request, shape?: CallShape): Assessment {
    return assessLinear(request, limits, rate, shape);
  }

  async prepare(request: AttentionRequest): Promise<AttentionKernel>;
  async prepare(request: FastWeightRequest): Promise<FastWeightKernel>;
  async prepare(request: Request): Promise<AttentionKernel | FastWeightKernel> {
    if (this.#disposed) throw new AttentionError('disposed', 'The linear backend is disposed.', 'Create another.');
    if (!isFastWeightRequest(request)) {
      checkRequest(request);
      const loaded = this.#load(request);
      const { reading } = recognise(request);
      if (reading === null) throw new RangeError('what has a plan was recognised');
      return this.#keep(new PairKernel(this.runtime, request, reading, loaded, (gone) => this.#kernels.delete(gone)));
    }
    checkFastWeightRequest(request);
    const training = planOfTraining(request);
    if (training !== null) {
      const assessment = this.assess(request);
      if (!assessment.supported) throw unsupported(assessment.refusals);
      return this.#keep(new TrainingKernel(this.runtime, request, training, (gone) => this.#kernels.delete(gone)));
    }
    return this.#keep(new LinearKernel(this.runtime, request, this.#load(request), (gone) => this.#kernels.delete(gone)));
  }

  #load(request: Request): Loaded {
    const { plan, refusals } = readRequest(request, limits);
    if (plan === null) throw unsupported(refusals);
    return load(this.runtime, wasmPlan(plan, this.runtime.machine, this.#chunk), request.variant);
  }

  #keep<Kernel extends FastWeightKernel | AttentionKernel>(kernel: Kernel): Kernel {
    this.#kernels.add(kernel);
    return kernel;
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await Promise.all([...this.#kernels].map(async (kernel) => kernel.dispose()));
    if (this.#ownsRuntime) await this.runtime.dispose();
  }
}

/** Anything else is checked as a request for attention. */
function isFastWeightRequest(request: unknown): request is FastWeightRequest {
  const variant: unknown = typeof request === 'object' && request !== null ? Reflect.get(request, 'variant') : undefined;
  return typeof variant === 'object' && variant !== null && isFastWeights({ variant } as Request);
}
