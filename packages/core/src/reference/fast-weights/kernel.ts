import type {
  Assessment, Explanation, FastWeightInputs, FastWeightKernel, FastWeightOutputs, FastWeightRequest, FastWeightState, Gradients, Runtime, Saved, StopSignal,
} from '../../backend.ts';
import { AttentionError } from '../../errors.ts';
import { bindFastWeights } from '../../fast-weights/bind.ts';
import { checkFastWeightRequest } from '../../fast-weights/request.ts';
import type { HostTensor, Tensor } from '../../tensor.ts';
import { unsupported } from '../../unsupported.ts';
import { checkOptions } from '../../validate/options.ts';
import { denseTensor } from '../../dense-tensor.ts';
import type { Steps } from '../attention/slices.ts';
import { finishInSlices, finishNow } from '../attention/slices.ts';
import { computeChunkRule } from './chunk-rule.ts';
import { computeGradientRule } from './gradient-rule.ts';
import type { Operands } from './operands.ts';
import { initialStates, operandsOf } from './operands.ts';
import { computeRecurrent } from './recurrent.ts';
import { computeRecurrentGradients } from './recurrent-gradients.ts';

/** Whether the reference computes a request: every rule forward, gradients of the recurrent ones. */
export function assessFastWeights(request: FastWeightRequest): Assessment {
  const { rule } = request.variant;
  if (rule.kind !== 'recurrent' && request.gradients !== undefined && request.gradients.length > 0) {
    return {
      supported: false,
      refusals: [{ stage: 'gradients', reason: `the rule '${rule.name}' trains weights in its forward pass, and the reference does not differentiate through that`, remedy: 'Prepare without gradients, or use a recurrent rule.' }],
    };
  }
  return { supported: true, plan: 'float64, token by token' };
}

/**
 * A kernel that computes a fast-weight rule in float64, token by token.
 *
 * @param runtime whose tensors are taken beside those of the host
 * @throws AttentionError those of {@link checkFastWeightRequest}, and `unsupported` with every reason of {@link assessFastWeights}
 */
export async function prepareFastWeights(request: FastWeightRequest, runtime?: Runtime): Promise<FastWeightKernel> {
  checkFastWeightRequest(request);
  const assessment = assessFastWeights(request);
  if (!assessment.supported) throw unsupported(assessment.refusals);
  return new FastWeightReferenceKernel(request, runtime);
}

class FastWeightReferenceKernel implements FastWeightKernel {
  readonly request: FastWeightRequest;
  readonly #runtime: Runtime | undefined;
  readonly #saved = new WeakSet<Saved>();
  readonly #pending = new Set<Promise<unknown>>();
  #disposed = false;

  constructor(request: FastWeightRequest, runtime: Runtime | undefined) {
    this.request = request;
    this.#runtime = runtime;
  }

  enqueue(inputs: FastWeightInputs): FastWeightOutputs<HostTensor> {
    return finishNow(this.#outputs(this.#bind(inputs)));
  }

  async run(inputs: FastWeightInputs, options: { readonly signal?: StopSignal } = {}): Promise<FastWeightOutputs<HostTensor>> {
    checkOptions(options);
    return this.#track(finishInSlices(this.#outputs(this.#bind(inputs)), options.signal));
  }

  async backward(inputs: FastWeightInputs, saved: Saved, outputGradients: { readonly output: Tensor; readonly state?: FastWeightState }): Promise<Gradients<HostTensor>> {
    const operands = this.#bind(inputs);
    const { rule } = this.request.variant;
    if (!this.#saved.has(saved) || rule.kind !== 'recurrent') {
      throw new AttentionError('invalid-argument', 'backward got a `saved` that this kernel did not make.', 'Prepare with { gradients: […] } and hand over the `saved` of its forward call.');
    }
    const { output } = outputGradients;
    if (output.shape.join() !== operands.call.outputShape.join()) {
      throw new AttentionError('invalid-shape', `The gradient of output has shape [${output.shape.join(', ')}].`, `Expected [${operands.call.outputShape.join(', ')}].`);
    }
    return this.#track(finishInSlices(computeRecurrentGradients(operands, rule, outputGradients, this.request.gradients ?? []), undefined));
  }

  explain(): Explanation {
    this.#checkOpen();
    return { backend: 'reference', plan: ['float64, token by token, one value head after another', `structure:\n${this.request.variant.structure}`], alternatives: [], code: {} };
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await Promise.allSettled(this.#pending);
  }

  /** Decoding copies the inputs, so the caller may change them as soon as this returns. */
  #bind(inputs: FastWeightInputs): Operands {
    this.#checkOpen();
    return operandsOf(bindFastWeights(this.request, inputs, this.#runtime));
  }

  *#outputs(operands: Operands): Steps<FastWeightOutputs<HostTensor>> {
    const { call } = operands;
    const { rule } = this.request.variant;
    const states = initialStates(operands);
    const output = rule.kind === 'recurrent' ? yield* computeRecurrent(operands, rule, states) : rule.kind === 'gradient' ? yield* computeGradientRule(operands, rule, states) : yield* computeChunkRule(operands, rule, states);
    const state = Object.fromEntries(Object.entries(call.stateShapes).map(([name, shape]) => [name, denseTensor(states[name] ?? new Float64Array(0), shape, 'f64')]));
    return {
      output: output.toTensor(this.request.dtypes?.output ?? call.inputs.query.dtype),
      state,
      ...(this.request.gradients === undefined ? {} : { saved: this.#newSaved() }),
    };
  }

  /** The backward pass starts again from the inputs, so what is saved is only this kernel's mark. */
  #newSaved(): Saved {
    const saved = Object.freeze({}) as Saved;
    this.#saved.add(saved);
    return saved;
  }

  #checkOpen(): void {
    if (this.#disposed) throw new AttentionError('disposed', 'This kernel is disposed.', 'Prepare a new one.');
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
