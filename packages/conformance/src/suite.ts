import type { Backend } from '@heed/core';
import { AttentionError, contractVersion } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { has, testMissing } from './capability.ts';
import type { Case } from './case.ts';
import { matches } from './case.ts';
import { allCases } from './cases/all.ts';
import { CaseContext, Refused } from './context.ts';
import type { CaseResult, Report } from './report.ts';
import { makeReport } from './report.ts';

/** Makes the backend that is tested. Called once for the suite and once more for each case that disposes one. */
export type CreateBackend = () => Backend | Promise<Backend>;

/** A test runner's two functions; vitest, node:test, mocha, jest and bun:test all have them. */
export interface Host {
  readonly describe: (name: string, body: () => void) => unknown;
  readonly test: (name: string, body: () => Promise<void>) => unknown;
}

export interface SuiteOptions {
  /** Only cases whose id begins with one of these, or that test the law of that name. Default: all. */
  readonly filters?: readonly string[];
  /** How many examples: a seeded sample, or all of them. Default 60. */
  readonly examples?: number | 'all';
  /** Which sample of the examples. Default 1. */
  readonly seed?: number;
  /** 'allowed': a variant that `assess` refuses passes when it is refused properly. 'forbidden': it fails, except where a declared capability is missing. Default 'allowed'. */
  readonly refusals?: 'allowed' | 'forbidden';
  /** Milliseconds that one case may take. Default 60 000. */
  readonly timeout?: number;
  /** Milliseconds after which a call that must answer at once counts as stuck. Default 10 000. */
  readonly patience?: number;
}

export interface RunSuiteOptions extends SuiteOptions {
  /** Called before each case, with its place and the number of all. */
  readonly onCase?: (testCase: Case, index: number, count: number) => void;
  readonly onResult?: (result: CaseResult) => void;
  /** Which cases. Default: all that the options select. */
  readonly cases?: readonly Case[];
}

/** The cases that options select, in order. */
export function selectCases(options: SuiteOptions = {}): readonly Case[] {
  const { filters = [], examples = 60, seed = 1 } = options;
  const cases = allCases({ examples, seed });
  return filters.length === 0 ? cases : cases.filter((testCase) => filters.some((filter) => matches(testCase, filter)));
}

/**
 * Runs the suite and reports by case id. Cases run one after another.
 *
 * @throws AttentionError `contract-version` when the backend was written for another contract
 */
export async function runSuite(createBackend: CreateBackend, options: RunSuiteOptions = {}): Promise<Report> {
  const cases = options.cases ?? selectCases(options);
  const start = performance.now();
  const bench = new Bench(createBackend, options);
  const results: CaseResult[] = [];
  try {
    const { backend } = await bench.backends();
    for (const [index, testCase] of cases.entries()) {
      options.onCase?.(testCase, index, cases.length);
      const result = await bench.run(testCase);
      results.push(result);
      options.onResult?.(result);
    }
    return makeReport(backend.name, results, performance.now() - start);
  } finally {
    await bench.dispose();
  }
}

/**
 * Declares the suite to a test runner: one `describe` for each area, one `test` for each case, and a last test that disposes the backend and its runtime.
 *
 *     import { describe, test } from 'vitest';
 *     import { conformance } from '@heed/conformance';
 *     conformance({ describe, test }, () => createMyBackend());
 */
export function conformance(host: Host, createBackend: CreateBackend, options: SuiteOptions = {}): void {
  const bench = new Bench(createBackend, options);
  const cases = selectCases(options);
  host.describe('heed conformance', () => {
    for (const area of new Set(cases.map((testCase) => testCase.area))) {
      host.describe(area, () => {
        for (const testCase of cases.filter((candidate) => candidate.area === area)) {
          host.test(testCase.id, async () => {
            const result = await bench.run(testCase);
            if (!result.passed) throw new Error(`${result.message ?? 'failed'}\n${testCase.plan}`);
          });
        }
      });
    }
    host.test('the backend and its runtime can be disposed, twice', () => bench.dispose());
  });
}

/** The backend under test and the reference, made when first needed and shared by all cases. */
class Bench {
  readonly #create: CreateBackend;
  readonly #options: SuiteOptions;
  #made: Promise<{ readonly backend: Backend; readonly reference: Backend }> | undefined;

  constructor(create: CreateBackend, options: SuiteOptions) {
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
      throw new AttentionError('contract-version', `The backend '${backend.name}' was written for contract ${String(backend.contract)}; this suite tests ${contractVersion}.`, 'Use the suite of the same version.');
    }
    return { backend, reference: createReferenceBackend() };
  }

  async run(testCase: Case): Promise<CaseResult> {
    const { backend, reference } = await this.backends();
    const { timeout = 60_000, patience = 10_000, refusals = 'allowed' } = this.#options;
    const context = new CaseContext({ backend, reference, seed: testCase.seed, patience, create: this.#create });
    const start = performance.now();
    const { id, area, kind, laws } = testCase;
    const finish = (outcome: Pick<CaseResult, 'passed' | 'mode' | 'message' | 'refusal'>): CaseResult => ({ id, area, kind, laws, milliseconds: performance.now() - start, worst: context.worst, ...outcome });
    const missing = testCase.needs.find((need) => !has(backend.capabilities, need));
    try {
      await within(timeout, missing === undefined ? testCase.run(context) : testMissing(context, missing));
      await within(timeout, context.end());
      return finish(missing === undefined ? { passed: true, mode: 'direct' } : { passed: true, mode: 'refusal', refusal: `no ${missing}` });
    } catch (error) {
      await within(patience, context.end()).catch(() => undefined);
      if (error instanceof Refused) {
        const passed = refusals === 'allowed';
        return finish({ passed, mode: 'refusal', refusal: error.message, ...(passed ? {} : { message: `Refused: ${error.message}` }) });
      }
      return finish({ passed: false, mode: missing === undefined ? 'direct' : 'refusal', message: error instanceof Error ? `${error.name}: ${error.message}` : String(error) });
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
