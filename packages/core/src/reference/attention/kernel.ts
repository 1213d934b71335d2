import type {
  AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, CallShape, EnqueueOptions, Explanation, Gradients, OutputGradients, RunOptions, Runtime, Saved,
} from '../../backend.ts';
import type { Binder } from '../../bind.ts';
import { createBinder } from '../../bind.ts';
import { AttentionError } from '../../errors.ts';
import type { MergeClass, Partial } from '../../partial.ts';
import { mergeClassOf } from '../../partial.ts';
import { hostTables, onHost, Place } from '../../place.ts';
import type { DType, HostTensor, Tensor } from '../../tensor.ts';
import { elementCount, encodeInto, toFloat64 } from '../../tensor.ts';
import { computeGradients } from './gradient.ts';
import { observe } from './observe.ts';
import type { Operands } from './operands.ts';
import { operandsOf, rowsOf } from './operands.ts';
import { denseTensor } from '../../dense-tensor.ts';
import { computeOutputs, computePartial } from './outputs.ts';
import type { Steps } from './slices.ts';
import { finishInSlices, finishNow } from './slices.ts';
import { transformRow } from './transforms.ts';

/** A request computed in float64, as it reads: every pass over every allowed pair, nothing fused, nothing skipped. */
export class ReferenceKernel implements AttentionKernel {
  readonly request: AttentionRequest;
  readonly mergeClass: MergeClass | null;
  readonly #binder: Binder;
  readonly #isClosed: () => boolean;
  readonly #runtime: Runtime | undefined;
  readonly #saved = new WeakSet<Saved>();
  readonly #pending = new Set<Promise<unknown>>();
  #disposed = false;

  /**
   * @param isClosed whether the backend is disposed
   * @param runtime  of host memory, whose tensors are taken beside those of the host; default: anyone's that the host can see, and outputs of the host
   */
  constructor(request: AttentionRequest, isClosed: () => boolean, runtime?: Runtime) {
    this.request = request;
    this.#binder = createBinder(request, runtime === undefined ? {} : { runtime });
    this.#isClosed = isClosed;
    this.#runtime = runtime;
    this.mergeClass = mergeClassOf(request.variant).mergeClass;
  }

