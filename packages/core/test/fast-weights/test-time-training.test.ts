import { describe, expect, test } from 'vitest';
import { rope, tensor, toFloat64, tttLinearRule, tttMlpRule } from '../../src/index.ts';
import type { FastWeightInputs, GradientRule, HostTensor } from '../../src/index.ts';
import type { Table } from './helpers.ts';
import { combine, expectClose, expectSameState, headOf, multiply, random, run, runInPieces, sigmoid, tokens, transpose, values } from './helpers.ts';

const heads = 2;
const length = 21;
const dim = 4;
const hidden = 16;
const miniBatch = 8;
const epsilon = 1e-6;

const inputs: FastWeightInputs = {
  query: random(1, [1, heads, length, dim]),
  key: random(2, [1, heads, length, dim]),
  value: random(3, [1, heads, length, dim]),
  writeStrength: random(4, [1, heads, length], sigmoid),
};
const norms = { normGain: random(5, [heads, dim], (x) => 1 + 0.1 * x), normShift: random(6, [heads, dim]) };
const tokenRate = random(7, [miniBatch], (x) => 0.1 * x);
const small = (x: number): number => 0.3 * x;
const linearTables = { ...norms, tokenRate, weight: random(8, [heads, dim, dim], small), bias: random(9, [heads, dim], small) };
const mlpTables = {
  ...norms,
  tokenRate,
  weight1: random(10, [heads, dim, hidden], small),
  bias1: random(11, [heads, hidden], small),
  weight2: random(12, [heads, hidden, dim], small),
  bias2: random(13, [heads, dim], small),
};

const options = { miniBatch, tokenRate: true, learningRate: 0.7 };
const linear = { rule: tttLinearRule(options), inputs: { ...inputs, tables: linearTables } };
const mlp = { rule: tttMlpRule(options), inputs: { ...inputs, tables: mlpTables } };

// ── The dual form, written with matrices over a whole mini-batch (Sun 2024, section 2.5) ───────────────────────────────

function standardize(row: readonly number[]): { readonly unit: readonly number[]; readonly deviation: number } {
  const mean = row.reduce((a, b) => a + b, 0) / row.length;
  const deviation = Math.sqrt(row.reduce((sum, element) => sum + (element - mean) ** 2, 0) / row.length + epsilon);
  return { unit: row.map((element) => (element - mean) / deviation), deviation };
}

