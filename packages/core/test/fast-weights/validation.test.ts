import { describe, expect, test } from 'vitest';
import {
  additiveRule, decayRule, deltaRule, eluFeatures, fastWeights, inPlaceRule, isAttentionError, kdaRule, projection, recurrentRule, retentionLogDecay, rope, rwkv7Rule, tensor, titansRule,
  tttLinearRule, zeros,
} from '../../src/index.ts';
import { bindFastWeights } from '../../src/compute.ts';
import type { DType, ErrorCode, FastWeightInputs, FastWeightOptions, FastWeightRequest, HostTensor, Runtime } from '../../src/index.ts';
import { assessFastWeights, prepareFastWeights } from '../../src/reference/fast-weights/kernel.ts';
import { normal, prepare } from './helpers.ts';

function request(options: FastWeightOptions, more: Partial<FastWeightRequest> = {}): FastWeightRequest {
  return { variant: fastWeights(options), dim: 4, valueDim: 4, ...more };
}

const rows = { query: zeros([1, 2, 3, 4]), key: zeros([1, 2, 3, 4]), value: zeros([1, 2, 3, 4]) };
const step = zeros([1, 2, 3]);

function ones(shape: readonly number[]): HostTensor {
  return tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1), shape);
}

function caught(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return undefined;
}

function expectCode(action: () => unknown, code: ErrorCode): void {
  const error = caught(action);
  expect(isAttentionError(error), `nothing that heed throws: ${String(error)}`).toBe(true);
  expect(isAttentionError(error) && error.code).toBe(code);
  expect(isAttentionError(error) && error.hint).not.toBe('');
}

const additive = request({ rule: additiveRule() });
const delta = request({ rule: deltaRule() });
const byStep = request({ rule: decayRule({ by: 'step' }) });
const byHead = request({ rule: decayRule({ by: 'head' }) });
const byChannel = request({ rule: kdaRule() });
const ttt = request({ rule: tttLinearRule() });
const tttTables = { weight: zeros([2, 4, 4]), bias: zeros([2, 4]), normGain: ones([2, 4]), normShift: zeros([2, 4]) };
const inPlace = request({ rule: inPlaceRule({ chunk: 4, taps: null }) });
const inPlaceState = { weight: zeros([1, 2, 4, 4]), keys: zeros([1, 2, 4, 4]), values: zeros([1, 2, 4, 4]), filled: zeros([1]) };