  enqueue(inputs: AttentionInputs, options: EnqueueOptions = {}): AttentionOutputs<HostTensor> {
    this.#checkOpen();
    return finishNow(this.#outputs(operandsOf(this.#binder.bind(inputs, options)), options, this.#runtime));
  }

  async run(inputs: AttentionInputs, options: RunOptions = {}): Promise<AttentionOutputs<HostTensor>> {
    this.#checkOpen();
    const operands = operandsOf(this.#binder.bind(inputs, options));
    return this.#track(finishInSlices(this.#outputs(operands, options, this.#ownerOf(inputs.query)), options.signal));
  }

  async partial(inputs: AttentionInputs, options: RunOptions = {}): Promise<Partial<HostTensor>> {
    this.#checkOpen();
    const { mergeClass, refusal } = mergeClassOf(this.request.variant);
    if (mergeClass === null) throw new AttentionError('merge-refused', `Partial results of this variant do not merge: ${refusal}.`, 'Run it over all keys at once.');
    const operands = operandsOf(this.#binder.bind(inputs, options));
    return this.#track(finishInSlices(computePartial(operands, mergeClass), options.signal));
  }

  async transformKeys(inputs: Parameters<AttentionKernel['transformKeys']>[0]): Promise<Tensor> {
    this.#checkOpen();
    const bound = this.#binder.bindKeys(inputs);
    const { keyHeads, keyRows, scoreDim } = bound;
    const place = new Place(bound, hostTables(bound.tables));
    const key = toFloat64(onHost('key', inputs.key));
    const { keyDim } = this.request;
    const shape = [inputs.key.shape[0] ?? 0, keyHeads, keyRows, scoreDim];
    const result = new Float64Array(elementCount(shape));
    for (const sequence of bound.sequences) {
      place.enterSequence(sequence);
      for (let head = 0; head < keyHeads; head++) {
        const source = rowsOf(key, keyHeads, keyRows, keyDim, sequence.tensorBatch, head, sequence.keyStart, sequence.keyRows);
        const target = rowsOf(result, keyHeads, keyRows, scoreDim, sequence.tensorBatch, head, sequence.keyStart, sequence.keyRows);
        for (let index = 0; index < sequence.keyRows; index++) {
          place.enterKey(index);
          Object.assign(place.values, { head, index, position: place.values.keyPosition });
          const row = source.subarray(index * keyDim, (index + 1) * keyDim);
          target.set(transformRow(this.request.variant.scoring.keyTransforms, row, place).result, index * scoreDim);
        }
      }
    }
    return settle(denseTensor(result, shape, inputs.key.dtype), this.#ownerOf(inputs.key));
  }

  async backward(inputs: AttentionInputs, saved: Saved, outputGradients: OutputGradients): Promise<Gradients<HostTensor>> {
    this.#checkOpen();
    const { gradients = [] } = this.request;
    if (!this.#saved.has(saved)) {
      throw new AttentionError('invalid-argument', 'backward got a `saved` that this kernel did not make.', 'Prepare with { gradients: […] } and hand over the `saved` of its forward call.');
    }
    const operands = operandsOf(this.#binder.bind(inputs));
    checkGradient('output', outputGradients.output, operands.call.outputShape);
    if (outputGradients.logSumExp !== undefined) checkGradient('logSumExp', outputGradients.logSumExp, operands.call.rowShape);
    return settleAll(computeGradients(operands, outputGradients, gradients), this.#ownerOf(inputs.query));
  }

  explain(about: CallShape | AttentionInputs): Explanation {
    this.#checkOpen();
    const size = 'query' in about ? `${about.query.shape.join(' × ')} queries, ${about.key.shape.join(' × ')} keys` : JSON.stringify(about);
    return {
      backend: 'reference',
      plan: [`float64, every allowed pair by itself, for ${size}`, 'score, modify, mask, normalize, reweigh, aggregate, finish: one pass each, row by row', `structure:\n${this.request.variant.structure}`],
      alternatives: [],
      code: {},
    };
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await Promise.allSettled(this.#pending);
  }

  /** @param owner of the outputs; undefined: the host */
  *#outputs(operands: Operands, options: EnqueueOptions, owner: Runtime | undefined): Steps<AttentionOutputs<HostTensor>> {
    const { output, logSumExp } = yield* computeOutputs(operands);
    const observed = this.request.observe === undefined ? null : yield* observe(operands);
    const dtype = this.request.dtypes?.output ?? operands.call.inputs.query.dtype;
    const rowType = dtype === 'f64' ? 'f64' : 'f32';
    return {
      output: write(output.data, output.shape, dtype, options.into?.output, owner),
      ...(logSumExp === null ? {} : { logSumExp: write(logSumExp.data, logSumExp.shape, rowType, options.into?.logSumExp, owner) }),
      ...(observed === null ? {} : { observed: settleAll(observed.observed, owner), ...(observed.keyMass === null ? {} : { keyMass: settle(observed.keyMass, owner) }) }),
      ...(this.request.gradients === undefined ? {} : { saved: this.#newSaved() }),
    };
  }

  /** Results live where the rows live that they come from. */
  #ownerOf(rows: Tensor): Runtime | undefined {
    return rows.runtime === null ? undefined : this.#runtime;
  }

  /** The backward pass starts again from the inputs, so what it saves is only its own mark. */
  #newSaved(): Saved {
    const saved = Object.freeze({}) as Saved;
    this.#saved.add(saved);
    return saved;
  }

  #checkOpen(): void {
    if (this.#disposed || this.#isClosed()) throw new AttentionError('disposed', 'This kernel, its backend or its runtime is disposed.', 'Prepare a new kernel.');
  }

  async #track<T>(work: Promise<T>): Promise<T> {
    this.#pending.add(work);
    try {
      return await work;
    } finally {
      this.#pending.delete(work);
    }
  }
}

/** Into a given tensor, through its strides, or a new dense one. */
function write(data: Float64Array, shape: readonly number[], dtype: DType, into: Tensor | undefined, owner: Runtime | undefined): HostTensor {
  if (into === undefined) return settle(denseTensor(data, shape, dtype), owner);
  const target = onHost('into', into);
  encodeInto(data, target);
  return target;
}

/** A result where it is to live. */
function settle(result: HostTensor, owner: Runtime | undefined): HostTensor {
  return owner === undefined ? result : onHost('the result', owner.upload(result));
}

function settleAll(results: Readonly<Record<string, HostTensor>>, owner: Runtime | undefined): Readonly<Record<string, HostTensor>> {
  return Object.fromEntries(Object.entries(results).map(([name, result]) => [name, settle(result, owner)]));
}

function checkGradient(name: string, gradient: Tensor, shape: readonly number[]): void {
  if (gradient.shape.join() !== shape.join()) {
    throw new AttentionError('invalid-shape', `The gradient of ${name} has shape [${gradient.shape.join(', ')}], expected [${shape.join(', ')}].`, 'Give it the shape of the output.');
  }
}
