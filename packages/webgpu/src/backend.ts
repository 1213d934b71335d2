import type { Assessment, AttentionKernel, AttentionRequest, Backend, CallShape, Capabilities, FastWeightKernel, FastWeightRequest, Request } from '@heed/core';
import { AttentionError, contractVersion } from '@heed/core';
import { checkRequest } from '@heed/core/compute';
import { createWebGpuRuntime, type Machine, type WebGpuRuntime, type WebGpuRuntimeOptions } from '@heed/runtime-webgpu';
import { assess, capabilities } from './assess.ts';
import { WebGpuKernel } from './kernel.ts';
import { triedSubgroups } from './subgroups.ts';

export interface WebGpuBackendOptions extends WebGpuRuntimeOptions {
  /** The runtime to work on, shared with others; the other options are then its own. Default: a new one, which `dispose` closes too. */
  readonly runtime?: WebGpuRuntime;
  /** Plans as if the device had no more than this, for testing what smaller devices run. Default: all that it has. */
  readonly within?: Partial<Machine>;
}

/**
 * Dense attention on the GPU: WGSL written for the request at hand.
 * @throws AttentionError as `createWebGpuRuntime`
 */
export async function createWebGpuBackend(options: WebGpuBackendOptions = {}): Promise<WebGpuBackend> {
  const { runtime: shared, within = {}, ...own } = options;
  const runtime = shared ?? (await createWebGpuRuntime(own));
  return new WebGpuBackend(runtime, { ...runtime.machine, subgroups: await triedSubgroups(runtime), ...within }, shared === undefined);
}

export class WebGpuBackend implements Backend {
  readonly contract: typeof contractVersion = contractVersion;
  readonly name = 'webgpu';
  readonly capabilities: Capabilities = capabilities;
  readonly runtime: WebGpuRuntime;
  readonly #ownsRuntime: boolean;
  readonly #machine: Machine;
  readonly #kernels = new Set<WebGpuKernel>();
  #disposed = false;

  /** @internal use {@link createWebGpuBackend} */
  constructor(runtime: WebGpuRuntime, machine: Machine, ownsRuntime: boolean) {
    this.#machine = machine;
    this.runtime = runtime;
    this.#ownsRuntime = ownsRuntime;
  }

  assess(request: Request, shape?: CallShape): Assessment {
    return assess(request, this.#machine, shape);
  }

  async prepare(request: AttentionRequest): Promise<AttentionKernel>;
  async prepare(request: FastWeightRequest): Promise<FastWeightKernel>;
  async prepare(request: Request): Promise<AttentionKernel | FastWeightKernel> {
    if (this.#disposed) throw new AttentionError('disposed', 'The webgpu backend is disposed.', 'Create another.');
    if (!isFastWeights(request)) checkRequest(request);
    const assessment = this.assess(request);
    if (!assessment.supported || isFastWeights(request)) {
      const refusals = assessment.supported ? [] : assessment.refusals;
      throw new AttentionError('unsupported', `${refusals.map(({ stage, reason }) => `${stage}: ${reason}`).join('; ')}.`, refusals.map(({ remedy }) => remedy).join(' '));
    }
    const kernel = new WebGpuKernel(this.runtime, request, this.#machine, (gone) => this.#kernels.delete(gone));
    await kernel.compile();
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
function isFastWeights(request: unknown): request is FastWeightRequest {
  const variant: unknown = typeof request === 'object' && request !== null ? Reflect.get(request, 'variant') : undefined;
  return typeof variant === 'object' && variant !== null && Reflect.get(variant, 'kind') === 'fastWeights';
}
