export interface MutantResult { readonly name: string; readonly problems: readonly string[] }
export async function runMutants(_options: { readonly onMutant?: (mutant: { readonly name: string }, index: number, count: number) => void }): Promise<readonly MutantResult[]> { return []; }
