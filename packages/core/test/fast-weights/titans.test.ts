import { describe, expect, test } from 'vitest';
import { deltaRule, gatedDeltaRule, rwkv7Rule, tensor, titansRule, toFloat64 } from '../../src/index.ts';
import type { FastWeightInputs, HostTensor } from '../../src/index.ts';
import type { Table } from './helpers.ts';
import { combine, expectClose, expectSameState, headOf, logSigmoid, multiply, random, run, runInPieces, sigmoid, unitRows, values } from './helpers.ts';

const length = 13;
const dim = 4;
const valueDim = 3;

const rows = { query: random(1, [1, 1, length, dim]), key: unitRows(2, [1, 1, length, dim]), value: random(3, [1, 1, length, valueDim]) };
const writeStrength = random(4, [1, 1, length], sigmoid);
const momentum = random(5, [1, 1, length], (x) => 0.9 * sigmoid(x));
const logDecay = random(6, [1, 1, length], (x) => 0.3 * logSigmoid(x));
const weight = random(7, [1, dim, valueDim], (x) => 0.5 * x);
const given: FastWeightInputs = { ...rows, writeStrength, momentum, logDecay, tables: { weight } };
const zeros = tensor(new Float64Array(length), [1, 1, length]);
const noWeight = { weight: tensor(new Float64Array(dim * valueDim), [1, dim, valueDim]) };

function spread(source: HostTensor, width: number): HostTensor {
  return tensor(Float64Array.from(values(source).flatMap((element) => Array.from({ length: width }, () => element))), [1, 1, length, width]);
}

describe('a linear memory', () => {
  test('without momentum and forgetting it is the delta rule with β = θ', async () => {
    const titans = await run({ rule: titansRule() }, { ...rows, writeStrength, momentum: zeros, logDecay: zeros, tables: noWeight });
    const delta = await run({ rule: deltaRule(), scale: 1 }, { ...rows, writeStrength });
    expectClose(values(titans.output), values(delta.output));
    expectClose(values(titans.state['weight']), values(delta.state['memory']));
  });

  test('without momentum it forgets as RWKV-7 does: the gradient reads the undecayed state', async () => {
    const titans = await run({ rule: titansRule() }, { ...rows, writeStrength, momentum: zeros, logDecay, tables: noWeight });
    const scaled = toFloat64(rows.value).map((element, at) => element * (values(writeStrength)[Math.floor(at / valueDim)] ?? 0));
    const rwkv = await run({ rule: rwkv7Rule(), scale: 1 }, { ...rows, value: tensor(scaled, rows.value.shape), logDecay: spread(logDecay, dim), removalKey: rows.key, removalWeight: spread(writeStrength, dim) });
    expectClose(values(titans.output), values(rwkv.output));
    const gated = await run({ rule: gatedDeltaRule(), scale: 1 }, { ...rows, writeStrength, logDecay });
    expect(values(titans.output)).not.toEqual(values(gated.output));
  });

  test('gradients frozen at the start unroll to weights −θⱼ Σ (β_t/β_i)(m_i/m_j)', async () => {
    const { output, state } = await run({ rule: titansRule({ miniBatch: length }) }, given);
    const [keys, targets, start] = [headOf(rows.key, 0, 0), headOf(rows.value, 0, 0), headOf(tensor(toFloat64(weight), [1, 1, dim, valueDim]), 0, 0)];
    const errors = combine(multiply(keys, start), targets, (read, target) => read - target);
    const [theta, m, g] = [values(writeStrength), values(momentum), values(logDecay)];
    const kept = (from: number, to: number): number => Math.exp(g.slice(from + 1, to + 1).reduce((a, b) => a + b, 0));
    const carried = (from: number, to: number): number => m.slice(from + 1, to + 1).reduce((a, b) => a * b, 1);
    const memoryAt = (t: number): Table => start.map((row, d) => row.map((element, e) => {
      let sum = kept(-1, t) * element;
      for (let j = 0; j <= t; j++) {
        let weightOfGradient = 0;
        for (let i = j; i <= t; i++) weightOfGradient -= (theta[j] ?? 0) * kept(i, t) * carried(j, i);
        sum += weightOfGradient * (keys[j]?.[d] ?? 0) * (errors[j]?.[e] ?? 0);
      }
      return sum;
    }));
    headOf(rows.query, 0, 0).forEach((query, t) => {
      expectClose(headOf(output, 0, 0)[t] ?? [], multiply([query], memoryAt(t))[0] ?? []);
    });
    expectClose(values(state['weight']), memoryAt(length - 1).flat());
  });

  test('θ absorbs the factor 2 of the loss without ½: one step of θ moves by θ · k (v − Mᵀk)ᵀ', async () => {
    const one = (x: readonly number[], shape: readonly number[]): HostTensor => tensor(Float64Array.from(x), shape);
    const { state } = await run({ rule: titansRule() }, {
      query: one([1, 0], [1, 1, 1, 2]), key: one([0, 1], [1, 1, 1, 2]), value: one([3], [1, 1, 1, 1]), writeStrength: one([0.5], [1, 1, 1]), momentum: one([0], [1, 1, 1]), logDecay: one([0], [1, 1, 1]),
      tables: { weight: one([7, 1], [1, 2, 1]) },
    });
    expect(values(state['weight'])).toEqual([7, 2]);
    expect(values(state['weightMomentum'])).toEqual([0, 1]);
  });
});