const bad: readonly (readonly [string, FastWeightRequest, unknown, ErrorCode])[] = [
  ['no inputs', additive, null, 'invalid-argument'],
  ['no query', additive, { ...rows, query: undefined }, 'invalid-tensor'],
  ['a query of rank 3', additive, { ...rows, query: zeros([2, 3, 4]) }, 'invalid-shape'],
  ['rows of another width', additive, { ...rows, key: zeros([1, 2, 3, 5]) }, 'invalid-shape'],
  ['another number of keys', additive, { ...rows, key: zeros([1, 2, 2, 4]) }, 'invalid-shape'],
  ['another number of values', additive, { ...rows, value: zeros([1, 2, 2, 4]) }, 'invalid-shape'],
  ['values of another batch', additive, { ...rows, value: zeros([2, 2, 3, 4]) }, 'invalid-shape'],
  ['value heads that are no multiple', additive, { ...rows, value: zeros([1, 3, 3, 4]) }, 'invalid-shape'],
  ['fewer value heads than heads', additive, { ...rows, value: zeros([1, 1, 3, 4]) }, 'invalid-shape'],
  ['another dtype than prepared for', additive, { ...rows, value: zeros([1, 2, 3, 4], 'f64') }, 'invalid-dtype'],
  ['integers', additive, { ...rows, query: zeros([1, 2, 3, 4], 'i32') }, 'invalid-dtype'],
  ['an input that is missing', delta, rows, 'invalid-argument'],
  ['an input that the rule does not read', additive, { ...rows, writeStrength: step }, 'invalid-argument'],
  ['a write strength for each channel', delta, { ...rows, writeStrength: zeros([1, 2, 3, 4]) }, 'invalid-shape'],
  ['a write strength that would repeat', delta, { ...rows, writeStrength: zeros([1, 1, 3]) }, 'invalid-shape'],
  ['a write strength below 0', delta, { ...rows, writeStrength: tensor(new Float32Array(6).fill(-0.1), [1, 2, 3]) }, 'invalid-argument'],
  ['a write strength above 2', delta, { ...rows, writeStrength: tensor(new Float32Array(6).fill(2.1), [1, 2, 3]) }, 'invalid-argument'],
  ['an integer write strength', delta, { ...rows, writeStrength: zeros([1, 2, 3], 'i32') }, 'invalid-dtype'],
  ['a log decay above 0', byStep, { ...rows, logDecay: tensor(Float32Array.of(1e-6), [1, 1, 1]) }, 'invalid-argument'],
  ['a log decay that is no number', byStep, { ...rows, logDecay: tensor(Float32Array.of(Number.NaN), [1, 1, 1]) }, 'invalid-argument'],
  ['a log decay by channel for a rule by step', byStep, { ...rows, logDecay: zeros([1, 2, 3, 4]) }, 'invalid-shape'],
  ['a log decay by step for a rule by head', byHead, { ...rows, logDecay: step }, 'invalid-shape'],
  ['a log decay by step for a rule by channel', byChannel, { ...rows, writeStrength: step, logDecay: step }, 'invalid-shape'],
  ['a log decay of another length', byStep, { ...rows, logDecay: zeros([1, 2, 2]) }, 'invalid-shape'],
  ['removal without its weight', request({ rule: rwkv7Rule() }), { ...rows, logDecay: zeros([1, 2, 3, 4]), removalKey: zeros([1, 2, 3, 4]) }, 'invalid-argument'],
  ['packed sequences in a batch', additive, { query: zeros([2, 2, 3, 4]), key: zeros([2, 2, 3, 4]), value: zeros([2, 2, 3, 4]), packed: [0, 3] }, 'invalid-shape'],
  ['packed sequences that do not begin at 0', additive, { ...rows, packed: [1, 3] }, 'invalid-lengths'],
  ['packed sequences that end early', additive, { ...rows, packed: [0, 2] }, 'invalid-lengths'],
  ['packed sequences that go back', additive, { ...rows, packed: [0, 2, 1, 3] }, 'invalid-lengths'],
  ['packed that is no list', additive, { ...rows, packed: 3 }, 'invalid-lengths'],
  ['an offset that is no integer', additive, { ...rows, offset: 0.5 }, 'invalid-positions'],
  ['offsets for another number of sequences', additive, { ...rows, offset: [0, 1] }, 'invalid-positions'],
  ['an offset past the integers', additive, { ...rows, offset: 2 ** 31 - 2 }, 'invalid-positions'],
  ['a state that is no record', additive, { ...rows, state: 3 }, 'invalid-state'],
  ['a state of another rule', additive, { ...rows, state: { weight: zeros([1, 2, 4, 4]) } }, 'invalid-state'],
  ['an incomplete state', request({ rule: additiveRule(), rowSum: true }), { ...rows, state: { memory: zeros([1, 2, 4, 4]) } }, 'invalid-state'],
  ['a state of another shape', additive, { ...rows, state: { memory: zeros([1, 2, 4, 5]) } }, 'invalid-state'],
  ['a state of too few sequences', additive, { ...rows, packed: [0, 1, 3], state: { memory: zeros([1, 2, 4, 4]) } }, 'invalid-state'],
  ['a state in half precision', additive, { ...rows, state: { memory: zeros([1, 2, 4, 4], 'bf16') } }, 'invalid-state'],
  ['a count that is no integer', inPlace, { ...rows, tables: { weight: zeros([2, 4, 4]) }, state: { ...inPlaceState, filled: tensor(Float64Array.of(0.5), [1]) } }, 'invalid-state'],
  ['a count of a whole chunk', inPlace, { ...rows, tables: { weight: zeros([2, 4, 4]) }, state: { ...inPlaceState, filled: tensor(Float64Array.of(4), [1]) } }, 'invalid-state'],
  ['no tables', ttt, { ...rows, writeStrength: step }, 'missing-table'],
  ['a table that is not declared', additive, { ...rows, tables: { weight: zeros([2, 4, 4]) } }, 'unknown-table'],
  ['a table for other heads', ttt, { ...rows, writeStrength: step, tables: { ...tttTables, weight: zeros([3, 4, 4]) } }, 'invalid-table'],
  ['a table of another width', ttt, { ...rows, writeStrength: step, tables: { ...tttTables, bias: zeros([2, 5]) } }, 'invalid-table'],
  ['a projection of other rows', request({ rule: additiveRule(), transformQuery: [projection({ width: 4 })] }), { ...rows, tables: { projection: zeros([4, 5]) } }, 'invalid-table'],
  ['a uniform that is not declared', additive, { ...rows, uniforms: { rate: 1 } }, 'unknown-uniform'],
  ['a uniform that is no number', additive, { ...rows, uniforms: { scale: Number.NaN } }, 'invalid-uniform'],
];

