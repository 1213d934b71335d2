import { isHostTensor } from '@heed/core';
import { expect, test } from 'vitest';
import { laws, mutant, mutants, runMutants, toMutantTable } from '../src/index.ts';

test('every law has a mutant that breaks it', () => {
  const named = new Set(mutants.flatMap((one) => one.names));
  expect(Object.keys(laws).filter((law) => !named.has(law))).toEqual([]);
});

test('names are unique, and every mutant has a control', () => {
  expect(new Set(mutants.map((one) => one.name)).size).toBe(mutants.length);
  expect(mutants.filter((one) => one.controls.length === 0)).toEqual([]);
});

test('a mutant that nothing catches, and a control that fails, are problems', async () => {
  const harmless = mutant({ name: 'harmless', plan: 'does nothing wrong', names: ['L4'], controls: ['golden/row'] }, () => ({}));
  const clumsy = mutant({ name: 'clumsy', plan: 'writes zeros', names: ['golden/row'], controls: ['golden/two-classes'] }, () => ({
    outputs: (outputs) => {
      const { output } = outputs;
      if (isHostTensor(output)) output.view().fill(0);
      return outputs;
    },
  }));
  const [first, second] = await runMutants({ mutants: [harmless, clumsy] });
  expect(first?.problems).toEqual(['no case of L4 fails']);
  expect(second?.problems).toEqual(['the control golden/two-classes?normalization=sparsemax,gap=0.5 fails']);
});

test('the table has a line for each name of a mutant, and says what is wrong', () => {
  const table = toMutantTable([
    { name: 'anchor', plan: '', caughtBy: { L3: 'laws/L3-positions', golden: null }, problems: ['no case of golden fails'] },
  ]);
  expect(table.split('\n').map((line) => line.split(/ {2,}/))).toEqual([['mutant', 'names', 'caught by'], ['anchor', 'L3', 'laws/L3-positions'], ['', 'golden', 'NOTHING'], ['FAILED anchor: no case of golden fails']]);
});