describe.each(['geluTanh', 'silu'] as const)('a two-layer memory with %s', (activation) => {
  const hidden = 2 * dim;
  const tables = { weight1: random(8, [1, dim, hidden], (x) => 0.4 * x), weight2: random(9, [1, hidden, valueDim], (x) => 0.4 * x) };
  const act = (x: number): number => (activation === 'silu' ? x * sigmoid(x) : 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))));

  test('one token steps down the gradient of ½‖M(k) − v‖², found by differences', async () => {
    const first = { ...given, tables, packed: [0, 1, length] };
    const { state } = await run({ rule: titansRule({ memory: 'mlp', expansion: 2, activation }) }, first);
    const loss = (weights: Readonly<Record<string, Float64Array>>): number => {
      const key = toFloat64(rows.key).subarray(0, dim);
      const inner = Array.from({ length: hidden }, (_, c) => act(key.reduce((sum, element, d) => sum + element * (weights['weight1']?.[d * hidden + c] ?? 0), 0)));
      return toFloat64(rows.value).subarray(0, valueDim).reduce((sum, target, e) => sum + 0.5 * (inner.reduce((out, element, c) => out + element * (weights['weight2']?.[c * valueDim + e] ?? 0), 0) - target) ** 2, 0);
    };
    const before: Readonly<Record<string, Float64Array>> = { weight1: toFloat64(tables.weight1), weight2: toFloat64(tables.weight2) };
    for (const name of ['weight1', 'weight2']) {
      const weights = before[name] ?? new Float64Array(0);
      const expected = [...weights].map((element, at) => {
        const moved = (offset: number): number => loss({ ...before, [name]: weights.map((each, index) => (index === at ? each + offset : each)) });
        const gradient = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        return Math.exp(values(logDecay)[0] ?? 0) * element - (values(writeStrength)[0] ?? 0) * gradient;
      });
      expectClose(values(state[name]).slice(0, weights.length), expected, 1e-9);
    }
  });
});

test.each([1, 2, 4])('streaming is the whole, mini-batch %i', async (miniBatch) => {
  for (const [memory, tables] of [['linear', { weight }], ['mlp', { weight1: random(8, [1, dim, 4 * dim], (x) => 0.3 * x), weight2: random(9, [1, 4 * dim, valueDim], (x) => 0.3 * x) }]] as const) {
    const options = { rule: titansRule({ memory, miniBatch }) };
    const inputs = { ...given, tables };
    const whole = await run(options, inputs);
    for (const ends of [[3, length], [4, 8, length], Array.from({ length }, (_, index) => index + 1)]) {
      const pieces = await runInPieces(options, inputs, ends);
      expectClose(pieces.output, values(whole.output));
      expectSameState(pieces.state, whole.state);
    }
  }
});
