import { describe, expect, test } from 'vitest';
import { additiveRule, decayRule, deltaRule, elementwise, gatedDeltaRule, isAttentionError, kdaRule, rope, rwkv7Rule, tensor, titansRule, toFloat64, tttLinearRule } from '../../src/index.ts';
import type { FastWeightGradientName, FastWeightInputs, FastWeightKernel, FastWeightOptions, HostTensor, Saved, Tensor } from '../../src/index.ts';
import { expectClose, logSigmoid, normal, prepare, random, sigmoid, unitRows, values } from './helpers.ts';

// Expected values are central differences of the forward pass, whose error is O(h²) in float64 (L19).
const h = 1e-5;
const heads = 1;
const valueHeads = 2;
const length = 5;
const dim = 4;
const valueDim = 3;

const rows = { query: random(1, [2, heads, length, dim]), key: unitRows(2, [2, heads, length, dim]), value: random(3, [2, valueHeads, length, valueDim]) };
const writeStrength = random(4, [2, valueHeads, length], sigmoid);
const byStep = random(5, [2, valueHeads, length], logSigmoid);
const byChannel = random(6, [2, valueHeads, length, dim], logSigmoid);
const removalKey = unitRows(7, [2, valueHeads, length, dim]);
const removalWeight = random(8, [2, valueHeads, length, dim], sigmoid);
const memory = random(9, [2, valueHeads, dim, valueDim]);
const normalizer = random(10, [2, valueHeads, dim], (x) => x * x);
const squared = elementwise('squared', ({ element }) => element.mul(element).add(0.1));

const cases: readonly (readonly [string, FastWeightOptions, FastWeightInputs])[] = [
  ['additive', { rule: additiveRule() }, { ...rows, state: { memory } }],
  ['one decay for all that is repeated', { rule: decayRule({ by: 'step' }) }, { ...rows, logDecay: tensor(Float64Array.of(-0.3), [1, 1, 1]), state: { memory } }],
  ['decay by head', { rule: decayRule({ by: 'head' }) }, { ...rows, logDecay: tensor(Float64Array.of(-0.3, -0.1), [1, 2, 1]), state: { memory } }],
  ['decay by step with a strength', { rule: decayRule({ by: 'step', strength: true }) }, { ...rows, logDecay: byStep, writeStrength, state: { memory } }],
  ['decay by channel', { rule: decayRule({ by: 'channel' }) }, { ...rows, logDecay: byChannel, state: { memory } }],
  ['delta', { rule: deltaRule() }, { ...rows, writeStrength, state: { memory } }],
  ['gated delta', { rule: gatedDeltaRule() }, { ...rows, writeStrength, logDecay: byStep, state: { memory } }],
  ['KDA', { rule: kdaRule() }, { ...rows, writeStrength, logDecay: byChannel, state: { memory } }],
  ['RWKV-7', { rule: rwkv7Rule() }, { ...rows, logDecay: byChannel, removalKey, removalWeight, state: { memory } }],
  ['a decayed row sum over transformed rows', { rule: decayRule({ by: 'channel' }), rowSum: { epsilon: 0.5 }, transformQuery: [squared], transformKey: [rope({ pairing: 'half' }), squared] }, { ...rows, logDecay: byChannel, state: { memory, normalizer } }],
];

type Inputs = Readonly<Record<string, Tensor | undefined>>;

/** Names of all that has a gradient in these inputs. */
function gradientNames(inputs: FastWeightInputs): readonly FastWeightGradientName[] {
  const names = Object.keys(inputs).filter((name) => name !== 'state' && name !== 'packed');
  return [...names, ...Object.keys(inputs.state ?? {}).map((name) => `state.${name}`)] as FastWeightGradientName[];
}

function pick(inputs: FastWeightInputs, name: string): HostTensor {
  const found = name.startsWith('state.') ? inputs.state?.[name.slice(6)] : (inputs as unknown as Inputs)[name];
  return found as HostTensor;
}

function replace(inputs: FastWeightInputs, name: string, by: HostTensor): FastWeightInputs {
  return name.startsWith('state.') ? { ...inputs, state: { ...inputs.state, [name.slice(6)]: by } } : { ...inputs, [name]: by };
}

