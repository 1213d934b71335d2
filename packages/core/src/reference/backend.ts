import type { Assessment, AttentionKernel, AttentionRequest, Backend, CallShape, Capabilities, FastWeightKernel, FastWeightRequest, Refusal, Request, Runtime } from '../backend.ts';
import { contractVersion } from '../backend.ts';
import { checkRequest } from '../validate/request.ts';
import { AttentionError } from '../errors.ts';
import { transformedWidth } from '../stages/transforms/transform.ts';
import { ReferenceKernel } from './attention/kernel.ts';
import { assessFastWeights, prepareFastWeights } from './fast-weights/kernel.ts';
import { unsupported } from '../unsupported.ts';
import { createHostRuntime } from './runtime.ts';

const capabilities: Capabilities = Object.freeze({
  variants: ['attention', 'fastWeights'],
  dtypes: ['f64', 'f32', 'f16', 'bf16'],
  logSumExp: true,
  partial: true,
  blocks: true,
  edges: true,
  packed: true,
  explicitPositions: true,
  transformKeys: true,
  observe: ['scores', 'modified', 'masked', 'weights'],
  keyMass: true,
  gradients: true,
  storage: ['contiguous', 'paged'],
  abort: true,
  nonFinite: 'exact',
  deterministic: true,
  maxDim: 2 ** 20,
} as const);

/**
 * The float64 reference: the meaning of every variant, and a backend like any other. Slow on purpose; it is there to be right and to be read.
 *
 * @param runtime host runtime to share; default a new one, which `dispose` then closes too
 */
export function createReferenceBackend(runtime?: Runtime): Backend {
  return new ReferenceBackend(runtime ?? createHostRuntime(), runtime === undefined);
}

class ReferenceBackend implements Backend {
  readonly contract = contractVersion;
  readonly name = 'reference';
  readonly capabilities = capabilities;
  readonly runtime: Runtime;
  readonly #ownsRuntime: boolean;
  readonly #kernels = new Set<AttentionKernel | FastWeightKernel>();
  #disposed = false;

  constructor(runtime: Runtime, ownsRuntime: boolean) {
    this.runtime = runtime;
    this.#ownsRuntime = ownsRuntime;
  }

  assess(request: Request, shape?: CallShape): Assessment {
    if (request.variant.kind === 'fastWeights') return assessFastWeights(request as FastWeightRequest);
    return assessAttention(request as AttentionRequest, shape);
  }

  async prepare(request: AttentionRequest): Promise<AttentionKernel>;
  async prepare(request: FastWeightRequest): Promise<FastWeightKernel>;
  async prepare(request: Request): Promise<AttentionKernel | FastWeightKernel> {
    if (this.#disposed) throw new AttentionError('disposed', 'The reference backend is disposed.', 'Create another.');
    const kernel = await this.#prepare(request);
    this.#kernels.add(kernel);
    return kernel;
  }

  async #prepare(request: Request): Promise<AttentionKernel | FastWeightKernel> {
    // What is no request at all is refused by the check of attention requests.
    const given: unknown = request;
    const variant: unknown = typeof given === 'object' && given !== null && 'variant' in given ? given.variant : undefined;
    if (typeof variant === 'object' && variant !== null && 'kind' in variant && variant.kind === 'fastWeights') return prepareFastWeights(request as FastWeightRequest, this.runtime);
    const attentionRequest = request as AttentionRequest;
    checkRequest(attentionRequest);
    const assessment = this.assess(attentionRequest);
    if (!assessment.supported) throw unsupported(assessment.refusals);
    return new ReferenceKernel(attentionRequest, () => this.#disposed, this.runtime);
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await Promise.all([...this.#kernels].map((kernel) => kernel.dispose()));
    this.#kernels.clear();
    if (this.#ownsRuntime) await this.runtime.dispose();
  }
}

function assessAttention(request: AttentionRequest, shape: CallShape | undefined): Assessment {
  const refusals: Refusal[] = [];
  if (request.storage === 'quantised') refusals.push({ stage: 'storage', reason: 'the reference reads no quantised keys', remedy: 'Write them out as floats first.' });
  if (request.storage === 'paged' && (request.gradients ?? []).length > 0) refusals.push({ stage: 'gradients', reason: 'pages have no gradients', remedy: 'Gather the pages to one tensor first.' });
  for (const [name, dtype] of Object.entries(request.dtypes ?? {})) {
    if (!capabilities.dtypes.includes(dtype)) refusals.push({ stage: 'dtype', reason: `${name} is ${dtype}`, remedy: `Use one of ${capabilities.dtypes.join(', ')}.` });
  }
  for (const name of ['queryDim', 'keyDim', 'valueDim'] as const) {
    if (request[name] > capabilities.maxDim) refusals.push({ stage: 'dims', reason: `${name} is ${request[name]}`, remedy: `Use at most ${capabilities.maxDim}.` });
  }
  if (refusals.length > 0) return { supported: false, refusals };
  const plan = 'float64, row by row';
  if (shape === undefined) return { supported: true, plan };
  const scoreDim = request.variant.scoring.queryTransforms.reduce((width, transform) => transformedWidth(transform, width), request.queryDim);
  const pairs = shape.batch * shape.heads * shape.queryLength * shape.keyLength;
  const numbers = shape.batch * (shape.heads * shape.queryLength * (request.queryDim + request.valueDim) + shape.keyHeads * shape.keyLength * (request.keyDim + request.valueDim));
  const flops = 2 * pairs * (scoreDim + request.valueDim);
  return { supported: true, plan, cost: { flops, bytes: 4 * numbers, peakBytes: 16 * numbers, milliseconds: pairs * 1e-3 + flops * 2e-6 } };
}