describe('a call is refused', () => {
  test.each(bad)('%s', (_name, asked, inputs, code) => {
    expectCode(() => bindFastWeights(asked, inputs as FastWeightInputs), code);
  });

  test('a tensor of another runtime', async () => {
    const runtime = { name: 'one' } as unknown as Runtime;
    const foreign = { ...zeros([1, 2, 3, 4]), runtime: { name: 'other' } as unknown as Runtime };
    const kernel = await prepareFastWeights(additive, runtime);
    expectCode(() => kernel.enqueue({ ...rows, query: foreign }), 'foreign-tensor');
  });

  test('and the kernel goes on', async () => {
    const kernel = await prepareFastWeights(delta);
    expectCode(() => kernel.enqueue(rows), 'invalid-argument');
    await expect(kernel.run(rows)).rejects.toSatisfy((error) => isAttentionError(error, 'invalid-argument'));
    expect((await kernel.run({ ...rows, writeStrength: step })).output.shape).toEqual([1, 2, 3, 4]);
  });
});

describe('a call is bound', () => {
  test('with the log decay at its edges, and axes of 1 that repeat', () => {
    for (const shape of [[1, 1, 1], [1, 2, 1], [1, 1, 3], [1, 2, 3]]) bindFastWeights(byStep, { ...rows, logDecay: tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(-Infinity), shape) });
    expect(bindFastWeights(byStep, { ...rows, logDecay: zeros([1, 1, 1]) }).uniforms).toEqual({ scale: 0.5 });
  });

  test('with its sequences, their rows and offsets', () => {
    expect(bindFastWeights(additive, { ...rows, packed: [0, 2, 3], offset: [5, 0] }).sequences).toEqual([
      { index: 0, tensorBatch: 0, start: 0, length: 2, offset: 5 },
      { index: 1, tensorBatch: 0, start: 2, length: 1, offset: 0 },
    ]);
  });

  test('with the scale of the rows after their transforms', () => {
    expect(bindFastWeights(request({ rule: additiveRule(), transformQuery: [projection({ width: 9, table: 'q' })], transformKey: [projection({ width: 9, table: 'k' })] }), { ...rows, tables: { q: zeros([9, 4]), k: zeros([9, 4]) } }).uniforms['scale']).toBeCloseTo(1 / 3, 15);
  });
});

describe('a variant is refused', () => {
  const variants: readonly (readonly [string, () => unknown, ErrorCode])[] = [
    ['no write', () => recurrentRule('x', [{ step: 'read' }]), 'invalid-variant'],
    ['no read', () => recurrentRule('x', [{ step: 'write', strength: null }]), 'invalid-variant'],
    ['two decays', () => recurrentRule('x', [{ step: 'decay', by: 'step' }, { step: 'decay', by: 'head' }, { step: 'write', strength: null }, { step: 'read' }]), 'invalid-variant'],
    ['a remove without a recall', () => recurrentRule('x', [{ step: 'remove', along: 'key', strength: null }, { step: 'write', strength: null }, { step: 'read' }]), 'invalid-variant'],
    ['a remove before its recall', () => recurrentRule('x', [{ step: 'remove', along: 'key', strength: null }, { step: 'recall', by: 'key' }, { step: 'write', strength: null }, { step: 'read' }]), 'invalid-variant'],
    ['a row sum of a rule that removes', () => fastWeights({ rule: deltaRule(), rowSum: true }), 'invalid-variant'],
    ['a negative ε', () => fastWeights({ rule: additiveRule(), rowSum: { epsilon: -1 } }), 'invalid-argument'],
    ['a scale of a rule that has none', () => fastWeights({ rule: inPlaceRule(), scale: 1 }), 'invalid-variant'],
    ['a row sum of a rule that has none', () => fastWeights({ rule: titansRule(), rowSum: true }), 'invalid-variant'],
    ['a scale that is no number', () => fastWeights({ rule: additiveRule(), scale: Number.NaN }), 'invalid-uniform'],
    ['a period of 0', () => fastWeights({ rule: additiveRule(), positionPeriod: 0 }), 'invalid-argument'],
    ['a decay by something else', () => decayRule({ by: 'token' as 'step' }), 'invalid-argument'],
    ['no heads', () => retentionLogDecay(0), 'invalid-argument'],
    ['a mini-batch of 0', () => tttLinearRule({ miniBatch: 0 }), 'invalid-argument'],
    ['an even number of taps', () => inPlaceRule({ taps: 4 }), 'invalid-argument'],
    ['a chunk that is no integer', () => inPlaceRule({ chunk: 1.5 }), 'invalid-argument'],
    ['another memory', () => titansRule({ memory: 'deep' as 'mlp' }), 'invalid-argument'],
    ['another activation', () => titansRule({ activation: 'relu' as 'silu' }), 'invalid-argument'],
    ['an expansion of 0', () => titansRule({ expansion: 0 }), 'invalid-argument'],
  ];
  test.each(variants)('%s', (_name, make, code) => {
    expectCode(make, code);
  });
});

