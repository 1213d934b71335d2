/** A state is a value: given, returned, marked, forked, kept as bytes, and composed from maps of segments (VARIANTS: segment map). Expected values: the sequence in one piece. */
import type { FastWeightInputs, Tensor } from '@heed/core';
import { isHostTensor, tensor } from '@heed/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { applyMap, composeMaps, FastWeightSequence, identityMap, segmentMap, stateFromBytes, stateToBytes, type SegmentMap } from '../src/index.ts';
import { createLinearBackend, type LinearWasmBackend } from '../src/wasm/index.ts';
import { drawCall, expectClose, numbers, rules, tokensOf } from './calls.ts';

let backend: LinearWasmBackend;
beforeAll(async () => {
  backend = await createLinearBackend({ threads: 2 });
});
afterAll(async () => {
  await backend.dispose();
});

const length = 50;

describe.each(Object.entries(rules))('%s', (_, variant) => {
  const call = drawCall(variant, { batch: 2, heads: 1, valueHeads: 2, length, dim: 8, valueDim: 5 });

  test('maps of segments compose in any grouping to the state of the whole', async () => {
    const whole = await (await backend.prepare(call.request)).run(call.inputs);
    const cuts = [0, 13, 14, 40, length];
    const maps: SegmentMap[] = [];
    for (const [index, end] of cuts.slice(1).entries()) maps.push(await segmentMap(backend, call.request, { ...tokensOf(call.inputs, cuts[index] ?? 0, end), offset: cuts[index] ?? 0 }));
    const [a, b, c, d] = maps;
    if (a === undefined || b === undefined || c === undefined || d === undefined) throw new Error('four segments');
    const left = composeMaps(composeMaps(composeMaps(a, b), c), d);
    const right = composeMaps(a, composeMaps(b, composeMaps(c, d)));
    for (const map of [left, right, composeMaps(identityMap(a), right), composeMaps(right, identityMap(a))]) {
      for (const [name, state] of Object.entries(applyMap(map, undefined))) expectClose(state, whole.state[name], 1e-5, `state ${name}`);
    }
    const first = await (await backend.prepare(call.request)).run({ ...tokensOf(call.inputs, 0, 13) });
    for (const [name, state] of Object.entries(applyMap(composeMaps(b, composeMaps(c, d)), first.state))) expectClose(state, whole.state[name], 1e-5, `state ${name} from a state`);
  });

  test('going back to a mark, forks and bytes lead to the same bits', async () => {
    const kernel = await backend.prepare(call.request);
    const part = (from: number, to: number): FastWeightInputs => tokensOf(call.inputs, from, to);
    const sequence = new FastWeightSequence(kernel);
    await sequence.run(part(0, 20));
    expect(sequence.position).toBe(20);
    const mark = sequence.mark();
    const straight = numbers((await sequence.run(part(20, 30))).output);
    await sequence.run(part(30, 50));
    sequence.rollBack(mark);
    const fork = sequence.fork();
    const revived = FastWeightSequence.fromBytes(kernel, await sequence.toBytes(), sequence.position);
    await sequence.run(part(40, 50));
    for (const other of [fork, revived]) {
      const { output } = await other.run(part(20, 30));
      expect([...numbers(output)]).toEqual([...straight]);
      other.dispose();
    }
    sequence.forget(mark);
    expect(() => { sequence.rollBack(mark); }).toThrow('mark');
    sequence.dispose();
  });
});

test('states on the runtime are released with their last holder', async () => {
  const { runtime } = backend;
  const variant = rules['delta'];
  if (variant === undefined) throw new Error('delta');
  const { request, inputs } = drawCall(variant, { length: 4, dim: 8 });
  const kernel = await backend.prepare(request);
  const there = Object.fromEntries(Object.entries(inputs).map(([name, one]: [string, Tensor]) => [name, isHostTensor(one) ? runtime.upload(one) : one])) as unknown as FastWeightInputs;
  await runtime.idle();
  const before = runtime.memory().bytes;
  const sequence = new FastWeightSequence(kernel);
  const mark = sequence.mark();
  for (let step = 0; step < 5; step += 1) runtime.release((await sequence.run(there)).output);
  sequence.rollBack(mark);
  const fork = sequence.fork();
  runtime.release((await fork.run(there)).output);
  fork.dispose();
  sequence.dispose();
  await runtime.idle();
  expect(runtime.memory().bytes).toBe(before);
});

test('bytes that are no state are refused, and so is a cut', () => {
  const bytes = stateToBytes({ memory: tensor(Float32Array.of(1, 2, 3), [1, 1, 3, 1]) });
  expect([...numbers(stateFromBytes(bytes)['memory'])]).toEqual([1, 2, 3]);
  expect(() => stateFromBytes(bytes.subarray(0, bytes.length - 4))).toThrow('no state');
  expect(() => stateFromBytes(new Uint8Array(40))).toThrow('no state');
  expect(() => stateFromBytes(new Uint8Array(0))).toThrow('no state');
});
