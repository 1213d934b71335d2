import type { Assessment, AttentionInputs, AttentionKernel, AttentionOutputs, AttentionRequest, AttentionVariant, Backend, CallShape, Capabilities, FastWeightInputs, FastWeightKernel, FastWeightOutputs, FastWeightRequest, HostTensor, Request, Tensor } from '@heed/core';
import { attention, encodeInto, isHostTensor, Masking, Normalization, Scoring, toFloat64 } from '@heed/core';

/** What is wrong with a backend: changes of a right one. */
export interface Changes {
  readonly capabilities?: Partial<Capabilities>;
  readonly assess?: (request: Request, right: Assessment, shape?: CallShape) => Assessment;
  /** Computes another request than was asked for. */
  readonly request?: (request: AttentionRequest) => AttentionRequest;
  /** Computes with other inputs than were given. Only called with tensors for query, key and value. */
  readonly inputs?: (inputs: AttentionInputs, request: AttentionRequest) => AttentionInputs;
  /** Returns other outputs, or writes to them in place. */
  readonly outputs?: (outputs: AttentionOutputs, inputs: AttentionInputs, request: AttentionRequest) => AttentionOutputs;
  /** Replaces methods of a kernel; the backend is the right one. */
  readonly kernel?: (kernel: AttentionKernel, request: AttentionRequest, backend: Backend) => Partial<AttentionKernel>;
  readonly fastRequest?: (request: FastWeightRequest) => FastWeightRequest;
  readonly fastInputs?: (inputs: FastWeightInputs, request: FastWeightRequest) => FastWeightInputs;
  readonly fastKernel?: (kernel: FastWeightKernel, request: FastWeightRequest) => Partial<FastWeightKernel>;
}

/** A backend that is right but for the changes. */
export function alter(base: Backend, changes: Changes): Backend {
  const prepareAttention = async (request: AttentionRequest): Promise<AttentionKernel> => {
    const changed = changes.request?.(request) ?? request;
    const inner = await base.prepare(changed);
    const kernel = { ...wrapKernel(inner, request, changes) };
    return { ...kernel, ...changes.kernel?.(kernel, request, base) };
  };
  const prepareFast = async (request: FastWeightRequest): Promise<FastWeightKernel> => {
    const inner = await base.prepare(changes.fastRequest?.(request) ?? request);
    const kernel = wrapFastKernel(inner, request, changes);
    return { ...kernel, ...changes.fastKernel?.(kernel, request) };
  };
  return {
    contract: base.contract,
    name: base.name,
    runtime: base.runtime,
    capabilities: { ...base.capabilities, ...changes.capabilities },
    assess: (request, shape) => {
      const right = base.assess(request, shape);
      return changes.assess?.(request, right, shape) ?? right;
    },
    prepare: ((request: Request) => (isFast(request) ? prepareFast(request) : prepareAttention(request))) as Backend['prepare'],
    dispose: () => base.dispose(),
  };
}

/** A request that is not what it should be goes the way of attention, where it is refused. */
function isFast(request: Request): request is FastWeightRequest {
  const variant: unknown = request.variant;
  return typeof variant === 'object' && variant !== null && 'kind' in variant && variant.kind === 'fastWeights';
}

function wrapKernel(inner: AttentionKernel, request: AttentionRequest, changes: Changes): AttentionKernel {
  const inputsOf = <T extends object>(inputs: T): T => (changes.inputs !== undefined && hasRows(inputs) ? (changes.inputs(inputs, request) as unknown as T) : inputs);
  const outputsOf = (outputs: AttentionOutputs, inputs: AttentionInputs): AttentionOutputs => changes.outputs?.(outputs, inputs, request) ?? outputs;
  return {
    request,
    mergeClass: inner.mergeClass,
    enqueue: (inputs, options) => outputsOf(inner.enqueue(inputsOf(inputs), options), inputs),
    run: (inputs, options) => inner.run(inputsOf(inputs), options).then((outputs) => outputsOf(outputs, inputs)),
    partial: (inputs, options) => inner.partial(inputsOf(inputs), options),
    transformKeys: (inputs) => inner.transformKeys(inputs),
    backward: (inputs, saved, gradients) => inner.backward(inputsOf(inputs), saved, gradients),
    explain: (about) => inner.explain(about),
    dispose: () => inner.dispose(),
  };
}

