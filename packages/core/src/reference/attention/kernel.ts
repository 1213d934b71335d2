import type {
  AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, CallShape, EnqueueOptions, Explanation, Gradients, OutputGradients, RunOptions, Saved,
} from '../../backend.ts';
import type { Binder } from '../../bind.ts';
import { createBinder } from '../../bind.ts';
import { AttentionError } from '../../errors.ts';
import type { MergeClass, Partial } from '../../partial.ts';
import { mergeClassOf } from '../../partial.ts';
import { onHost, Place } from '../../place.ts';
import type { DType, HostTensor, Tensor } from '../../tensor.ts';
import { encode } from '../../tensor.ts';
import { computeGradients } from './gradient.ts';
import { observe } from './observe.ts';
import type { Operands } from './operands.ts';
import { operandsOf, rowsOf } from './operands.ts';
import { computeOutputs, computePartial, denseTensor } from './outputs.ts';
import type { Steps } from './slices.ts';
import { finishInSlices, finishNow } from './slices.ts';
import { transformRow } from './transforms.ts';

/** A request computed in float64, as it reads: every pass over every allowed pair, nothing fused, nothing skipped. */
export class ReferenceKernel implements AttentionKernel {
  readonly request: AttentionRequest;
  readonly mergeClass: MergeClass | null;
  readonly #binder: Binder;
  readonly #isClosed: () => boolean;
  readonly #saved = new WeakSet<Saved>();
  readonly #pending = new Set<Promise<unknown>>();
  #disposed = false;

  /** @param isClosed whether the backend or the runtime is disposed */
  constructor(request: AttentionRequest, isClosed: () => boolean) {
    this.request = request;
    this.#binder = createBinder(request);
    this.#isClosed = isClosed;
    const merging = mergeClassOf(request.variant);
    this.mergeClass = 'mergeClass' in merging ? merging.mergeClass : null;
  }

  enqueue(inputs: AttentionInputs, options: EnqueueOptions = {}): AttentionOutputs<HostTensor> {
    this.#checkOpen();
    return finishNow(this.#outputs(operandsOf(this.#binder.bind(inputs, options)), options));
  }

  async run(inputs: AttentionInputs, options: RunOptions = {}): Promise<AttentionOutputs<HostTensor>> {
    this.#checkOpen();
    const operands = operandsOf(this.#binder.bind(inputs, options));
    return this.#track(finishInSlices(this.#outputs(operands, options), options.signal));
  }

  async partial(inputs: AttentionInputs, options: RunOptions = {}): Promise<Partial<HostTensor>> {
    this.#checkOpen();
    const merging = mergeClassOf(this.request.variant);
    if ('refusal' in merging) throw new AttentionError('merge-refused', `Partial results of this variant do not merge: ${merging.refusal}.`, 'Run it over all keys at once.');
    const operands = operandsOf(this.#binder.bind(inputs, options));
    return this.#track(finishInSlices(computePartial(operands, merging.mergeClass), options.signal));
  }

  async transformKeys(inputs: Parameters<AttentionKernel['transformKeys']>[0]): Promise<Tensor> {
    this.#checkOpen();
    const { queryDim, valueDim, dtypes } = this.request;
    const [batch = 0, keyHeads = 0, rows = 0] = inputs.key.shape;
    // A call without query rows binds the keys exactly as a whole call would.
    const nothing = (dim: number, length: number, dtype: DType): HostTensor => denseTensor(new Float64Array(batch * keyHeads * length * dim), [batch, keyHeads, length, dim], dtype);
    const packed = inputs.packed === undefined ? {} : { packed: { ...inputs.packed, query: Array.from(inputs.packed.query, () => 0) } };
    const operands = operandsOf(this.#binder.bind({
      ...inputs,
      ...packed,
      query: nothing(queryDim, 0, dtypes?.query ?? 'f32'),
      value: nothing(valueDim, rows, dtypes?.value ?? 'f32'),
      queryOffset: 0,
    }));
    const { call } = operands;
    const place = new Place(call, operands.tables);
    const result = new Float64Array(batch * keyHeads * rows * call.scoreDim);
    for (const sequence of call.sequences) {
      place.enterSequence(sequence);
      for (let head = 0; head < keyHeads; head++) {
        const source = rowsOf(operands.key, keyHeads, rows, operands.keyDim, sequence.tensorBatch, head, sequence.keyStart, sequence.keyRows);
        const target = rowsOf(result, keyHeads, rows, call.scoreDim, sequence.tensorBatch, head, sequence.keyStart, sequence.keyRows);
        for (let index = 0; index < sequence.keyRows; index++) {
          place.enterKey(index);
          Object.assign(place.values, { head, index, position: place.values.keyPosition });
          const row = source.subarray(index * operands.keyDim, (index + 1) * operands.keyDim);
          target.set(transformRow(this.request.variant.scoring.keyTransforms, row, place).result, index * call.scoreDim);
        }
      }
    }
    return denseTensor(result, [batch, keyHeads, rows, call.scoreDim], dtypes?.key ?? inputs.key.dtype);
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
    return computeGradients(operands, outputGradients, gradients);
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

  *#outputs(operands: Operands, options: EnqueueOptions): Steps<AttentionOutputs<HostTensor>> {
    const { output, logSumExp } = yield* computeOutputs(operands);
    const observed = this.request.observe === undefined ? null : yield* observe(operands);
    const dtype = this.request.dtypes?.output ?? operands.call.inputs.query.dtype;
    const rowType = dtype === 'f64' ? 'f64' : 'f32';
    return {
      output: write(output.data, output.shape, dtype, options.into?.output),
      ...(logSumExp === null ? {} : { logSumExp: write(logSumExp.data, logSumExp.shape, rowType, options.into?.logSumExp) }),
      ...(observed === null ? {} : { observed: observed.observed, ...(observed.keyMass === null ? {} : { keyMass: observed.keyMass }) }),
      ...(this.request.gradients === undefined ? {} : { saved: this.#newSaved() }),
    };
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

/** Into a given tensor, element by element through its strides, or a new dense one. */
function write(data: Float64Array, shape: readonly number[], dtype: DType, into: Tensor | undefined): HostTensor {
  if (into === undefined) return denseTensor(data, shape, dtype);
  const target = onHost('into', into);
  const encoded = encode(data, target.dtype);
  const view = target.view();
  encoded.forEach((value, flat) => {
    let rest = flat;
    let at = 0;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const size = shape[axis] ?? 1;
      at += (rest % size) * (target.strides[axis] ?? 0);
      rest = Math.floor(rest / size);
    }
    view[at] = value;
  });
  return target;
}

function checkGradient(name: string, gradient: Tensor, shape: readonly number[]): void {
  if (gradient.shape.join() !== shape.join()) {
    throw new AttentionError('invalid-shape', `The gradient of ${name} has shape [${gradient.shape.join(', ')}], expected [${shape.join(', ')}].`, 'Give it the shape of the output.');
  }
}
