import type { MutantResult } from './run-mutants.ts';
export function toMutantTable(_results: readonly MutantResult[]): string { return ''; }
