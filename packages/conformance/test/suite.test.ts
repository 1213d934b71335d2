import type { Backend } from '@heed/core';
import { AttentionError } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { expect, test } from 'vitest';
import { conformance, laws, runSuite, selectCases } from '../src/index.ts';
import { alter } from '../src/mutants/alter.ts';

/** A backend that refuses every request, properly or without a reason. */
function refusing(refusals: readonly { readonly stage: 'scoring'; readonly reason: string; readonly remedy: string }[]): Backend {
  const right = createReferenceBackend();
  return {
    contract: right.contract,
    name: 'refusing',
    runtime: right.runtime,
    capabilities: right.capabilities,
    assess: () => ({ supported: false, refusals }),
    prepare: async () => {
      throw new AttentionError('unsupported', 'It can do nothing.', 'Use another.');
    },
    dispose: () => right.dispose(),
  };
}

const reason = [{ stage: 'scoring', reason: 'it can do nothing', remedy: 'Use another.' }] as const;

test('every law has a case that is named after it', () => {
  const ids = selectCases({ examples: 0 }).map((testCase) => testCase.id);
  expect(Object.entries(laws).filter(([law, name]) => !ids.some((id) => id.startsWith(`laws/${law}-${name}`)))).toEqual([]);
});

test('ids are unique, query strings, and each case has a plan and a reason for its bound', () => {
  const cases = selectCases({ examples: 'all' });
  expect(new Set(cases.map((testCase) => testCase.id)).size).toBe(cases.length);
  for (const testCase of cases) {
    expect(testCase.id).toMatch(/^[a-z0-9-]+\/[A-Za-z0-9-]+(\?[A-Za-z]+=[^,?]+(,[A-Za-z]+=[^,?]+)*)?$/);
    expect(testCase.plan.length).toBeGreaterThan(20);
    expect(testCase.plan).toMatch(/[.!]$/);
    expect(testCase.tolerance.reason.length).toBeGreaterThan(20);
  }
});

test('a refusal passes when it is allowed and proper, and fails when it is forbidden or without a reason', async () => {
  const filters = ['golden/pairs'];
  const allowed = await runSuite(() => refusing(reason), { filters });
  expect([allowed.failed, allowed.refused]).toEqual([0, allowed.passed]);
  const forbidden = await runSuite(() => refusing(reason), { filters, refusals: 'forbidden' });
  expect(forbidden.passed).toBe(0);
  const silent = await runSuite(() => refusing([]), { filters });
  expect(silent.passed).toBe(0);
});

test('a capability that is missing is tested by its refusal', async () => {
  const lacking = (): Backend => alter(createReferenceBackend(), { capabilities: { partial: false } });
  // It says that it cannot, and can: that is not the refusal that was promised.
  const report = await runSuite(lacking, { filters: ['golden/merge'] });
  expect(report.cases['golden/merge']).toMatchObject({ passed: false, mode: 'refusal' });
});

test('filters take areas, ids and laws; examples are a sample that the seed picks', () => {
  expect(selectCases({ filters: ['L4'], examples: 0 }).every((testCase) => testCase.laws.includes('L4'))).toBe(true);
  expect(selectCases({ filters: ['laws/L4-window?left=3,right=0,lq=17'], examples: 0 })).toHaveLength(1);
  const sample = (seed: number): readonly string[] => selectCases({ filters: ['examples'], examples: 10, seed }).map((testCase) => testCase.id);
  expect(sample(1)).toHaveLength(10);
  expect(sample(1)).toEqual(sample(1));
  expect(sample(1)).not.toEqual(sample(2));
});

test('a backend of another contract is refused before any case runs', async () => {
  const other = (): Backend => ({ ...refusing(reason), contract: 'heed/0' as 'heed/1' });
  await expect(runSuite(other, { filters: ['golden'] })).rejects.toMatchObject({ code: 'contract-version' });
});

test('a case that never ends fails by its time limit', async () => {
  const stuck = (): Backend => ({ ...refusing(reason), assess: () => ({ supported: true, plan: '' }), prepare: () => new Promise<never>(() => undefined) });
  const report = await runSuite(stuck, { filters: ['golden/pairs?variant=full'], timeout: 50 });
  expect(report.failed).toBe(1);
});

test('the suite is declared to a host as one describe for each area', async () => {
  const areas: string[] = [];
  const tests: (() => Promise<void>)[] = [];
  conformance({ describe: (name, body) => { areas.push(name); body(); }, test: (_name, body) => tests.push(body) }, () => createReferenceBackend(), { filters: ['golden/row', 'scoring/dot'], examples: 0 });
  expect(areas).toEqual(['heed conformance', 'golden', 'scoring']);
  for (const body of tests) await body();
});
