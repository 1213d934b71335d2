import type { Assessment, AttentionKernel, AttentionRequest, Backend, CallShape, Capabilities, FastWeightKernel, FastWeightRequest, Request, Runtime } from '@heed/core';
import type { Names } from '@heed/core/compute';
import { AttentionError, contractVersion, isHostTensor } from '@heed/core';
import { checkNames } from '@heed/core/compute';
import { SparseKernel } from './kernel.ts';
import { listingOf, type ListingOptions } from './listing.ts';

export type SparseOptions = ListingOptions;

const optionNames: Names<SparseOptions> = { blockQuery: true, blockKey: true, leastTiles: true };

/**
 * A backend over another that takes block lists, on its runtime: masks of long calls become block lists by their bounds, so that time and memory follow the tiles
 * that are seen; lists whose query rows stand in several tiles are computed tile by tile and merged. What it can do is what the dense backend can do; both give the same results.
 *
 * Disposing of it disposes of the kernels that it made; the dense backend remains its owner's.
 *
 * @throws AttentionError `unsupported` when the backend takes no block lists; `contract-version`; `invalid-argument` for options
 */
export function sparse(dense: Backend, options: SparseOptions = {}): SparseBackend {
  checkNames('the options of sparse', options, optionNames);
  const written: unknown = dense.contract;
  if (written !== contractVersion) throw new AttentionError('contract-version', `Backend '${dense.name}' is written for contract ${String(written)}; this is ${contractVersion}.`, 'Install versions that agree.');
  if (!dense.capabilities.blocks) throw new AttentionError('unsupported', `Backend '${dense.name}' takes no block lists.`, 'Wrap one whose capabilities say blocks.');
  return new SparseBackend(dense, options);
}

export class SparseBackend implements Backend {
  readonly contract: typeof contractVersion = contractVersion;
  readonly name: string;
  readonly runtime: Runtime;
  readonly capabilities: Capabilities;
  readonly #dense: Backend;
  readonly #options: SparseOptions;
  readonly #kernels = new Set<AttentionKernel | FastWeightKernel>();
  #disposed = false;

  /** @internal use {@link sparse} */
  constructor(dense: Backend, options: SparseOptions) {
    this.name = `sparse(${dense.name})`;
    this.runtime = dense.runtime;
    this.capabilities = dense.capabilities;
    this.#dense = dense;
    this.#options = options;
    listingOf(options);
  }

  assess(request: Request, shape?: CallShape): Assessment {
    const assessment = this.#dense.assess(request, shape);
    return assessment.supported ? { ...assessment, plan: `block lists over ${this.#dense.name}: ${assessment.plan}` } : assessment;
  }

  async prepare(request: AttentionRequest): Promise<AttentionKernel>;
  async prepare(request: FastWeightRequest): Promise<FastWeightKernel>;
  async prepare(request: Request): Promise<AttentionKernel | FastWeightKernel> {
    this.#checkOpen();
    const kernel = isAttention(request) ? await this.#attention(request) : await this.#dense.prepare(request);
    // It may have been disposed while the dense backend compiled.
    if (this.#isOver()) {
      await kernel.dispose();
      this.#checkOpen();
    }
    this.#kernels.add(kernel);
    return kernel;
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    const kernels = [...this.#kernels];
    this.#kernels.clear();
    await Promise.all(kernels.map((kernel) => kernel.dispose()));
  }

  #isOver(): boolean {
    return this.#disposed;
  }

  #checkOpen(): void {
    if (this.#disposed) throw new AttentionError('disposed', `${this.name} is disposed.`, 'Make another.');
  }

  async #attention(request: AttentionRequest): Promise<SparseKernel> {
    const kernel = await this.#dense.prepare(request);
    const probe = this.runtime.tensor([1], 'f32');
    const seesPartials = this.capabilities.partial && isHostTensor(probe);
    this.runtime.release(probe);
    return new SparseKernel(kernel, { runtime: this.runtime, name: this.name, listing: listingOf(this.#options), seesPartials }, (gone) => this.#kernels.delete(gone));
  }
}

/** Anything but fast weights is for the dense backend to check as a request for attention. */
function isAttention(request: Request): request is AttentionRequest {
  const given: unknown = request;
  const variant: unknown = typeof given === 'object' && given !== null ? Reflect.get(given, 'variant') : undefined;
  return !(typeof variant === 'object' && variant !== null && Reflect.get(variant, 'kind') === 'fastWeights');
}
