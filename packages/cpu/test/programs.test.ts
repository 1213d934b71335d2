/** Programs that a call needs first are emitted then: beside work that runs, and for every kernel of the same request. Expected values come from the float64 reference. */
import { causal, isHostTensor } from '@heed/core';
import type { AttentionInputs, HostTensor, Tensor } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { expect, test } from 'vitest';
import { createCpuBackend } from '../src/index.ts';
import { expectClose, inputsOf, requestOf } from './compare.ts';

const request = requestOf({ masking: causal() }, { dim: 64 });
const [long, step] = [inputsOf(1, { queryLength: 1024, heads: 8, dim: 64 }), { ...inputsOf(2, { queryLength: 1, keyLength: 1100, heads: 8, dim: 64 }), queryOffset: 'end' } as const];

test('the first step of a decode is right while a long call runs before it', async () => {
  const [backend, reference] = [await createCpuBackend({ threads: 2 }), createReferenceBackend()];
  const { runtime } = backend;
  const kernel = await backend.prepare(request);
  const upload = (source: Tensor): HostTensor => {
    if (!isHostTensor(source)) throw new TypeError('inputs lie on the host');
    return runtime.upload(source);
  };
  const uploaded = (inputs: AttentionInputs): AttentionInputs => ({ ...inputs, query: upload(inputs.query), key: upload(inputs.key), value: upload(inputs.value) });
  kernel.enqueue(uploaded(long));
  const first = kernel.enqueue(uploaded(step));
  const meaning = await reference.prepare(request);
  expectClose(await runtime.read(first.output), (await meaning.run(step)).output, 1e-5);
  await backend.dispose();
});

test('a kernel decodes after another of the same request that made the program is gone', async () => {
  const [backend, reference] = [await createCpuBackend({ threads: 2 }), createReferenceBackend()];
  const [one, other] = [await backend.prepare(request), await backend.prepare(request)];
  await one.run(step);
  await one.dispose();
  expectClose((await other.run(step)).output, (await (await reference.prepare(request)).run(step)).output, 1e-5);
  await backend.dispose();
});

test('explain lists every program, before any of them was needed', async () => {
  const backend = await createCpuBackend({ threads: 1 });
  const kernel = await backend.prepare(request);
  const { code } = kernel.explain({ batch: 1, heads: 8, keyHeads: 8, queryLength: 1, keyLength: 1100 });
  expect(Object.keys(code)).toEqual(['attention', 'decode', 'transformKeys']);
  expect(code['decode']).toContain('$mergeParts');
  expect(code['attention']).not.toContain('$mergeParts');
  await backend.dispose();
});
