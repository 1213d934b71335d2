import { createReferenceBackend } from '@heed/core/reference';
import type { Case } from '../case.ts';
import { laws, matches } from '../case.ts';
import { allCases } from '../cases/all.ts';
import { TestBench } from '../test-bench.ts';
import { mutants as everyMutant } from './all.ts';
import type { Mutant } from './mutant.ts';

export interface MutantResult {
  readonly name: string;
  readonly plan: string;
  /** For each law or area that the mutant names: the first case that caught it, or null. */
  readonly caughtBy: Readonly<Record<string, string | null>>;
  /** What is wrong with the suite: a name that nothing failed, or a control that did. */
  readonly problems: readonly string[];
}

export interface RunMutantsOptions {
  /** Default: all. */
  readonly mutants?: readonly Mutant[];
  readonly onMutant?: (mutant: Mutant, index: number, count: number) => void;
}

/**
 * Runs the suite on backends that are wrong on purpose: each must fail a case of every law or area that it names, and no case of its controls.
 * Only the cases needed are run, and of those with a name only until one fails.
 */
export async function runMutants(options: RunMutantsOptions = {}): Promise<readonly MutantResult[]> {
  const chosen = options.mutants ?? everyMutant;
  const cases = allCases({ examples: 0, seed: 1 });
  const results: MutantResult[] = [];
  for (const [index, mutant] of chosen.entries()) {
    options.onMutant?.(mutant, index, chosen.length);
    results.push(await judge(mutant, cases));
  }
  return results;
}

async function judge(mutant: Mutant, cases: readonly Case[]): Promise<MutantResult> {
  const bench = new TestBench(() => mutant.make(createReferenceBackend()), { patience: 500, timeout: 5000 });
  const caughtBy: Record<string, string | null> = {};
  const problems: string[] = [];
  try {
    for (const name of mutant.names) {
      caughtBy[name] = await firstFailure(bench, cases.filter((candidate) => (name in laws ? matches(candidate, name) : candidate.id.startsWith(name) || candidate.id.startsWith(`laws/${name}`))));
      if (caughtBy[name] === null) problems.push(`no case of ${name} fails`);
    }
  } finally {
    await bench.dispose();
  }
  const controls = new TestBench(() => mutant.make(createReferenceBackend()), {});
  try {
    for (const control of mutant.controls) {
      const selected = cases.filter((candidate) => candidate.id.startsWith(control) || candidate.id.startsWith(control in laws ? `laws/${control}-` : `laws/${control}`));
      if (selected.length === 0) problems.push(`no case matches the control ${control}`);
      const failure = await firstFailure(controls, selected);
      if (failure !== null) problems.push(`the control ${failure} fails`);
    }
  } finally {
    await controls.dispose();
  }
  return { name: mutant.name, plan: mutant.plan, caughtBy, problems };
}

async function firstFailure(bench: TestBench, cases: readonly Case[]): Promise<string | null> {
  for (const candidate of cases) if (!(await bench.run(candidate)).passed) return candidate.id;
  return null;
}
