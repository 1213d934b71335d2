import type { Assessment, AttentionKernel, AttentionRequest, Backend, CallShape, Capabilities, FastWeightKernel, FastWeightRequest, Request } from '@heed/core';
import { AttentionError, contractVersion } from '@heed/core';
import { checkFastWeightRequest, checkRequest, unsupported } from '@heed/core/compute';
import { createWebGpuRuntime, type WebGpuRuntime, type WebGpuRuntimeOptions } from '@heed/runtime-webgpu';
import { assessLinear, isFastWeights, readRequest } from '../assess.ts';
import type { Limits } from '../limits.ts';
import { recognise } from '../recognise.ts';
import { planOfTraining } from '../test-time-training/plan-of.ts';
import { trainingComputation } from '../test-time-training/webgpu/computation.ts';
import type { Computation } from '../gpu/computation.ts';
import { GpuFastWeightKernel } from './kernel.ts';
import { GpuPairKernel } from './pair-kernel.ts';
import { recurrentComputation } from './recurrent-computation.ts';

export interface LinearBackendOptions extends WebGpuRuntimeOptions {
  /** The runtime to work on, shared with others; the other options are then its own. Default: a new one, which `dispose` closes too. */
  readonly runtime?: WebGpuRuntime;
}

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
  gradients: false,
  storage: ['contiguous'],
  abort: true,
  // WGSL lets a device assume that no value is NaN or ∞.
  nonFinite: 'unspecified',
  deterministic: true,
  maxDim: 1024,
} as const);

const limits: Limits = { maxDim: capabilities.maxDim, gradients: false };

/** Operations of one millisecond, for choosing among backends of one runtime. */
const rate = 1e9;

/**
 * Linear attention and fast weights on the GPU: WGSL written for the request at hand.
 * @throws AttentionError as `createWebGpuRuntime`
 */
export async function createLinearBackend(options: LinearBackendOptions = {}): Promise<LinearBackend> {
  const { runtime, ...own } = options;
  return new LinearBackend(runtime ?? (await createWebGpuRuntime(own)), runtime === undefined);
}

export class LinearBackend implements Backend {
  readonly contract: typeof contractVersion = contractVersion;
  readonly name = 'linear';
  readonly capabilities: Capabilities = capabilities;
  readonly runtime: WebGpuRuntime;
  readonly #ownsRuntime: boolean;
  readonly #kernels = new Set<AttentionKernel | FastWeightKernel>();
  #disposed = false;

  /** @internal use {@link createLinearBackend} */
  constructor(runtime: WebGpuRuntime, ownsRuntime: boolean) {
    this.runtime = runtime;
    this.#ownsRuntime = ownsRuntime;
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
      const { reading } = recognise(request);
      const { plan, refusals } = readRequest(request, limits);
      if (plan === null || reading === null) throw unsupported(refusals);
      return this.#keep(new GpuPairKernel(this.runtime, request, reading, plan, (gone) => this.#kernels.delete(gone)));
    }
    checkFastWeightRequest(request);
    const assessment = this.assess(request);
    if (!assessment.supported) throw unsupported(assessment.refusals);
    return this.#keep(new GpuFastWeightKernel(this.runtime, request, this.#computation(request), (gone) => this.#kernels.delete(gone)));
  }

  async #keep<Kernel extends GpuPairKernel | GpuFastWeightKernel>(kernel: Kernel): Promise<Kernel> {
    await kernel.compile();
    this.#kernels.add(kernel);
    return kernel;
  }

  #computation(request: FastWeightRequest): Computation {
    const training = planOfTraining(request);
    if (training !== null) return trainingComputation(this.runtime, request, training);
    const { plan, refusals } = readRequest(request, limits);
    if (plan === null) throw unsupported(refusals);
    return recurrentComputation(this.runtime, request, plan);
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