const gelu = (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
/** Of gelu, by a difference quotient: nothing of the code under test. */
const geluSlope = (x: number): number => (gelu(x + 1e-6) - gelu(x - 1e-6)) / 2e-6;

interface Norm {
  readonly gain: readonly number[];
  readonly shift: readonly number[];
}

/** Gradient of ½‖norm(z) − target‖² by each row z. */
function outputGradients(z: Table, target: Table, { gain, shift }: Norm): Table {
  return z.map((row, index) => {
    const { unit, deviation } = standardize(row);
    const inner = unit.map((element, c) => (gain[c] ?? 0) * ((gain[c] ?? 0) * element + (shift[c] ?? 0) - (target[index]?.[c] ?? 0)));
    const mean = inner.reduce((a, b) => a + b, 0) / row.length;
    const along = inner.reduce((sum, element, c) => sum + element * (unit[c] ?? 0), 0) / row.length;
    return inner.map((element, c) => (element - mean - (unit[c] ?? 0) * along) / deviation);
  });
}

function plusRow(a: Table, row: readonly number[]): Table {
  return a.map((each) => each.map((element, c) => element + (row[c] ?? 0)));
}

function subtract(a: Table, b: Table): Table {
  return combine(a, b, (x, y) => x - y);
}

/** z̄ = x̄ W + b − (tril(x̄ xᵀ) ⊙ η) u − η u, with η already lower triangular. */
function dualLayer(queries: Table, rows: Table, weight: Table, bias: readonly number[], u: Table, eta: Table): Table {
  const products = combine(multiply(queries, transpose(rows)), eta, (product, rate) => (product + 1) * rate);
  return subtract(plusRow(multiply(queries, weight), bias), multiply(products, u));
}

function lastWeights(rows: Table, weight: Table, bias: readonly number[], u: Table, eta: Table): { readonly weight: Table; readonly bias: readonly number[] } {
  const last = eta.at(-1) ?? [];
  const scaled = u.map((row, j) => row.map((element) => (last[j] ?? 0) * element));
  return {
    weight: subtract(weight, multiply(transpose(rows), scaled)),
    bias: bias.map((element, c) => element - scaled.reduce((sum, row) => sum + (row[c] ?? 0), 0)),
  };
}

/** η_ij = max(1/i + δ_i, 0) · rate · strength_j / dim for j ≤ i. */
function rates(strengths: readonly number[]): Table {
  const rows = values(tokenRate);
  return strengths.map((_, i) => strengths.map((strength, j) => (j > i ? 0 : (Math.max(1 / (i + 1) + (rows[i] ?? 0), 0) * 0.7 * strength) / dim)));
}

function dual(rule: GradientRule, given: FastWeightInputs, head: number): Table {
  const table = (name: string): Table => {
    const source = given.tables?.[name] as HostTensor;
    const [, from = 1, to = from] = source.shape;
    const data = toFloat64(source);
    const isRow = source.shape.length === 2;
    return Array.from({ length: isRow ? 1 : from }, (_, row) => [...data.subarray((head * (isRow ? 1 : from) + row) * to, (head * (isRow ? 1 : from) + row + 1) * to)]);
  };
  const norm = { gain: table('normGain')[0] ?? [], shift: table('normShift')[0] ?? [] };
  const isLinear = rule.model.layers === 1;
  let [weight1, bias1] = [table(isLinear ? 'weight' : 'weight1'), table(isLinear ? 'bias' : 'bias1')[0] ?? []];
  let [weight2, bias2] = isLinear ? [[] as Table, [] as readonly number[]] : [table('weight2'), table('bias2')[0] ?? []];
  const output: (readonly number[])[] = [];
  for (let first = 0; first < length; first += miniBatch) {
    const batch = tokens(given, first, Math.min(length, first + miniBatch));
    const [query, key, value] = [headOf(batch.query, 0, head), headOf(batch.key, 0, head), headOf(batch.value, 0, head)];
    const strengths = headOf(tensor(toFloat64(batch.writeStrength as HostTensor), [1, heads, key.length, 1]), 0, head).map((row) => row[0] ?? 0);
    const eta = rates(strengths);
    const target = subtract(value, key);
    const z1 = plusRow(multiply(key, weight1), bias1);
    let read: Table;
    if (isLinear) {
      const u = outputGradients(z1, target, norm);
      read = dualLayer(query, key, weight1, bias1, u, eta);
      ({ weight: weight1, bias: bias1 } = lastWeights(key, weight1, bias1, u, eta));
    } else {
      const x2 = z1.map((row) => row.map(gelu));
      const u2 = outputGradients(plusRow(multiply(x2, weight2), bias2), target, norm);
      const u1 = combine(multiply(u2, transpose(weight2)), z1, (outer, z) => outer * geluSlope(z));
      const queryHidden = dualLayer(query, key, weight1, bias1, u1, eta).map((row) => row.map(gelu));
      read = dualLayer(queryHidden, x2, weight2, bias2, u2, eta);
      ({ weight: weight1, bias: bias1 } = lastWeights(key, weight1, bias1, u1, eta));
      ({ weight: weight2, bias: bias2 } = lastWeights(x2, weight2, bias2, u2, eta));
    }
    read.forEach((row, index) => {
      output.push(standardize(row).unit.map((element, c) => (query[index]?.[c] ?? 0) + (norm.gain[c] ?? 0) * element + (norm.shift[c] ?? 0)));
    });
  }
  return output;
}

describe.each([['TTT-Linear', linear], ['TTT-MLP', mlp]] as const)('%s', (_name, { rule, inputs: given }) => {
  test('the primal form is the dual form', async () => {
    const { output } = await run({ rule }, given);
    for (let head = 0; head < heads; head++) expectClose(headOf(output, 0, head).flat(), dual(rule, given, head).flat(), rule.model.layers === 1 ? 1e-12 : 1e-8);
  });

  test('any split into a state and the rest gives the same', async () => {
    const whole = await run({ rule }, given);
    for (const ends of [[1, length], [8, 16, length], [5, 11, 12, length], Array.from({ length }, (_unused, index) => index + 1)]) {
      const pieces = await runInPieces({ rule }, given, ends);
      expectClose(pieces.output, values(whole.output));
      expectSameState(pieces.state, whole.state);
    }
    expect(values(whole.state['filled'])).toEqual([length % miniBatch]);
  });

  test('packed sequences each begin with the tables', async () => {
    const packed = await run({ rule }, { ...given, packed: [0, 10, length] });
    const [first, second] = [await run({ rule }, tokens(given, 0, 10)), await run({ rule }, tokens(given, 10, length))];
    for (let head = 0; head < heads; head++) expect(headOf(packed.output, 0, head)).toEqual([...headOf(first.output, 0, head), ...headOf(second.output, 0, head)]);
    expect(values(packed.state['filled'])).toEqual([2, 3]);
    const name = rule.model.layers === 1 ? 'weight' : 'weight2';
    expect(values(packed.state[name])).toEqual([...values(first.state[name]), ...values(second.state[name])]);
  });

  test('with a strength of 0 nothing is learned', async () => {
    const none = tensor(new Float64Array(heads * length), [1, heads, length]);
    const { state } = await run({ rule }, { ...given, writeStrength: none });
    for (const [name, table] of Object.entries(given.tables)) if (name in state) expect(values(state[name])).toEqual(values(table));
  });
});

test('rotary positions start again with the mini-batch', async () => {
  const turn = rope({ pairing: 'interleaved' });
  const turned = (source: HostTensor): HostTensor => {
    const data = toFloat64(source);
    for (let at = 0; at < data.length; at += 2) {
      const angle = (Math.floor(at / dim) % length % miniBatch) * 10000 ** (-(at % dim) / dim);
      const [a = 0, b = 0] = data.subarray(at, at + 2);
      data.set([a * Math.cos(angle) - b * Math.sin(angle), a * Math.sin(angle) + b * Math.cos(angle)], at);
    }
    return tensor(data, source.shape);
  };
  const inside = await run({ rule: linear.rule, transformQuery: [turn], transformKey: [turn] }, linear.inputs);
  const before = await run({ rule: linear.rule }, { ...linear.inputs, query: turned(inputs.query as HostTensor), key: turned(inputs.key as HostTensor) });
  expectClose(values(inside.output), values(before.output));
});

test('a mini-batch of one takes a step at every token and carries the weights alone', async () => {
  const { tokenRate: _unused, ...tables } = linearTables;
  const { state } = await run({ rule: tttLinearRule({ miniBatch: 1 }) }, { ...inputs, tables });
  expect(Object.keys(state).sort()).toEqual(['bias', 'weight']);
});
