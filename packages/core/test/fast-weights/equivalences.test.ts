import { describe, expect, test } from 'vitest';
import {
  additiveRule, attention, causal, cosformer, decayRule, deltaRule, eluFeatures, fastWeights, gatedDeltaRule, modifier, none, projection, rowSum, scaledDot, tensor, titansRule, toFloat64,
} from '../../src/index.ts';
import type { AttentionInputs, AttentionVariant, HostTensor } from '../../src/index.ts';
import { ReferenceKernel } from '../../src/reference/attention/kernel.ts';
import { prepareFastWeights } from '../../src/reference/fast-weights/kernel.ts';
import type { Table } from './helpers.ts';
import { combine, expectClose, headOf, multiply, normal, random, rowsOf, run, sigmoid, transpose, unitRows, values } from './helpers.ts';

const heads = 2;
const length = 9;
const dim = 4;
const valueDim = 3;
const rows = { query: random(1, [2, heads, length, dim]), key: unitRows(2, [2, heads, length, dim]), value: random(3, [2, heads, length, valueDim]) };

async function pairwise(variant: AttentionVariant, inputs: AttentionInputs = rows): Promise<readonly number[]> {
  const kernel = new ReferenceKernel({ variant, queryDim: dim, keyDim: dim, valueDim, dtypes: { query: 'f64', key: 'f64', value: 'f64' } }, () => false);
  return values((await kernel.run(inputs)).output);
}

describe('linear attention has two readings: pairs, and fast weights', () => {
  test('no normalization', async () => {
    const pairs = await pairwise(attention({ scoring: scaledDot(), masking: causal(), normalization: none() }));
    expectClose(values((await run({ rule: additiveRule() }, rows)).output), pairs);
  });

  test('a feature map and its row sum, ε and scale included', async () => {
    const map = eluFeatures();
    for (const epsilon of [0, 1e-6, 0.7]) {
      const pairs = await pairwise(attention({ scoring: scaledDot({ scale: 0.3 }).transform(map), masking: causal(), normalization: rowSum({ epsilon }) }));
      const fast = await run({ rule: additiveRule(), scale: 0.3, transformQuery: [map], transformKey: [map], rowSum: { epsilon } }, rows);
      expectClose(values(fast.output), pairs);
    }
  });

  test('the default ε and the default scale', async () => {
    const map = eluFeatures();
    const pairs = await pairwise(attention({ scoring: scaledDot().transform(map), masking: causal(), normalization: rowSum() }));
    expectClose(values((await run({ rule: additiveRule(), transformQuery: [map], transformKey: [map], rowSum: true }, rows)).output), pairs);
  });

  test('a feature map that reads positions, continued from a state at an offset', async () => {
    const map = cosformer({ horizon: 32 });
    const pairs = await pairwise(attention({ scoring: scaledDot().transform(map), masking: causal(), normalization: rowSum() }), { ...rows, queryOffset: 5, keyOffset: 5 });
    expectClose(values((await run({ rule: additiveRule(), transformQuery: [map], transformKey: [map], rowSum: true }, { ...rows, offset: 5 })).output), pairs);
  });

  test('a feature map that reads positions, in packed sequences', async () => {
    const map = cosformer({ horizon: 32 });
    const [query, key, value] = [rowsOf(rows.query, 0, length), rowsOf(rows.key, 0, length), rowsOf(rows.value, 0, length)].map((source) => tensor(toFloat64(source).slice(0, source.strides[0]), [1, ...source.shape.slice(1)])) as [HostTensor, HostTensor, HostTensor];
    const starts = [0, 4, length];
    const pairs = await pairwise(attention({ scoring: scaledDot().transform(map), masking: causal(), normalization: rowSum() }), { query, key, value, packed: { query: starts, key: starts } });
    expectClose(values((await run({ rule: additiveRule(), transformQuery: [map], transformKey: [map], rowSum: true }, { query, key, value, packed: starts })).output), pairs);
  });

  test('a projection for each head', async () => {
    const [query, key] = [projection({ width: 5, table: 'q', perHead: 'head', axis: 'queryDim' }), projection({ width: 5, table: 'k', perHead: 'keyHead', axis: 'keyDim' })];
    const tables = { q: random(5, [heads, 5, dim]), k: random(6, [heads, 5, dim]) };
    const pairs = await pairwise(attention({ scoring: scaledDot().transformQuery(query).transformKey(key), masking: causal(), normalization: none() }), { ...rows, tables });
    expectClose(values((await run({ rule: additiveRule(), transformQuery: [query], transformKey: [key] }, { ...rows, tables })).output), pairs);
  });

  test('a constant decay is a factor γ^(distance) of the scores', async () => {
    const gamma = 0.8;
    const fading = modifier('fading', ({ score, queryPosition, keyPosition, uniform }) => score.mul(uniform('gamma', gamma).pow(queryPosition.sub(keyPosition).toF32())));
    const pairs = await pairwise(attention({ scoring: scaledDot().modify(fading), masking: causal(), normalization: none() }));
    const logDecay = tensor(Float64Array.of(Math.log(gamma)), [1, 1, 1]);
    expectClose(values((await run({ rule: decayRule({ by: 'head' }) }, { ...rows, logDecay })).output), pairs);
    expectClose(values((await run({ rule: decayRule({ by: 'step' }) }, { ...rows, logDecay })).output), pairs);
  });
});

