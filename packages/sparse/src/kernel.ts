import type {
  AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, CallShape, EnqueueOptions, Explanation, Gradients, MergeClass, OutputGradients, Partial, RunOptions, Runtime,
  Saved, Tensor,
} from '@heed/core';
import type { Binder, KeyInputs } from '@heed/core/compute';
import { AttentionError } from '@heed/core';
import { createBinder } from '@heed/core/compute';
import { describeList } from './describe.ts';
import { Lister, type Listing } from './listing.ts';

/** What a kernel is made of beside the dense one. */
export interface SparseKernelParts {
  readonly runtime: Runtime;
  readonly name: string;
  readonly listing: Listing;
}

/** A dense kernel that is handed the tiles to compute. */
export class SparseKernel implements AttentionKernel {
  readonly request: AttentionRequest;
  readonly mergeClass: MergeClass | null;
  readonly #dense: AttentionKernel;
  readonly #parts: SparseKernelParts;
  readonly #binder: Binder;
  readonly #lister: Lister;
  readonly #onDispose: (kernel: SparseKernel) => void;
  #disposed = false;

  constructor(dense: AttentionKernel, parts: SparseKernelParts, onDispose: (kernel: SparseKernel) => void) {
    this.request = dense.request;
    this.mergeClass = dense.mergeClass;
    this.#dense = dense;
    this.#parts = parts;
    this.#binder = createBinder(dense.request, { runtime: parts.runtime });
    this.#lister = new Lister(parts.listing);
    this.#onDispose = onDispose;
  }

  enqueue(inputs: AttentionInputs, options?: EnqueueOptions): AttentionOutputs {
    return this.#dense.enqueue(this.#listed(inputs, options), options);
  }

  async run(inputs: AttentionInputs, options?: RunOptions): Promise<AttentionOutputs> {
    return await this.#dense.run(this.#listed(inputs, options), options);
  }

  async partial(inputs: AttentionInputs, options?: RunOptions): Promise<Partial> {
    return await this.#dense.partial(this.#listed(inputs, options), options);
  }

  async transformKeys(inputs: KeyInputs): Promise<Tensor> {
    return await this.#dense.transformKeys(inputs);
  }

  async backward(inputs: AttentionInputs, saved: Saved, outputGradients: OutputGradients): Promise<Gradients> {
    return await this.#dense.backward(this.#listed(inputs), saved, outputGradients);
  }

  explain(about: CallShape | AttentionInputs): Explanation {
    this.#checkOpen();
    if (!('query' in about)) return this.#named(this.#dense.explain(about), []);
    const call = this.#binder.bind(about);
    const list = call.blocks ?? this.#lister.listOf(call);
    if (list === null) return this.#named(this.#dense.explain(about), ['the plane is small: the dense backend looks at the mask itself']);
    const { sentence, tiles, bytes } = describeList(list, call);
    const own = this.#dense.explain({ ...about, blocks: list });
    const cost = own.cost === undefined ? {} : { cost: { ...own.cost, peakBytes: own.cost.peakBytes + bytes } };
    return this.#named({ ...own, ...(tiles === null ? {} : { tiles }), ...cost }, [sentence]);
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#dense.dispose();
    this.#onDispose(this);
  }

  /** The inputs with the tiles to compute, where they did not say them. */
  #listed(inputs: AttentionInputs, options?: RunOptions): AttentionInputs {
    this.#checkOpen();
    const call = this.#binder.bind(inputs, options);
    const list = this.#lister.listOf(call);
    return list === null ? inputs : { ...inputs, blocks: list };
  }

  #named(own: Explanation, sentences: readonly string[]): Explanation {
    return { ...own, backend: this.#parts.name, plan: [...sentences, ...own.plan] };
  }

  #checkOpen(): void {
    if (this.#disposed) throw new AttentionError('disposed', 'This kernel is disposed.', 'Prepare a new one.');
  }
}
