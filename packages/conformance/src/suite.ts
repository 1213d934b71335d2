import type { Case } from './case.ts';
import { matches } from './case.ts';
import { allCases } from './cases/all.ts';
import type { CaseResult, Report } from './report.ts';
import { makeReport } from './report.ts';
import type { BenchOptions, CreateBackend } from './test-bench.ts';
import { TestBench } from './test-bench.ts';

/** A test runner's two functions; vitest, node:test, mocha, jest and bun:test all have them. */
export interface Host {
  readonly describe: (name: string, body: () => void) => unknown;
  readonly test: (name: string, body: () => Promise<void>) => unknown;
}

export interface SuiteOptions extends BenchOptions {
  /** Only cases whose id begins with one of these, or that test the law of that name. Default: all. */
  readonly filters?: readonly string[];
  /** How many examples: a seeded sample, or all of them. Default 60. */
  readonly examples?: number | 'all';
  /** Which sample of the examples. Default 1. */
  readonly seed?: number;
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
  const bench = new TestBench(createBackend, options);
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
  const bench = new TestBench(createBackend, options);
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