describe('a rule is a step of gradient descent on ½‖kW − v‖² from W = 0', () => {
  const one = { query: random(7, [1, 1, length, dim]), key: unitRows(8, [1, 1, length, dim]), value: random(9, [1, 1, length, valueDim]) };
  const strengths = normal(10, length).map(sigmoid);
  const writeStrength = tensor(strengths, [1, 1, length]);
  const [keys, targets, queries] = [headOf(one.key, 0, 0), headOf(one.value, 0, 0), headOf(one.query, 0, 0)];
  const zero: Table = keys[0]?.map(() => targets[0]?.map(() => 0) ?? []) ?? [];

  /** W − rate · kᵀ(kW − v), the gradient taken at `at`. */
  function descend(from: Table, at: Table, token: number, rate: number): Table {
    const key = [keys[token] ?? []];
    const error = combine(multiply(key, at), [targets[token] ?? []], (read, target) => read - target);
    return combine(from, multiply(transpose(key), error), (weight, gradient) => weight - rate * gradient);
  }

  function train(step: (weights: Table, token: number) => Table): readonly number[] {
    let weights = zero;
    return queries.flatMap((query, token) => {
      weights = step(weights, token);
      return multiply([query], weights)[0] ?? [];
    });
  }

  test('at the initial weights with rate 1: linear attention', async () => {
    const expected = train((weights, token) => descend(weights, zero, token, 1));
    expectClose(values((await run({ rule: additiveRule(), scale: 1 }, one)).output), expected);
    const [ones, zeros] = [tensor(new Float64Array(length).fill(1), [1, 1, length]), tensor(new Float64Array(length), [1, 1, length])];
    const weight = tensor(new Float64Array(dim * valueDim), [1, dim, valueDim]);
    const titans = await run({ rule: titansRule({ miniBatch: length }) }, { ...one, writeStrength: ones, momentum: zeros, logDecay: zeros, tables: { weight } });
    expectClose(values(titans.output), expected);
  });

  test('at the current weights: the delta rule with β = rate', async () => {
    const expected = train((weights, token) => descend(weights, weights, token, strengths[token] ?? 0));
    expectClose(values((await run({ rule: deltaRule(), scale: 1 }, { ...one, writeStrength })).output), expected);
  });

  test('with weight decay α before the step: the gated delta rule with e^g = 1 − α', async () => {
    const alpha = normal(11, length).map((x) => 0.5 * sigmoid(x));
    const logDecay = tensor(alpha.map((each) => Math.log1p(-each)), [1, 1, length]);
    const expected = train((weights, token) => {
      const decayed = weights.map((row) => row.map((element) => (1 - (alpha[token] ?? 0)) * element));
      return descend(decayed, decayed, token, strengths[token] ?? 0);
    });
    expectClose(values((await run({ rule: gatedDeltaRule(), scale: 1 }, { ...one, logDecay, writeStrength })).output), expected);
  });
});

test('a state-space layer: Mamba-2 is the decayed rule with strength Δ, decay ΔA, key B, query C', async () => {
  // Dao 2024, equation 1, as a recurrence over a scalar-times-identity A: h ← e^(ΔA) h + Δ B xᵀ, y = Cᵀh.
  const delta = normal(12, heads * length).map((x) => Math.log1p(Math.exp(x)));
  const a = [-0.5, -1.5];
  const x = random(13, [1, heads, length, valueDim]);
  const [b, c] = [random(14, [1, 1, length, dim]), random(15, [1, 1, length, dim])];
  const logDecay = tensor(delta.map((each, at) => each * (a[Math.floor(at / length)] ?? 0)), [1, heads, length]);
  const result = await run({ rule: decayRule({ by: 'step', strength: true }), scale: 1 }, { query: c, key: b, value: x, logDecay, writeStrength: tensor(delta, [1, heads, length]) });
  for (let head = 0; head < heads; head++) {
    let h: Table = Array.from({ length: dim }, () => new Array<number>(valueDim).fill(0));
    const y = headOf(c, 0, 0).map((cRow, t) => {
      const step = delta[head * length + t] ?? 0;
      const written = multiply(transpose([headOf(b, 0, 0)[t] ?? []]), [headOf(x, 0, head)[t] ?? []]);
      h = combine(h, written, (old, added) => Math.exp(step * (a[head] ?? 0)) * old + step * added);
      return multiply([cRow], h)[0] ?? [];
    });
    expectClose(headOf(result.output, 0, head).flat(), y.flat());
  }
});

test('dtypes: the output is of the query’s type unless asked otherwise, the state f64', async () => {
  const f32 = (source: HostTensor): HostTensor => tensor(Float32Array.from(toFloat64(source)), source.shape);
  const inputs = { query: f32(rows.query), key: f32(rows.key), value: f32(rows.value) };
  const same = await (await prepareFastWeights({ variant: fastWeights({ rule: additiveRule() }), dim, valueDim })).run(inputs);
  expect([same.output.dtype, same.state['memory']?.dtype]).toEqual(['f32', 'f64']);
  const half = await (await prepareFastWeights({ variant: fastWeights({ rule: additiveRule() }), dim, valueDim, dtypes: { output: 'bf16' } })).run(inputs);
  expect(half.output.dtype).toBe('bf16');
  expectClose(values(half.output), values(same.output), 2 ** -8);
});
