import { tensor, toFloat64, type Backend, type HostTensor } from '@heed/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createBahdanauAttention, createGatedRecurrentUnit } from '../src/index.ts';
import { backends, close, elements, expectClose, plainLinear, Random } from './support.ts';

const [batch, length, stateDim, memoryDim, width] = [2, 5, 6, 4, 7];

/** Rows of e_tj = vᵀ tanh(W s + U h_j + b) as weights over the first `count` annotations, and the context. */
function plainStep(weights: { readonly query: HostTensor; readonly key: HostTensor; readonly vector: HostTensor; readonly bias: HostTensor }, state: Float64Array, memory: Float64Array, count: number) {
  const query = plainLinear(state, weights.query, weights.bias);
  const keys = plainLinear(memory, weights.key);
  const vector = toFloat64(weights.vector);
  const scores = Array.from({ length: count }, (_, j) => vector.reduce((sum, v, channel) => sum + v * Math.tanh(query[channel]! + keys[j * width + channel]!), 0));
  const largest = Math.max(...scores);
  const exponentials = scores.map((score) => Math.exp(score - largest));
  const total = exponentials.reduce((sum, one) => sum + one, 0);
  const row = Array.from({ length: memory.length / memoryDim }, (_, j) => (exponentials[j] ?? 0) / total);
  const context = Array.from({ length: memoryDim }, (_, channel) => row.reduce((sum, weight, j) => sum + weight * memory[j * memoryDim + channel]!, 0));
  return { row, context };
}

describe.each(['reference', 'cpu'] as const)('Bahdanau attention on %s', (name) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends[name]();
  });
  afterAll(async () => close(backend));

  test('weights and contexts are the formula, from keys projected once', async () => {
    const random = new Random(50);
    const weights = { query: random.weight(width, stateDim), key: random.weight(width, memoryDim), vector: random.tensor([width]), bias: random.tensor([width]) };
    const layer = await createBahdanauAttention({ backend, weights, observeWeights: true });
    const memoryRows = random.tensor([batch, length, memoryDim]);
    const lengths = [5, 3];
    const memory = await layer.remember(memoryRows, { lengths });
    const state = random.tensor([batch, 3, stateDim]);
    const attended = await layer.attend(state, memory);
    const [contexts, rows] = [await elements(attended.context), await elements(attended.weights!)];
    for (let sequence = 0; sequence < batch; sequence++) {
      for (let step = 0; step < 3; step++) {
        const at = sequence * 3 + step;
        const want = plainStep(weights, toFloat64(state).subarray(at * stateDim, (at + 1) * stateDim), toFloat64(memoryRows).subarray(sequence * length * memoryDim, (sequence + 1) * length * memoryDim), lengths[sequence]!);
        expectClose(rows.subarray(at * length, (at + 1) * length), want.row);
        expectClose(contexts.subarray(at * memoryDim, (at + 1) * memoryDim), want.context);
      }
    }
    memory.dispose();
    await layer.dispose();
  });

  test('the context enters the step that makes the next state', async () => {
    const random = new Random(51);
    const weights = { query: random.weight(width, stateDim), key: random.weight(width, memoryDim), vector: random.tensor([width]), bias: random.tensor([width]) };
    const inputs = 3;
    const cell = { input: random.weight(3 * stateDim, inputs + memoryDim), state: random.weight(3 * stateDim, stateDim), bias: random.tensor([3 * stateDim]) };
    const layer = await createBahdanauAttention({ backend, weights });
    const unit = createGatedRecurrentUnit(backend.runtime, cell);
    const memoryRows = random.tensor([1, length, memoryDim]);
    const memory = await layer.remember(memoryRows);
    let state = random.tensor([1, 1, stateDim]);
    let want = toFloat64(state);
    for (let step = 0; step < 3; step++) {
      const input = random.tensor([1, 1, inputs]);
      const { context } = plainStep(weights, want, toFloat64(memoryRows), length);
      const fromInput = plainLinear(Float64Array.from([...toFloat64(input), ...context]), cell.input, cell.bias);
      const u = toFloat64(cell.state);
      const product = (first: number, row: number, s: ArrayLike<number>): number => Array.from({ length: stateDim }, (_, channel) => u[(first + row) * stateDim + channel]! * s[channel]!).reduce((a, b) => a + b, 0);
      const logistic = (x: number): number => 1 / (1 + Math.exp(-x));
      const before = want;
      const z = before.map((_, row) => logistic(fromInput[row]! + product(0, row, before)));
      const r = before.map((_, row) => logistic(fromInput[stateDim + row]! + product(stateDim, row, before)));
      const reset = before.map((s, row) => s * r[row]!);
      want = before.map((s, row) => (1 - z[row]!) * s + z[row]! * Math.tanh(fromInput[2 * stateDim + row]! + product(2 * stateDim, row, reset)));
      const got = await layer.step(unit, { input, state, memory });
      expectClose(await elements(got.state), want);
      state = tensor(Float32Array.from(await elements(got.state)), [1, 1, stateDim]);
    }
    memory.dispose();
    unit.dispose();
    await layer.dispose();
  });

  // States and annotations are the unit vectors of their places. With W = U = 2 and b = −3, a channel where both are 1 gives tanh(1), where one is tanh(−1), else tanh(−3): agreeing
  // scores 20 · (tanh(1) + 4 tanh(−3)) = −64.4, and not agreeing 20 · (2 tanh(−1) + 3 tanh(−3)) = −90.2.
  test('a copy task with weights set by hand is aligned along the diagonal', async () => {
    const places = 5;
    const scaled = (factor: number): HostTensor => tensor(Float32Array.from({ length: places * places }, (_, index) => (index % (places + 1) === 0 ? factor : 0)), [places, places]);
    const units = tensor(Float32Array.from({ length: places * places }, (_, index) => (index % (places + 1) === 0 ? 1 : 0)), [1, places, places]);
    const bias = tensor(new Float32Array(places).fill(-3), [places]);
    const layer = await createBahdanauAttention({ backend, observeWeights: true, weights: { query: scaled(2), key: scaled(2), vector: tensor(new Float32Array(places).fill(20), [places]), bias } });
    const memory = await layer.remember(units);
    const { weights, context } = await layer.attend(units, memory);
    const rows = await elements(weights!);
    for (let step = 0; step < places; step++) expect(Array.from(rows.subarray(step * places, (step + 1) * places)).map((weight) => Math.round(weight * 1e4) / 1e4)).toEqual(Array.from({ length: places }, (_, j) => (j === step ? 1 : 0)));
    expectClose(await elements(context), toFloat64(units), 1e-4);
    memory.dispose();
    await layer.dispose();
  });
});
