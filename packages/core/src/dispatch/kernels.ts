import type {
  AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, CallShape, EnqueueOptions, Explanation, FastWeightInputs, FastWeightKernel, FastWeightOutputs,
  FastWeightRequest, Gradients, OutputGradients, Request, RunOptions, Saved,
} from '../backend.ts';
import { AttentionError } from '../errors.ts';
import type { MergeClass, Partial } from '../partial.ts';
import type { Tensor } from '../tensor.ts';
import type { Candidate, Need, Verdict } from './choice.ts';
import { cheapest, judge, needsOf, recurrentShapeOf, shapeOf, whyNot } from './choice.ts';

/** What both kinds of kernel have. */
interface AnyKernel {
  readonly dispose: () => Promise<void>;
}

/** Picks among what the backends made of one request. */
class Choice<K extends AnyKernel> {
  readonly #request: Request;
  readonly #candidates: readonly Candidate<K>[];
  /** Which kernel made what `backward` is handed. */
  readonly #makers = new WeakMap<Saved, K>();
  #disposed = false;

  constructor(request: Request, candidates: readonly Candidate<K>[]) {
    this.#request = request;
    this.#candidates = candidates;
  }

  /** @throws AttentionError `unsupported` when no candidate takes the call, naming every reason of each; `disposed` */
  pick(shape: CallShape | null, needs: readonly Need[]): { readonly picked: Verdict<K>; readonly kernel: K; readonly others: readonly Verdict<K>[] } {
    if (this.#disposed) throw new AttentionError('disposed', 'This kernel is disposed.', 'Prepare a new one.');
    const verdicts = judge(this.#candidates, this.#request, shape, needs);
    const picked = cheapest(verdicts);
    const kernel = picked?.kernel ?? null;
    if (picked === null || kernel === null) {
      throw new AttentionError('unsupported', `No backend takes this call: ${verdicts.map(({ backend, refusal }) => `${backend.name}: ${refusal ?? 'not prepared'}`).join('; ')}.`, 'Add a backend that does, or change the call.');
    }
    return { picked, kernel, others: verdicts.filter((verdict) => verdict !== picked) };
  }

  /** Any kernel: for what is a property of the variant. */
  first(): K | null {
    return this.#candidates.find(({ kernel }) => kernel !== null)?.kernel ?? null;
  }

  remember<O extends { readonly saved?: Saved }>(kernel: K, outputs: O): O {
    if (outputs.saved !== undefined) this.#makers.set(outputs.saved, kernel);
    return outputs;
  }

  makerOf(saved: Saved): K {
    if (this.#disposed) throw new AttentionError('disposed', 'This kernel is disposed.', 'Prepare a new one.');
    const maker = this.#makers.get(saved);
    if (maker === undefined) throw new AttentionError('invalid-argument', 'backward got a `saved` that this kernel did not make.', 'Pass what its own forward call returned.');
    return maker;
  }

  explain({ picked, others }: { readonly picked: Verdict<K>; readonly others: readonly Verdict<K>[] }, own: Explanation): Explanation {
    const alternatives = others.map((other) => ({ name: other.backend.name, reason: whyNot(other, picked) }));
    return { ...own, plan: [`dispatch picks ${picked.backend.name}`, ...own.plan], alternatives: [...alternatives, ...own.alternatives] };
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await Promise.all(this.#candidates.map(({ kernel }) => (kernel === null ? Promise.resolve() : kernel.dispose())));
  }
}

/** A kernel of attention that hands each call to the cheapest of several. */
export class DispatchedAttention implements AttentionKernel {
  readonly request: AttentionRequest;
  readonly mergeClass: MergeClass | null;
  readonly #choice: Choice<AttentionKernel>;

  constructor(request: AttentionRequest, candidates: readonly Candidate<AttentionKernel>[]) {
    this.request = request;
    this.#choice = new Choice(request, candidates);
    this.mergeClass = this.#choice.first()?.mergeClass ?? null;
  }

  enqueue(inputs: AttentionInputs, options?: EnqueueOptions): AttentionOutputs {
    const { kernel } = this.#choice.pick(shapeOf(inputs), needsOf(inputs));
    return this.#choice.remember(kernel, kernel.enqueue(inputs, options));
  }

  async run(inputs: AttentionInputs, options?: RunOptions): Promise<AttentionOutputs> {
    const { kernel } = this.#choice.pick(shapeOf(inputs), needsOf(inputs));
    return this.#choice.remember(kernel, await kernel.run(inputs, options));
  }

  async partial(inputs: AttentionInputs, options?: RunOptions): Promise<Partial> {
    const { kernel } = this.#choice.pick(shapeOf(inputs), [...needsOf(inputs), 'partial']);
    return await kernel.partial(inputs, options);
  }

  async transformKeys(inputs: Parameters<AttentionKernel['transformKeys']>[0]): Promise<Tensor> {
    const { kernel } = this.#choice.pick(null, [...needsOf(inputs), 'transformKeys']);
    return await kernel.transformKeys(inputs);
  }

  async backward(inputs: AttentionInputs, saved: Saved, outputGradients: OutputGradients): Promise<Gradients> {
    return await this.#choice.makerOf(saved).backward(inputs, saved, outputGradients);
  }

  explain(about: CallShape | AttentionInputs): Explanation {
    const choice = 'query' in about ? this.#choice.pick(shapeOf(about), needsOf(about)) : this.#choice.pick(about, []);
    return this.#choice.explain(choice, choice.kernel.explain(about));
  }

  async dispose(): Promise<void> {
    await this.#choice.dispose();
  }
}

/** A kernel of fast weights that hands each call to the cheapest of several. */
export class DispatchedFastWeights implements FastWeightKernel {
  readonly request: FastWeightRequest;
  readonly #choice: Choice<FastWeightKernel>;

  constructor(request: FastWeightRequest, candidates: readonly Candidate<FastWeightKernel>[]) {
    this.request = request;
    this.#choice = new Choice(request, candidates);
  }

  enqueue(inputs: FastWeightInputs): FastWeightOutputs {
    const { kernel } = this.#choice.pick(recurrentShapeOf(inputs), needsOfRecurrence(inputs));
    return this.#choice.remember(kernel, kernel.enqueue(inputs));
  }

  async run(inputs: FastWeightInputs, options?: Parameters<FastWeightKernel['run']>[1]): Promise<FastWeightOutputs> {
    const { kernel } = this.#choice.pick(recurrentShapeOf(inputs), needsOfRecurrence(inputs));
    return this.#choice.remember(kernel, await kernel.run(inputs, options));
  }

  async backward(inputs: FastWeightInputs, saved: Saved, outputGradients: Parameters<FastWeightKernel['backward']>[2]): Promise<Gradients> {
    return await this.#choice.makerOf(saved).backward(inputs, saved, outputGradients);
  }

  explain(): Explanation {
    const choice = this.#choice.pick(null, []);
    return this.#choice.explain(choice, choice.kernel.explain());
  }

  async dispose(): Promise<void> {
    await this.#choice.dispose();
  }
}

function needsOfRecurrence(inputs: FastWeightInputs): readonly Need[] {
  return inputs.packed === undefined ? [] : ['packed'];
}
