import { expect, test } from 'vitest';
import { laws, mutants, runMutants } from '../src/index.ts';

test.each(mutants.map((mutant) => [mutant.name, mutant] as const))('%s is caught by what it names, and by nothing else', async (_name, mutant) => {
  const [result] = await runMutants({ mutants: [mutant] });
  expect(result?.problems).toEqual([]);
});

test('every law has a mutant that breaks it', () => {
  const named = new Set(mutants.flatMap((mutant) => mutant.names));
  expect(Object.keys(laws).filter((law) => !named.has(law))).toEqual([]);
});

test('names are unique, and every mutant has a control', () => {
  expect(new Set(mutants.map((mutant) => mutant.name)).size).toBe(mutants.length);
  expect(mutants.filter((mutant) => mutant.controls.length === 0)).toEqual([]);
});
