import type {
  AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, BlockList, CallShape, EnqueueOptions, Explanation, Gradients, MergeClass, OutputGradients, Partial, RunOptions, Runtime,
  Saved, Tensor,
} from '@heed/core';
import type { Binder, BoundCall, KeyInputs } from '@heed/core/compute';
import { AttentionError, encodeInto, isContiguous, isHostTensor, toFloat64 } from '@heed/core';
import { createBinder } from '@heed/core/compute';
import { describeList } from './describe.ts';
import { Lister, type Listing } from './listing.ts';
import { mergeInto, mergesPlainly } from './merge-rounds.ts';
import { roundsOf } from './rounds.ts';

/** What a kernel is made of beside the dense one. */
export interface SparseKernelParts {
  readonly runtime: Runtime;
  readonly name: string;
  readonly listing: Listing;
  /** The dense backend's partial results are host tensors, or lie in memory that the host sees. */
  readonly seesPartials: boolean;
}

/** A dense kernel that is handed the tiles to compute. */
export class SparseKernel implements AttentionKernel {
  readonly request: AttentionRequest;
  readonly mergeClass: MergeClass | null;
  readonly #dense: AttentionKernel;
  readonly #parts: SparseKernelParts;
  readonly #binder: Binder;
  readonly #lister: Lister;
  readonly #mergesRounds: boolean;
  readonly #onDispose: (kernel: SparseKernel) => void;
  #disposed = false;

  constructor(dense: AttentionKernel, parts: SparseKernelParts, onDispose: (kernel: SparseKernel) => void) {
    this.request = dense.request;
    this.mergeClass = dense.mergeClass;
    this.#dense = dense;
    this.#parts = parts;
    this.#binder = createBinder(dense.request, { runtime: parts.runtime });
    this.#lister = new Lister(parts.listing);
    this.#mergesRounds = parts.seesPartials && mergesPlainly(dense.request);
    this.#onDispose = onDispose;
  }

  enqueue(inputs: AttentionInputs, options?: EnqueueOptions): AttentionOutputs {
    return this.#dense.enqueue(this.#listed(inputs, options), options);
  }

  async run(inputs: AttentionInputs, options?: RunOptions): Promise<AttentionOutputs> {
    this.#checkOpen();
    const call = this.#binder.bind(inputs, options);
    const rounds = this.#mergesRounds && call.blocks !== null ? roundsOf(call.blocks, call) : null;
    if (rounds !== null) return await this.#runRounds(inputs, rounds, options);
    return await this.#dense.run(this.#withList(inputs, call), options);
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

  /** One partial result after another, merged into the first (L13). */
  async #runRounds(inputs: AttentionInputs, rounds: readonly BlockList[], { into = {}, signal }: RunOptions = {}): Promise<AttentionOutputs> {
    const { runtime } = this.#parts;
    const made: Partial[] = [];
    try {
      for (const blocks of rounds) {
        made.push(await this.#dense.partial({ ...inputs, blocks }, signal === undefined ? {} : { signal }));
        const [first, second] = made;
        if (first === undefined || second === undefined) continue;
        mergeInto(first, second);
        made.pop();
        releasePartial(runtime, second);
      }
      const [merged] = made.splice(0);
      const logs = merged?.statistics.logSumExp;
      if (merged === undefined || logs === undefined) throw new RangeError('softmax has partial results with logSumExp');
      const output = deliver(runtime, merged.accumulator, into.output);
      return { output, logSumExp: deliver(runtime, logs, into.logSumExp) };
    } finally {
      for (const partial of made) releasePartial(runtime, partial);
    }
  }

  #listed(inputs: AttentionInputs, options?: RunOptions): AttentionInputs {
    this.#checkOpen();
    return this.#withList(inputs, this.#binder.bind(inputs, options));
  }

  /** The inputs with the tiles to compute, where they did not say them. */
  #withList(inputs: AttentionInputs, call: BoundCall): AttentionInputs {
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

function releasePartial(runtime: Runtime, { accumulator, statistics }: Partial): void {
  for (const part of [accumulator, ...Object.values(statistics)]) if (part.runtime === runtime) runtime.release(part);
}

/** What was made, or what was given with the elements of what was made. */
function deliver(runtime: Runtime, made: Tensor, given: Tensor | undefined): Tensor {
  if (given === undefined) return made;
  if (!isHostTensor(made) || !isHostTensor(given)) throw new AttentionError('foreign-tensor', '`into` lies where the host cannot see it.', 'Pass a tensor of the host or of this runtime.');
  if (isContiguous(made) && isContiguous(given)) given.view().set(made.view().subarray(0, made.shape.reduce((product, size) => product * size, 1)));
  else encodeInto(toFloat64(made), given);
  if (made.runtime === runtime) runtime.release(made);
  return given;
}
