import { describe, expect, test } from 'vitest';
import { additiveRule, inPlaceRule, tensor, toFloat64 } from '../../src/index.ts';
import type { FastWeightInputs, HostTensor } from '../../src/index.ts';
import type { Table } from './helpers.ts';
import { combine, expectClose, expectSameState, headOf, multiply, random, rowsOf, run, runInPieces, tokens, transpose, values } from './helpers.ts';

const length = 22;
const hidden = 6;
const dim = 4;
const chunk = 5;
const taps = 5;

const activations = random(1, [1, 1, length, hidden]);
const targets = random(2, [1, 1, length, dim]);
const weight = random(3, [1, hidden, dim]);
const convolution = random(4, [dim, taps]);
const projection = random(5, [1, dim, dim]);
const given: FastWeightInputs = { query: activations, key: activations, value: targets, tables: { weight, convolution, projection } };
const rule = inPlaceRule({ chunk, projection: true, learningRate: 0.2 });

const asTable = (source: HostTensor, rows: number, columns: number): Table => headOf(tensor(toFloat64(source), [1, 1, rows, columns]), 0, 0);

/** Plain MLP: H Wᵀ with the weights of the table. */
const plain = multiply(headOf(activations, 0, 0), asTable(weight, hidden, dim));

describe('In-Place TTT', () => {
  test('no more tokens than a chunk: the plain down-projection', async () => {
    const { output, state } = await run({ rule }, tokens(given, 0, chunk));
    expectClose(values(output), plain.slice(0, chunk).flat(), 1e-14);
    expect(values(state['weight'])).not.toEqual(values(weight));
    const short = await run({ rule }, tokens(given, 0, chunk - 1));
    expect(values(short.state['weight'])).toEqual(values(weight));
  });

  test('a convolution of zeros leaves the base model exactly as it is', async () => {
    const { output, state } = await run({ rule }, { ...given, tables: { weight, projection, convolution: tensor(new Float64Array(dim * taps), [dim, taps]) } });
    const still = await run({ rule: inPlaceRule({ chunk: 1024, taps: null }) }, { ...given, tables: { weight } });
    expect(values(output)).toEqual(values(still.output));
    expect(values(state['weight'])).toEqual(values(weight));
  });

  test('the second chunk reads one update of rank at most the chunk: W + η (X̂P)ᵀH', async () => {
    const { output } = await run({ rule }, given);
    // X̂ by the definition: channel by channel, zeros outside the chunk.
    const x = headOf(targets, 0, 0).slice(0, chunk);
    const taken = asTable(convolution, dim, taps);
    const convolved = x.map((row, t) => row.map((_, c) => (taken[c] ?? []).reduce((sum, factor, n) => sum + factor * (x[t + n - 2]?.[c] ?? 0), 0)));
    const update = multiply(transpose(headOf(activations, 0, 0).slice(0, chunk)), multiply(convolved, asTable(projection, dim, dim)));
    const updated = combine(asTable(weight, hidden, dim), update, (a, b) => a + 0.2 * b);
    expectClose(headOf(output, 0, 0).slice(chunk, 2 * chunk).flat(), multiply(headOf(activations, 0, 0).slice(chunk, 2 * chunk), updated).flat());
  });

  test('without a convolution the order of tokens inside a chunk changes nothing later', async () => {
    const options = { rule: inPlaceRule({ chunk, taps: null }) };
    const swap = (source: HostTensor): HostTensor => {
      const data = toFloat64(source);
      const width = source.shape[3] ?? 1;
      return tensor(Float64Array.from([1, 0, 4, 2, 3].flatMap((row) => [...data.subarray(row * width, (row + 1) * width)]).concat([...data.subarray(chunk * width)])), source.shape);
    };
    const before = await run(options, { ...given, tables: { weight } });
    const after = await run(options, { query: activations, key: swap(activations), value: swap(targets), tables: { weight } });
    expectClose(values(after.output), values(before.output));
  });

  test('without a convolution and in chunks of one it is linear attention that reads before it writes', async () => {
    const { output, state } = await run({ rule: inPlaceRule({ chunk: 1, taps: null, learningRate: 1 }) }, { ...given, tables: { weight } });
    const linear = await run({ rule: additiveRule(), scale: 1 }, { query: activations, key: activations, value: targets, state: { memory: tensor(toFloat64(weight), [1, 1, hidden, dim]) } });
    expectClose(values(state['weight']), values(linear.state['memory']));
    const own = headOf(activations, 0, 0).map((row, t) => (headOf(targets, 0, 0)[t] ?? []).map((element) => element * row.reduce((sum, each) => sum + each * each, 0)));
    expectClose(headOf(output, 0, 0).flat(), combine(headOf(linear.output, 0, 0), own, (a, b) => a - b).flat());
  });

  test('streaming is the whole', async () => {
    const whole = await run({ rule }, given);
    for (const ends of [[3, length], [5, 10, length], [7, 8, 9, length], Array.from({ length }, (_, index) => index + 1)]) {
      const pieces = await runInPieces({ rule }, given, ends);
      expect(pieces.output).toEqual(values(whole.output));
      expectSameState(pieces.state, whole.state, 0);
    }
    expect(values(whole.state['filled'])).toEqual([length % chunk]);
  });

  test('documents begin with the table again', async () => {
    const packed = await run({ rule }, { ...given, packed: [0, 8, length] });
    for (const [index, [first, last]] of ([[0, 8], [8, length]] as const).entries()) {
      const alone = await run({ rule }, tokens(given, first, last));
      expect(values(rowsOf(packed.output, first, last))).toEqual(values(alone.output));
      expect(values(packed.state['weight']).slice(index * hidden * dim, (index + 1) * hidden * dim)).toEqual(values(alone.state['weight']));
    }
  });

  test('a token reaches only later chunks, its targets too', async () => {
    const whole = await run({ rule }, given);
    const changed = toFloat64(targets);
    changed.fill(50, 7 * dim, 8 * dim);
    const after = await run({ rule }, { ...given, value: tensor(changed, targets.shape) });
    expect(values(after.output).slice(0, 10 * dim)).toEqual(values(whole.output).slice(0, 10 * dim));
    expect(values(after.output).slice(10 * dim)).not.toEqual(values(whole.output).slice(10 * dim));
  });
});
