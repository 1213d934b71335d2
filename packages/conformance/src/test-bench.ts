import type { Backend } from '@heed/core';
import { AttentionError, contractVersion } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { has, refusalPlan, testMissing } from './capability.ts';
import type { Case } from './case.ts';
import { CaseContext, ConformanceFailure, Refused } from './context.ts';
import type { CaseResult } from './report.ts';

/** Makes the backend that is tested. Called once for the suite and once more for each case that disposes one. */
export type CreateBackend = () => Backend | Promise<Backend>;

export interface BenchOptions {
  /** 'allowed': a variant that `assess` refuses passes when it is refused properly. 'forbidden': it fails, except where a declared capability is missing. Default 'allowed'. */
  readonly refusals?: 'allowed' | 'forbidden';
  /** Milliseconds that one case may take. Default 60 000. */
  readonly timeout?: number;
  /** Milliseconds after which a call that must answer at once counts as stuck. Default 10 000. */
  readonly patience?: number;
}

/** The backend under test and the reference, made when first needed and shared by all cases. */
export class TestBench {
  readonly #create: CreateBackend;
  readonly #options: BenchOptions;
  #made: Promise<{ readonly backend: Backend; readonly reference: Backend }> | undefined;

  constructor(create: CreateBackend, options: BenchOptions) {
    this.#create = create;
    this.#options = options;
  }

  backends(): Promise<{ readonly backend: Backend; readonly reference: Backend }> {
    this.#made ??= this.#make();
    return this.#made;
  }

  async #make(): Promise<{ readonly backend: Backend; readonly reference: Backend }> {
    const backend = await this.#create();
    if ((backend.contract as string) !== contractVersion) {
      throw new AttentionError('contract-version', `The backend '${backend.name}' was written for contract ${backend.contract}; this suite tests ${contractVersion}.`, 'Use the suite of the same version.');
    }
    return { backend, reference: createReferenceBackend() };
  }

  async run(testCase: Case): Promise<CaseResult> {
    const { backend, reference } = await this.backends();
    const { timeout = 60_000, patience = 10_000, refusals = 'allowed' } = this.#options;
    const context = new CaseContext({ backend, reference, seed: testCase.seed, patience, create: this.#create });
    const start = performance.now();
    const { id, area, kind, laws } = testCase;
    const finish = (outcome: Pick<CaseResult, 'passed' | 'mode' | 'message' | 'refusal' | 'factor'>): CaseResult => ({ id, area, kind, laws, milliseconds: performance.now() - start, worst: context.worst, ...outcome });
    const missing = testCase.needs.find((need) => !has(backend.capabilities, need));
    try {
      await within(timeout, missing === undefined ? testCase.run(context) : testMissing(context, missing));
      await within(timeout, context.end());
      return finish(missing === undefined ? { passed: true, mode: 'direct' } : { passed: true, mode: 'refusal', refusal: refusalPlan(missing) });
    } catch (error) {
      await within(patience, context.end()).catch(() => undefined);
      if (error instanceof Refused) {
        const passed = refusals === 'allowed';
        return finish({ passed, mode: 'refusal', refusal: error.message, ...(passed ? {} : { message: `Refused: ${error.message}` }) });
      }
      const factor = error instanceof ConformanceFailure && error.factor !== null ? { factor: error.factor } : {};
      return finish({ passed: false, mode: missing === undefined ? 'direct' : 'refusal', ...factor, message: error instanceof Error ? `${error.name}: ${error.message}` : String(error) });
    }
  }

  /** Twice, since that must be allowed. */
  async dispose(): Promise<void> {
    if (this.#made === undefined) return;
    const { backend, reference } = await this.#made;
    for (const one of [backend, backend, reference]) {
      await one.dispose();
      await one.runtime.dispose();
    }
  }
}

async function within(milliseconds: number, work: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`The case took longer than ${milliseconds} ms.`));
    }, milliseconds);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