describe('a request is refused', () => {
  const requests: readonly (readonly [string, unknown, ErrorCode])[] = [
    ['nothing', null, 'invalid-argument'],
    ['a variant that nobody made', { variant: { kind: 'fastWeights' }, dim: 4, valueDim: 4 }, 'invalid-variant'],
    ['no width', { ...additive, dim: 0 }, 'invalid-shape'],
    ['a width that is no integer', { ...additive, valueDim: 1.5 }, 'invalid-shape'],
    ['storage in integers', { ...additive, dtypes: { key: 'i8' as DType } }, 'invalid-dtype'],
    ['queries wider than keys', request({ rule: additiveRule(), transformQuery: [projection({ width: 5 })] }), 'invalid-shape'],
    ['a rotation of more channels than there are', request({ rule: additiveRule(), transformQuery: [rope({ pairing: 'half', width: 6 })] }), 'invalid-shape'],
    ['TTT with values of another width', { ...ttt, valueDim: 5 }, 'invalid-shape'],
    ['a gradient of a state that the rule does not carry', { ...additive, gradients: ['state.normalizer'] }, 'invalid-argument'],
    ['a gradient through test-time training', { ...ttt, gradients: ['query'] }, 'unsupported'],
  ];
  test.each(requests)('%s', async (_name, asked, code) => {
    await expect(prepareFastWeights(asked as FastWeightRequest)).rejects.toSatisfy((error) => isAttentionError(error, code));
  });

  test('and assess says why and what would help', () => {
    const assessment = assessFastWeights({ ...ttt, gradients: ['query'] });
    expect(assessment.supported ? [] : assessment.refusals.map(({ stage }) => stage)).toEqual(['gradients']);
    expect(assessFastWeights(ttt).supported).toBe(true);
  });
});

describe('the life of a kernel', () => {
  test('an abort stops the call between slices, and the kernel goes on', async () => {
    const kernel = await prepare({ rule: additiveRule() }, 32, 32);
    const long = tensor(normal(1, 4000 * 32), [1, 1, 4000, 32]);
    const inputs = { query: long, key: long, value: long };
    const controller = new AbortController();
    const pending = kernel.run(inputs, { signal: controller.signal });
    setTimeout(() => {
      controller.abort('enough');
    }, 1);
    await expect(pending).rejects.toSatisfy((error) => isAttentionError(error, 'aborted') && error.cause === 'enough');
    const short = tensor(normal(1, 32), [1, 1, 1, 32]);
    expect((await kernel.run({ query: short, key: short, value: short })).output.shape).toEqual([1, 1, 1, 32]);
  });

  test('inputs may change as soon as run returns', async () => {
    const kernel = await prepare({ rule: additiveRule(), scale: 1 }, 1, 1);
    const [query, key, value] = [Float64Array.of(2), Float64Array.of(3), Float64Array.of(5)].map((data) => tensor(data, [1, 1, 1, 1])) as [HostTensor, HostTensor, HostTensor];
    const pending = kernel.run({ query, key, value });
    value.view()[0] = 100;
    expect([...((await pending).output as HostTensor).view()]).toEqual([30]);
  });

  test('after dispose everything is refused, and dispose may be called again', async () => {
    const kernel = await prepare({ rule: additiveRule() }, 1, 1);
    await kernel.dispose();
    await kernel.dispose();
    expectCode(() => kernel.enqueue({ query: zeros([1, 1, 1, 1]), key: zeros([1, 1, 1, 1]), value: zeros([1, 1, 1, 1]) }), 'disposed');
    expectCode(() => kernel.explain(), 'disposed');
  });

  test('explain shows the steps', async () => {
    const kernel = await prepare({ rule: kdaRule(), transformKey: [eluFeatures()] }, 1, 1);
    expect(kernel.explain().plan.join('\n')).toContain('G ← exp(logDecay by channel) ⊙ G');
  });
});