function wrapFastKernel(inner: FastWeightKernel, request: FastWeightRequest, changes: Changes): FastWeightKernel {
  const inputsOf = (inputs: FastWeightInputs): FastWeightInputs => (changes.fastInputs !== undefined && hasRows(inputs) ? changes.fastInputs(inputs, request) : inputs);
  return {
    request,
    enqueue: (inputs) => inner.enqueue(inputsOf(inputs)),
    run: (inputs, options): Promise<FastWeightOutputs> => inner.run(inputsOf(inputs), options),
    backward: (inputs, saved, gradients) => inner.backward(inputsOf(inputs), saved, gradients),
    explain: () => inner.explain(),
    dispose: () => inner.dispose(),
  };
}

/** True when query, key and value are tensors of rank 4, so that a change may read their shapes. */
function hasRows(inputs: object): inputs is AttentionInputs & FastWeightInputs {
  return ['query', 'key', 'value'].every((name) => {
    const given: unknown = Reflect.get(inputs, name);
    return typeof given === 'object' && given !== null && 'shape' in given && Array.isArray(given.shape) && given.shape.length === 4 && 'view' in given;
  });
}

/** A request for a variant with other stages. */
export function withStages(request: AttentionRequest, stages: Partial<Pick<AttentionVariant, 'scoring' | 'masking' | 'normalization' | 'aggregation'>>): AttentionRequest {
  const { scoring, masking, normalization, aggregation } = request.variant;
  return { ...request, variant: attention({ scoring, masking, normalization, aggregation, ...stages }) };
}

/** Copies of stages with other fields. */
export function changedScoring(scoring: AttentionVariant['scoring'], fields: Partial<ConstructorParameters<typeof Scoring>[0]>): Scoring {
  const { name, queryTransforms, keyTransforms, combine, scale, modifiers, uniforms, tables } = scoring;
  return new Scoring({ name, queryTransforms, keyTransforms, combine, scale, modifiers, uniforms, tables, ...fields });
}

export function changedMasking(masking: AttentionVariant['masking'], fields: Partial<ConstructorParameters<typeof Masking>[0]>): Masking {
  const { name, allowed, uniforms, tables } = masking;
  return new Masking({ name, allowed, uniforms, tables, ...fields });
}

export function changedNormalization(normalization: AttentionVariant['normalization'], fields: Partial<ConstructorParameters<typeof Normalization>[0]>): Normalization {
  const { name, rule, reweigh, uniforms, tables } = normalization;
  return new Normalization({ name, rule, reweigh, uniforms, tables, ...fields });
}

/** The tensor on the host; the mutants stand on the reference, whose tensors all are. */
export function onHost(source: Tensor | undefined): HostTensor {
  if (source === undefined || !isHostTensor(source)) throw new Error('Mutants stand on a backend whose tensors the host can see.');
  return source;
}

/** Writes other numbers over a tensor, in place. */
export function overwrite(target: Tensor | undefined, change: (value: number, index: number) => number): void {
  if (target === undefined) return;
  const host = onHost(target);
  encodeInto(toFloat64(host).map(change), host);
}

/** The same inputs without some of them. */
export function without(inputs: AttentionInputs, ...names: readonly (keyof AttentionInputs)[]): AttentionInputs {
  return Object.fromEntries(Object.entries(inputs).filter(([name]) => !names.includes(name as keyof AttentionInputs))) as unknown as AttentionInputs;
}
