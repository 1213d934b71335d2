import type { Assessment, AttentionKernel, AttentionRequest, Backend, CallShape, Capabilities, FastWeightKernel, FastWeightRequest, Request, Runtime } from './backend.ts';
import { contractVersion } from './backend.ts';
import type { Candidate } from './dispatch/choice.ts';
import { cheapest, joinCapabilities, judge, reasonsOf, whyNot } from './dispatch/choice.ts';
import { DispatchedAttention, DispatchedFastWeights } from './dispatch/kernels.ts';
import { AttentionError } from './errors.ts';
import { checkRequest } from './validate/request.ts';
import { show } from './show.ts';

/**
 * A backend that chooses among backends of one runtime: every request is prepared on each that supports it, and every call goes to the cheapest of those that take
 * it, by their own estimates for its shape; the one named first wins ties. `explain()` says why each other was not picked. Who wants one backend uses that
 * backend: nothing falls back.
 *
 * Disposing of it disposes of the kernels that it made; the backends remain their owner's.
 *
 * @param backends in order of preference where costs are equal or unknown
 * @throws AttentionError `invalid-argument` (none, or several runtimes), `contract-version`
 */
export function dispatch(backends: readonly Backend[]): Backend {
  const [first] = backends;
  if (first === undefined) throw new AttentionError('invalid-argument', 'dispatch got no backends.', 'Pass at least one.');
  for (const { contract, name, runtime } of backends) {
    const written: unknown = contract;
    if (written !== contractVersion) throw new AttentionError('contract-version', `Backend '${name}' is written for contract ${show(written)}; this is ${contractVersion}.`, 'Install versions that agree.');
    if (runtime !== first.runtime) throw new AttentionError('invalid-argument', `Backends '${first.name}' and '${name}' have runtimes of their own.`, 'Make them on one runtime, so that tensors need no copy.');
  }
  return new Dispatcher(backends, first.runtime);
}

class Dispatcher implements Backend {
  readonly contract = contractVersion;
  readonly name: string;
  readonly runtime: Runtime;
  readonly capabilities: Capabilities;
  readonly #backends: readonly Backend[];
  readonly #kernels = new Set<AttentionKernel | FastWeightKernel>();
  #disposed = false;

  constructor(backends: readonly Backend[], runtime: Runtime) {
    this.#backends = [...backends];
    this.name = `dispatch(${backends.map(({ name }) => name).join(', ')})`;
    this.runtime = runtime;
    this.capabilities = joinCapabilities(backends.map(({ capabilities }) => capabilities));
  }

  assess(request: Request, shape?: CallShape): Assessment {
    const verdicts = judge(this.#backends.map((backend) => ({ backend, kernel: null })), request, shape ?? null, []);
    const picked = cheapest(verdicts);
    if (picked === null) {
      const refusals = this.#backends.flatMap((backend) => {
        const assessment = shape === undefined ? backend.assess(request) : backend.assess(request, shape);
        return assessment.supported ? [] : assessment.refusals.map((refusal) => ({ ...refusal, reason: `${backend.name}: ${refusal.reason}` }));
      });
      return { supported: false, refusals };
    }
    const own = shape === undefined ? picked.backend.assess(request) : picked.backend.assess(request, shape);
    const others = verdicts.filter((verdict) => verdict !== picked).map((verdict) => `not ${verdict.backend.name}: ${whyNot(verdict, picked)}`);
    return own.supported ? { ...own, plan: [`${picked.backend.name}: ${own.plan}`, ...others].join('; ') } : own;
  }

  async prepare(request: AttentionRequest): Promise<AttentionKernel>;
  async prepare(request: FastWeightRequest): Promise<FastWeightKernel>;
  async prepare(request: Request): Promise<AttentionKernel | FastWeightKernel> {
    this.#checkOpen();
    const recurrent = isFastWeights(request);
    if (!recurrent) checkRequest(request);
    const kernel = recurrent
      ? new DispatchedFastWeights(request, await this.#candidates(request, (backend) => backend.prepare(request)))
      : new DispatchedAttention(request, await this.#candidates(request, (backend) => backend.prepare(request)));
    if (this.#disposed) {
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

  #checkOpen(): void {
    if (this.#disposed) throw new AttentionError('disposed', `${this.name} is disposed.`, 'Make another.');
  }

  /** Prepares on every backend that supports the request. When one of them fails, the others' kernels are given back and its error is the caller's. */
  async #candidates<K extends AttentionKernel | FastWeightKernel>(request: Request, prepare: (backend: Backend) => Promise<K>): Promise<readonly Candidate<K>[]> {
    const assessed = this.#backends.map((backend) => ({ backend, assessment: backend.assess(request) }));
    if (assessed.every(({ assessment }) => !assessment.supported)) {
      throw new AttentionError('unsupported', `No backend supports the request: ${assessed.map(({ backend, assessment }) => `${backend.name}: ${reasonsOf(assessment)}`).join('; ')}.`, 'Add a backend that does, or change the request.');
    }
    const prepared = await Promise.allSettled(assessed.map(async ({ backend, assessment }) => ({ backend, kernel: assessment.supported ? await prepare(backend) : null })));
    const failed = prepared.find((result) => result.status === 'rejected');
    const candidates = prepared.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    if (failed === undefined) return candidates;
    await Promise.allSettled(candidates.map(({ kernel }) => (kernel === null ? Promise.resolve() : kernel.dispose())));
    throw failed.reason;
  }
}

function isFastWeights(request: Request): request is FastWeightRequest {
  const given: unknown = request;
  return typeof given === 'object' && given !== null && 'variant' in given && typeof given.variant === 'object' && given.variant !== null && Reflect.get(given.variant, 'kind') === 'fastWeights';
}
