import { createReferenceBackend } from '@heed/core/reference';
import { expect, test } from 'vitest';
import { competitorOf } from '../src/backends.ts';
import { startOrExplain } from '../src/competitors.ts';
import { randomInputs } from '../src/inputs.ts';
import { attentionLayer } from '../src/models.ts';
import { packInputs, unpackInputs } from '../src/packed-inputs.ts';
import type { Workload } from '../src/workloads.ts';

const layer = attentionLayer({ name: 'test', count: 1, heads: 2, queryDim: 8, sink: true, position: { kind: 'alibi' } });
const workload: Workload = { id: 'test', suite: 'model', phase: 'prefill', layer, dtype: 'f16', batch: 2, queryLength: 5, keyLength: 5, queryOffset: 0 };
const elsewhere = { name: 'reference', role: 'backend', ownProcess: true, start: () => Promise.reject(new Error('started here')) } as const;

test('inputs survive being packed for another process', () => {
  const inputs = randomInputs(workload);
  const again = unpackInputs(structuredClone(packInputs(inputs)));
  expect(Object.keys(again.parameters)).toEqual(['sink', 'slopes']);
  for (const name of ['query', 'key', 'value'] as const) {
    expect(again[name]).toMatchObject({ shape: inputs[name].shape, dtype: 'f16' });
    expect(again[name].view()).toEqual(inputs[name].view());
  }
  expect(again.parameters.slopes?.view()).toEqual(inputs.parameters.slopes?.view());
});

test('a competitor in a process of its own gives what it gives here, bit for bit, and times its calls there', async () => {
  const here = competitorOf(createReferenceBackend(), { about: '', limit: null });
  const there = await startOrExplain(elsewhere, { threads: 1 });
  const inputs = randomInputs(workload);
  const outputs: unknown[] = [];
  for (const competitor of [here, there]) {
    expect(await competitor.refuses(workload)).toBeNull();
    const prepared = await competitor.prepare(workload, inputs);
    await prepared.run();
    outputs.push(await prepared.output());
    if (competitor === there) expect(await prepared.time?.(3)).toBeGreaterThan(0);
    await prepared.dispose();
    await competitor.dispose();
  }
  expect(outputs[1]).toEqual(outputs[0]);
  expect(there.about).toContain('process of its own');
});

test('what goes wrong there arrives here, and the process answers on', async () => {
  const there = await startOrExplain(elsewhere, { threads: 1 });
  const inputs = randomInputs(workload);
  await expect(there.prepare({ ...workload, layer: { ...layer, queryDim: 0 } }, inputs)).rejects.toMatchObject({ name: 'AttentionError' });
  expect(await there.refuses(workload)).toBeNull();
  await there.dispose();
});

test('one that does not start there says why', async () => {
  const missing = await startOrExplain({ ...elsewhere, name: 'nobody' }, { threads: 1 });
  expect(await missing.refuses(workload)).toContain("No competitor is called 'nobody'");
});
