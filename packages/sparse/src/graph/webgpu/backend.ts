import type { Assessment, AttentionKernel, AttentionRequest, Backend, CallShape, Capabilities, FastWeightKernel, FastWeightRequest, Request } from '@heed/core';
import { AttentionError, contractVersion } from '@heed/core';
import { checkNames, checkRequest, unsupported, type Names } from '@heed/core/compute';
import type { WebGpuRuntime } from '@heed/runtime-webgpu';
import { assess, capabilities } from './assess.ts';
import { GraphKernel } from './kernel.ts';

export interface GraphBackendOptions {
  /** The runtime to work on, which stays its owner's. */
  readonly runtime: WebGpuRuntime;
  /** Most bytes of weights that wait for their values at once, unless one node has more edges. Default 32 MiB. */
  readonly scratchBytes?: number;
}

const optionNames: Names<GraphBackendOptions> = { runtime: true, scratchBytes: true };

/**
 * Attention over the edges of a graph on the GPU: a workgroup for each node and head gathers the keys and values of the nodes that point to it. Every call needs
 * `edges`; its cost follows their number.
 * @throws AttentionError `invalid-argument` for an option of another name, or without a runtime
 */
export function createGraphBackend(options: GraphBackendOptions): GraphBackend {
  checkNames('the options of createGraphBackend', options, optionNames);
  const runtime: unknown = options.runtime;
  if (typeof runtime !== 'object' || runtime === null) throw new AttentionError('invalid-argument', 'createGraphBackend got no runtime.', 'Pass { runtime: await createWebGpuRuntime() }.');
  const { scratchBytes = 32 * 2 ** 20 } = options;
  if (!(scratchBytes >= 0)) throw new AttentionError('invalid-argument', `Got scratchBytes: ${String(scratchBytes)}.`, 'Expected a number of 0 or more.');
  return new GraphBackend(options.runtime, scratchBytes);
}

export class GraphBackend implements Backend {
  readonly contract: typeof contractVersion = contractVersion;
  readonly name = 'graph';
  readonly capabilities: Capabilities = capabilities;
  readonly runtime: WebGpuRuntime;
  readonly #scratchBytes: number;
  readonly #kernels = new Set<GraphKernel>();
  #disposed = false;

  /** @internal use {@link createGraphBackend} */
  constructor(runtime: WebGpuRuntime, scratchBytes: number) {
    this.runtime = runtime;
    this.#scratchBytes = scratchBytes;
  }

  assess(request: Request, shape?: CallShape): Assessment {
    return assess(request, { ...this.runtime.machine, scratchBytes: this.#scratchBytes }, shape);
  }

  async prepare(request: AttentionRequest): Promise<AttentionKernel>;
  async prepare(request: FastWeightRequest): Promise<FastWeightKernel>;
  async prepare(request: Request): Promise<AttentionKernel | FastWeightKernel> {
    if (this.#disposed) throw new AttentionError('disposed', 'The graph backend is disposed.', 'Create another.');
    if (!isFastWeights(request)) checkRequest(request);
    const assessment = this.assess(request);
    if (!assessment.supported || isFastWeights(request)) throw unsupported(assessment.supported ? [] : assessment.refusals);
    const kernel = new GraphKernel(this.runtime, request, this.#scratchBytes, (gone) => this.#kernels.delete(gone));
    await kernel.compile();
    this.#kernels.add(kernel);
    return kernel;
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await Promise.all([...this.#kernels].map(async (kernel) => kernel.dispose()));
  }
}

/** Anything else is checked as a request for attention. */
function isFastWeights(request: unknown): request is FastWeightRequest {
  const variant: unknown = typeof request === 'object' && request !== null ? Reflect.get(request, 'variant') : undefined;
  return typeof variant === 'object' && variant !== null && Reflect.get(variant, 'kind') === 'fastWeights';
}
