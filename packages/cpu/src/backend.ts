import type { Assessment, AttentionKernel, AttentionRequest, Backend, CallShape, Capabilities, FastWeightKernel, FastWeightRequest, Request } from '@heed/core';
import { AttentionError, contractVersion } from '@heed/core';
import { checkNames, unsupported, type Names } from '@heed/core/compute';
import { createWasmRuntime, type WasmRuntime, type WasmRuntimeOptions } from '@heed/runtime-wasm';
import { assess, capabilities } from './assess.ts';
import { CpuKernel } from './kernel.ts';
import { Preparations } from './preparation.ts';
import type { Writers } from './programs.ts';

export interface CpuBackendOptions extends Pick<WasmRuntimeOptions, 'threads' | 'vectors'> {
  /** The runtime to work on, shared with others; `threads` and `vectors` are then its own. Default: a new one, which `dispose` closes too. */
  readonly runtime?: WasmRuntime;
}

const optionNames: Names<CpuBackendOptions> = { threads: true, vectors: true, runtime: true };

/**
 * Dense attention on all cores: WebAssembly SIMD, emitted for the request at hand.
 * @throws AttentionError as `createWasmRuntime`; `invalid-argument` for an option of another name
 */
export async function createCpuBackend(options: CpuBackendOptions = {}): Promise<CpuBackend> {
  checkNames('the options of createCpuBackend', options, optionNames);
  const { runtime, ...own } = options;
  return new CpuBackend(runtime ?? (await createWasmRuntime(own)), runtime === undefined);
}

export class CpuBackend implements Backend {
  readonly contract: typeof contractVersion = contractVersion;
  readonly name = 'cpu';
  readonly capabilities: Capabilities = capabilities;
  readonly runtime: WasmRuntime;
  readonly #ownsRuntime: boolean;
  readonly #kernels = new Set<CpuKernel>();
  readonly #writers: Writers = new WeakMap();
  readonly #preparations: Preparations;
  #disposed = false;

  /** @internal use {@link createCpuBackend} */
  constructor(runtime: WasmRuntime, ownsRuntime: boolean) {
    this.runtime = runtime;
    this.#preparations = new Preparations(runtime);
    this.#ownsRuntime = ownsRuntime;
  }

  assess(request: Request, shape?: CallShape): Assessment {
    return assess(request, this.runtime.machine, shape);
  }

  async prepare(request: AttentionRequest): Promise<AttentionKernel>;
  async prepare(request: FastWeightRequest): Promise<FastWeightKernel>;
  async prepare(request: Request): Promise<AttentionKernel | FastWeightKernel> {
    if (this.#disposed) throw new AttentionError('disposed', 'The cpu backend is disposed.', 'Create another.');
    if (isFastWeights(request)) {
      const assessment = this.assess(request);
      throw unsupported(assessment.supported ? [] : assessment.refusals);
    }
    const kernel = new CpuKernel(this.runtime, request, this.#preparations.of(request), this.#writers, (gone) => this.#kernels.delete(gone));
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
