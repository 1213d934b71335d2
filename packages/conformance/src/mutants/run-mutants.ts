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
 * Only the cases needed are run, and of those with a name only until one fails. A case counts only if the right backend, without the mutation, passes it.
 */
export async function runMutants(options: RunMutantsOptions = {}): Promise<readonly MutantResult[]> {
  const chosen = options.mutants ?? everyMutant;
  const judge = new Judge();
  const results: MutantResult[] = [];
  try {
    for (const [index, mutant] of chosen.entries()) {
      options.onMutant?.(mutant, index, chosen.length);
      results.push(await judge.judge(mutant));
    }
  } finally {
    await judge.dispose();
  }
  return results;
}

class Judge {
  readonly #cases = allCases({ examples: 0, seed: 1 });
  readonly #right = new TestBench(() => createReferenceBackend(), {});
  /** Whether the right backend passes a case, by id. */
  readonly #passesRight = new Map<string, boolean>();

  async judge(mutant: Mutant): Promise<MutantResult> {
    const caughtBy: Record<string, string | null> = {};
    const problems: string[] = [];
    // What a mutant should fail may fail by never answering, so it is given little time; its controls are given all of it.
    await this.#withBench(mutant, { patience: 500, timeout: 5000 }, async (bench) => {
      for (const name of mutant.names) {
        const caught = await this.#firstFailure(bench, this.#testsOf(name));
        caughtBy[name] = caught;
        if (caught === null) problems.push(`no case of ${name} fails`);
      }
    });
    await this.#withBench(mutant, {}, async (bench) => {
      for (const control of mutant.controls) {
        const selected = this.#cases.filter((candidate) => isNamedAfter(candidate, control));
        if (selected.length === 0) problems.push(`no case matches the control ${control}`);
        const failure = await this.#firstFailure(bench, selected);
        if (failure !== null) problems.push(`the control ${failure} fails`);
      }
    });
    return { name: mutant.name, plan: mutant.plan, caughtBy, problems };
  }

  dispose(): Promise<void> {
    return this.#right.dispose();
  }

  /** All cases that test a law, those named after it first; or all whose id begins so. */
  #testsOf(name: string): readonly Case[] {
    if (!(name in laws)) return this.#cases.filter((candidate) => isNamedAfter(candidate, name));
    const tests = this.#cases.filter((candidate) => matches(candidate, name));
    return [...tests.filter((candidate) => isNamedAfter(candidate, name)), ...tests.filter((candidate) => !isNamedAfter(candidate, name))];
  }

  async #firstFailure(bench: TestBench, cases: readonly Case[]): Promise<string | null> {
    for (const candidate of cases) if (!(await bench.run(candidate)).passed && (await this.#isRight(candidate))) return candidate.id;
    return null;
  }

  async #isRight(candidate: Case): Promise<boolean> {
    const known = this.#passesRight.get(candidate.id);
    if (known !== undefined) return known;
    const { passed } = await this.#right.run(candidate);
    this.#passesRight.set(candidate.id, passed);
    return passed;
  }

  async #withBench(mutant: Mutant, options: ConstructorParameters<typeof TestBench>[1], work: (bench: TestBench) => Promise<void>): Promise<void> {
    const bench = new TestBench(() => mutant.make(createReferenceBackend()), options);
    try {
      await work(bench);
    } finally {
      await bench.dispose();
    }
  }
}

/** `L4` takes `laws/L4-…`; `L4-window-override` and `golden/pairs` take the ids that begin so. */
function isNamedAfter(candidate: Case, name: string): boolean {
  return name in laws ? candidate.id.startsWith(`laws/${name}-`) : candidate.id.startsWith(name) || candidate.id.startsWith(`laws/${name}`);
}