/** The loss: weighted sums of the output and of every tensor of the final state. */
function weightsFor(outer: Readonly<Record<string, Tensor>>): (result: Readonly<Record<string, Tensor>>) => number {
  const weights = Object.entries(outer).map(([name, weight]) => [name, values(weight)] as const);
  return (result) => weights.reduce((sum, [name, weight]) => sum + values(result[name]).reduce((part, element, at) => part + element * (weight[at] ?? 0), 0), 0);
}

async function check(kernel: FastWeightKernel, inputs: FastWeightInputs): Promise<void> {
  const forward = await kernel.run(inputs);
  const outer = { output: random(20, forward.output.shape), ...Object.fromEntries(Object.entries(forward.state).map(([name, { shape }], index) => [name, random(30 + index, shape)])) };
  const loss = weightsFor(outer);
  const { output, ...state } = outer;
  const gradients = await kernel.backward(inputs, forward.saved as Saved, { output, state });
  const names = gradientNames(inputs);
  expect(Object.keys(gradients).sort()).toEqual([...names].sort());
  for (const name of names) {
    const source = pick(inputs, name);
    const data = toFloat64(source);
    // A gate at the edge of its range would leave it; none of these stands there.
    const differences = Array.from(data, (_, at) => {
      const at1 = (offset: number): number => {
        const moved = data.slice();
        moved[at] = (moved[at] ?? 0) + offset;
        const result = kernel.enqueue(replace(inputs, name, tensor(moved, source.shape)));
        return loss({ output: result.output, ...result.state });
      };
      return (at1(h) - at1(-h)) / (2 * h);
    });
    expect(gradients[name]?.shape).toEqual(source.shape);
    expectClose(values(gradients[name]), differences, 1e-7);
  }
}

describe('gradients are central differences', () => {
  test.each(cases)('%s', async (_name, options, inputs) => {
    await check(await prepare(options, dim, valueDim, gradientNames(inputs)), inputs);
  });

  test('packed sequences do not reach into each other', async () => {
    const packedRows = { query: random(1, [1, heads, length, dim]), key: unitRows(2, [1, heads, length, dim]), value: random(3, [1, valueHeads, length, valueDim]) };
    const inputs = { ...packedRows, writeStrength: random(4, [1, valueHeads, length], sigmoid), packed: [0, 2, 2, 5], state: { memory: random(9, [3, valueHeads, dim, valueDim]) } };
    await check(await prepare({ rule: deltaRule() }, dim, valueDim, gradientNames(inputs)), inputs);
  });

  test('a token behind a log decay of −∞ gets no gradient from what follows', async () => {
    const logDecay = tensor(Float64Array.of(-0.1, -0.2, -Infinity, -0.1, -0.3), [1, 1, length]);
    const inputs = { query: random(1, [1, 1, length, dim]), key: unitRows(2, [1, 1, length, dim]), value: random(3, [1, 1, length, valueDim]), logDecay };
    const kernel = await prepare({ rule: decayRule({ by: 'step' }) }, dim, valueDim, ['value', 'logDecay']);
    const forward = await kernel.run(inputs);
    const output = new Float64Array(length * valueDim);
    output.set(normal(5, 3 * valueDim), 2 * valueDim);
    const gradients = await kernel.backward(inputs, forward.saved as Saved, { output: tensor(output, [1, 1, length, valueDim]) });
    expect(values(gradients['value']).slice(0, 2 * valueDim)).toEqual(new Array(2 * valueDim).fill(0));
    expect(values(gradients['logDecay']).slice(0, 3).map(Math.abs)).toEqual([0, 0, 0]);
  });
});

describe('what has no gradient is refused', () => {
  test.each([tttLinearRule(), titansRule()])('$name', async (rule) => {
    await expect(prepare({ rule }, dim, dim, ['query'])).rejects.toSatisfy((error) => isAttentionError(error, 'unsupported'));
  });

  test('an input that the rule does not read', async () => {
    await expect(prepare({ rule: additiveRule() }, dim, valueDim, ['writeStrength'])).rejects.toSatisfy((error) => isAttentionError(error, 'invalid-argument'));
  });

  test('a saved of another kernel', async () => {
    const kernel = await prepare({ rule: additiveRule() }, dim, valueDim, ['query']);
    const other = await prepare({ rule: additiveRule() }, dim, valueDim, ['query']);
    const { saved, output } = await other.run(rows);
    await expect(kernel.backward(rows, saved as Saved, { output })).rejects.toSatisfy((error) => isAttentionError(error, 'invalid-argument'));
  });
});
