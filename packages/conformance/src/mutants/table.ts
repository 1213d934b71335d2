import { alignColumns } from '../report.ts';
import type { MutantResult } from './run-mutants.ts';

/** One line for each mutant and name: what caught it, and what is wrong with the suite if anything is. */
export function toMutantTable(results: readonly MutantResult[]): string {
  const rows = results.flatMap((result) => Object.entries(result.caughtBy).map(([name, caught], index) => [index === 0 ? result.name : '', name, caught ?? 'NOTHING']));
  const problems = results.flatMap((result) => result.problems.map((problem) => `FAILED ${result.name}: ${problem}`));
  return [alignColumns([['mutant', 'names', 'caught by'], ...rows], 3), ...problems].join('\n');
}
