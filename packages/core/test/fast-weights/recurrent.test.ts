import { describe, expect, test } from 'vitest';
import { additiveRule, decayRule, deltaRule, fastWeights, gatedDeltaRule, kdaRule, recurrentRule, retentionLogDecay, rope, rwkv7Rule, tensor, toFloat64 } from '../../src/index.ts';
import type { FastWeightInputs, FastWeightRule, HostTensor } from '../../src/index.ts';
import type { Table } from './helpers.ts';
import { expectClose, expectSameState, headOf, logSigmoid, multiply, random, rowsOf, run, runInPieces, sigmoid, tokens, transpose, unitRows, values } from './helpers.ts';
import type { SegmentMap } from './chunked.ts';
import { applyMap, chunkForm, chunkOf, compose } from './chunked.ts';

const heads = 2;
const length = 19;
const dim = 5;
const valueDim = 3;

const query = random(1, [1, heads, length, dim]);
const key = unitRows(2, [1, heads, length, dim]);
const value = random(3, [1, heads, length, valueDim]);
const writeStrength = random(4, [1, heads, length], sigmoid);
const byStep = random(5, [1, heads, length], logSigmoid);
const byChannel = random(6, [1, heads, length, dim], logSigmoid);
const removalKey = unitRows(7, [1, heads, length, dim]);
const removalWeight = random(8, [1, heads, length, dim], sigmoid);

interface Case {
  readonly rule: FastWeightRule;
  readonly inputs: FastWeightInputs;
  /** Whether the chunk form solves a triangular system; null: it is no member of that family. */
  readonly isDelta: boolean | null;
}

const rows = { query, key, value };
const cases: readonly (readonly [string, Case])[] = [
  ['additive', { rule: additiveRule(), inputs: rows, isDelta: false }],
  ['decay by head', { rule: decayRule({ by: 'head' }), inputs: { ...rows, logDecay: tensor(Float64Array.from(retentionLogDecay(heads)), [1, heads, 1]) }, isDelta: false }],
  ['decay by step with a strength', { rule: decayRule({ by: 'step', strength: true }), inputs: { ...rows, logDecay: byStep, writeStrength }, isDelta: false }],
  ['decay by channel', { rule: decayRule({ by: 'channel' }), inputs: { ...rows, logDecay: byChannel }, isDelta: false }],
  ['delta', { rule: deltaRule(), inputs: { ...rows, writeStrength }, isDelta: true }],
  ['gated delta', { rule: gatedDeltaRule(), inputs: { ...rows, logDecay: byStep, writeStrength }, isDelta: true }],
  ['KDA', { rule: kdaRule(), inputs: { ...rows, logDecay: byChannel, writeStrength }, isDelta: true }],
  ['RWKV-7', { rule: rwkv7Rule(), inputs: { ...rows, logDecay: byChannel, removalKey, removalWeight }, isDelta: null }],
];
const initial = { memory: random(9, [1, heads, dim, valueDim]) };

describe('the recurrence is its chunk form', () => {
  const family = cases.filter(([, { isDelta }]) => isDelta !== null);
  test.each(family)('%s, chunks of 1, 3, 16 and all', async (_name, { rule, inputs, isDelta }) => {
    const result = await run({ rule, scale: 0.5 }, { ...inputs, state: initial });
    for (const size of [1, 3, 16, length]) {
      for (let head = 0; head < heads; head++) {
        let memory: Table = headOf(initial.memory, 0, head);
        const output: number[] = [];
        for (let first = 0; first < length; first += size) {
          const form = chunkForm(chunkOf(inputs, head, first, Math.min(length, first + size)), isDelta === true);
          output.push(...form.read(memory).flat().map((element) => 0.5 * element));
          memory = applyMap(form.map, memory);
        }
        expectClose(headOf(result.output, 0, head).flat(), output, 1e-11);
        expectClose(headOf(result.state['memory'] ?? result.output, 0, head).flat(), memory.flat(), 1e-11);
      }
    }
  });

  test('the maps of segments compose to the map of the whole, in any grouping', async () => {
    const { inputs, rule } = cases.find(([name]) => name === 'KDA')?.[1] ?? { inputs: rows, rule: additiveRule() };
    const whole = await run({ rule }, { ...inputs, state: initial });
    const segment = (first: number, last: number): SegmentMap => chunkForm(chunkOf(inputs, 1, first, last), true).map;
    const [a, b, c] = [segment(0, 4), segment(4, 11), segment(11, length)];
    const identityMap: SegmentMap = { m: [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]], n: a.n.map((row) => row.map(() => 0)) };
    for (const map of [compose(c, compose(b, a)), compose(compose(c, b), a), compose(compose(c, b), compose(a, identityMap))]) {
      expectClose(applyMap(map, headOf(initial.memory, 0, 1)).flat(), headOf(whole.state['memory'] ?? whole.output, 0, 1).flat(), 1e-11);
    }
  });
});

describe('a state carries all that was', () => {
  test.each(cases)('%s: any split into a state and the rest gives the same', async (_name, { rule, inputs }) => {
    const whole = await run({ rule }, { ...inputs, state: initial });
    for (const ends of [[1, length], [7, 7, length], [18, length], Array.from({ length }, (_, index) => index + 1)]) {
      const pieces = await runInPieces({ rule }, { ...inputs, state: initial }, ends);
      expectClose(pieces.output, values(whole.output), 1e-14);
      expectSameState(pieces.state, whole.state, 1e-14);
    }
  });

  test('the row sum and row transforms that read positions too', async () => {
    const options = { rule: decayRule({ by: 'step' as const }), rowSum: { epsilon: 5 }, transformQuery: [rope({ pairing: 'interleaved', width: 4 })], transformKey: [rope({ pairing: 'interleaved', width: 4 })] };
    const inputs = { ...rows, logDecay: byStep };
    const whole = await run(options, inputs);
    const pieces = await runInPieces(options, inputs, [6, 7, length]);
    expectClose(pieces.output, values(whole.output));
    expectSameState(pieces.state, whole.state);
  });

  test.each(cases)('%s: packed sequences begin anew, and their states come back one by one', async (_name, { rule, inputs }) => {
    const starts = [0, 6, 6, 7, length];
    const size = heads * dim * valueDim;
    const state = { memory: random(10, [4, heads, dim, valueDim]) };
    const packed = await run({ rule }, { ...inputs, packed: starts, state });
    for (let sequence = 0; sequence < 4; sequence++) {
      const [first = 0, last = 0] = starts.slice(sequence, sequence + 2);
      const own = tensor(toFloat64(state.memory).slice(sequence * size, (sequence + 1) * size), [1, heads, dim, valueDim]);
      const alone = await run({ rule }, { ...tokens(inputs, first, last), state: { memory: own } });
      expect(values(rowsOf(packed.output, first, last))).toEqual(values(alone.output));
      expect(values(packed.state['memory']).slice(sequence * size, (sequence + 1) * size)).toEqual(values(alone.state['memory']));
    }
  });

  test('a log decay of −∞ is a document boundary', async () => {
    const boundary = 8;
    // RWKV-7 removes what it recalled before the decay, so its first token after a boundary still sees the past.
    for (const [, { rule, inputs }] of cases.filter(([name, { inputs }]) => inputs.logDecay?.shape[2] === length && name !== 'RWKV-7')) {
      const shape = inputs.logDecay?.shape ?? [];
      const width = shape[3] ?? 1;
      const reset = toFloat64(inputs.logDecay as HostTensor);
      for (let head = 0; head < heads; head++) reset.fill(-Infinity, (head * length + boundary) * width, (head * length + boundary + 1) * width);
      const joined = await run({ rule }, { ...inputs, logDecay: tensor(reset, shape) });
      const apart = await run({ rule }, { ...inputs, packed: [0, boundary, length] });
      expectClose(values(joined.output), values(apart.output));
      expectClose(values(joined.state['memory']), values(apart.state['memory']).slice(-heads * dim * valueDim));
    }
  });

  test('−∞ clears even a state that is not finite', async () => {
    const logDecay = tensor(Float64Array.of(-Infinity), [1, 1, 1]);
    const one = tensor(Float64Array.of(2), [1, 1, 1, 1]);
    const { state } = await run({ rule: decayRule({ by: 'step' }) }, { query: one, key: one, value: one, logDecay, state: { memory: tensor(Float64Array.of(Number.NaN), [1, 1, 1, 1]) } });
    expect(values(state['memory'])).toEqual([4]);
  });
});

describe('what the rules promise', () => {
  const orthonormal = tensor(Float64Array.of(0.6, 0.8, 0, -0.8, 0.6, 0, 0, 0, 1), [1, 1, 3, 3]);
  const stored = random(11, [1, 1, 3, 2]);
  const ones = tensor(Float64Array.of(1, 1, 1), [1, 1, 3]);

  test('without decay and removal it is the lower triangle of QKᵀ times V', async () => {
    const result = await run({ rule: additiveRule(), scale: 0.3 }, rows);
    for (let head = 0; head < heads; head++) {
      const scores = multiply(headOf(query, 0, head), transpose(headOf(key, 0, head))).map((row, i) => row.map((score, j) => (j <= i ? 0.3 * score : 0)));
      expectClose(headOf(result.output, 0, head).flat(), multiply(scores, headOf(value, 0, head)).flat());
    }
  });

  test('the scale is 1/√width unless given', async () => {
    const one = await run({ rule: additiveRule(), scale: 1 }, rows);
    const scaled = await run({ rule: additiveRule() }, rows);
    expectClose(values(scaled.output), values(one.output).map((element) => element / Math.sqrt(dim)));
  });

  test('orthonormal keys give back their values', async () => {
    const { state } = await run({ rule: deltaRule() }, { query: orthonormal, key: orthonormal, value: stored, writeStrength: ones });
    const memory = headOf(state['memory'] ?? stored, 0, 0);
    expectClose(multiply(headOf(orthonormal, 0, 0), memory).flat(), values(stored));
  });

  test('a key that is written twice keeps only the second value; linear attention keeps the sum', async () => {
    const twice = tensor(Float64Array.of(0.6, 0.8, 0.6, 0.8), [1, 1, 2, 2]);
    const two = tensor(Float64Array.of(1, 2, 10, 20), [1, 1, 2, 2]);
    const strength = tensor(Float64Array.of(1, 1), [1, 1, 2]);
    const delta = await run({ rule: deltaRule(), scale: 1 }, { query: twice, key: twice, value: two, writeStrength: strength });
    expectClose(values(delta.output), [1, 2, 10, 20]);
    const linear = await run({ rule: additiveRule(), scale: 1 }, { query: twice, key: twice, value: two });
    expectClose(values(linear.output), [1, 2, 11, 22]);
  });

  test('with a strength of 0 the state only decays', async () => {
    const none = tensor(new Float64Array(heads * length), [1, heads, length]);
    const { state } = await run({ rule: kdaRule() }, { ...rows, logDecay: byChannel, writeStrength: none, state: initial });
    const expected = Array.from({ length: heads }, (_, head) => {
      const total = transpose(headOf(byChannel, 0, head)).map((column) => Math.exp(column.reduce((sum, element) => sum + element, 0)));
      return headOf(initial.memory, 0, head).map((row, channel) => row.map((element) => element * (total[channel] ?? 0)));
    });
    expectClose(values(state['memory']), expected.flat(2), 1e-13);
  });

  test('KDA with equal channels is the gated delta rule, and that without decay the delta rule', async () => {
    const repeated = tensor(Float64Array.from(values(byStep).flatMap((element) => Array.from({ length: dim }, () => element))), [1, heads, length, dim]);
    const kda = await run({ rule: kdaRule() }, { ...rows, logDecay: repeated, writeStrength });
    const gated = await run({ rule: gatedDeltaRule() }, { ...rows, logDecay: byStep, writeStrength });
    expectClose(values(kda.output), values(gated.output));
    expectSameState(kda.state, gated.state);
    const undecayed = await run({ rule: gatedDeltaRule() }, { ...rows, logDecay: tensor(Float64Array.of(0), [1, 1, 1]), writeStrength });
    const delta = await run({ rule: deltaRule() }, { ...rows, writeStrength });
    expectClose(values(undecayed.output), values(delta.output));
  });

  test('a decay that is constant is the same by head, by step and by channel', async () => {
    const results = await Promise.all([
      run({ rule: decayRule({ by: 'head' }) }, { ...rows, logDecay: tensor(Float64Array.of(-0.1), [1, 1, 1]) }),
      run({ rule: decayRule({ by: 'step' }) }, { ...rows, logDecay: tensor(new Float64Array(length).fill(-0.1), [1, 1, length]) }),
      run({ rule: decayRule({ by: 'channel' }) }, { ...rows, logDecay: tensor(new Float64Array(dim).fill(-0.1), [1, 1, 1, dim]) }),
    ]);
    for (const result of results) expectClose(values(result.output), values(results[0].output));
    expectClose(retentionLogDecay(3), [Math.log(31 / 32), Math.log(63 / 64), Math.log(127 / 128)], 1e-15);
  });

  test('RWKV-7 with undecayed state and η = β removes as the delta rule does', async () => {
    const spread = tensor(Float64Array.from(values(writeStrength).flatMap((element) => Array.from({ length: dim }, () => element))), [1, heads, length, dim]);
    const zero = tensor(new Float64Array(dim), [1, 1, 1, dim]);
    const weighted = tensor(Float64Array.from(values(value).map((element, at) => element * (values(writeStrength)[Math.floor(at / valueDim)] ?? 0))), value.shape);
    const rwkv = await run({ rule: rwkv7Rule() }, { ...rows, value: weighted, logDecay: zero, removalKey: key, removalWeight: spread });
    const delta = await run({ rule: deltaRule() }, { ...rows, writeStrength });
    expectClose(values(rwkv.output), values(delta.output));
  });

  test('value head h reads query and key head floor(h · heads / valueHeads)', async () => {
    const wide = random(12, [1, 4, length, valueDim]);
    const strength = random(13, [1, 4, length], sigmoid);
    const grouped = await run({ rule: deltaRule() }, { query, key, value: wide, writeStrength: strength });
    const spread = (rowsOfTwo: HostTensor): HostTensor => {
      const data = toFloat64(rowsOfTwo);
      const half = data.length / 2;
      return tensor(Float64Array.from([0, 0, 1, 1].flatMap((head) => [...data.subarray(head * half, (head + 1) * half)])), [1, 4, length, dim]);
    };
    const repeated = await run({ rule: deltaRule() }, { query: spread(query), key: spread(key), value: wide, writeStrength: strength });
    expect(values(grouped.output)).toEqual(values(repeated.output));
  });

  test('a rule that reads before it writes sees only the past', async () => {
    const exclusive = recurrentRule('exclusive', [{ step: 'read' }, { step: 'write', strength: null }]);
    const result = await run({ rule: exclusive, scale: 1 }, rows);
    for (let head = 0; head < heads; head++) {
      const scores = multiply(headOf(query, 0, head), transpose(headOf(key, 0, head))).map((row, i) => row.map((score, j) => (j < i ? score : 0)));
      expectClose(headOf(result.output, 0, head).flat(), multiply(scores, headOf(value, 0, head)).flat());
    }
  });

  test('no token changes what came before it, nor another head or batch entry', async () => {
    const inputs = { ...rows, logDecay: byChannel, writeStrength };
    const before = await run({ rule: kdaRule() }, inputs);
    const changed = toFloat64(value);
    changed.fill(1e6, 12 * valueDim, 13 * valueDim);
    const after = await run({ rule: kdaRule() }, { ...inputs, value: tensor(changed, value.shape) });
    expect(values(after.output).slice(0, 12 * valueDim)).toEqual(values(before.output).slice(0, 12 * valueDim));
    expect(values(after.output).slice(length * valueDim)).toEqual(values(before.output).slice(length * valueDim));
  });

  test('no tokens: no output, and the state stays', async () => {
    const empty = (width: number): HostTensor => tensor(new Float64Array(0), [1, heads, 0, width]);
    const { output, state } = await run({ rule: additiveRule() }, { query: empty(dim), key: empty(dim), value: empty(valueDim), state: initial });
    expect(output.shape).toEqual([1, heads, 0, valueDim]);
    expect(values(state['memory'])).toEqual(values(initial.memory));
  });
});

describe('structure', () => {
  test('says the steps in order, and not the values of uniforms', () => {
    const structure = fastWeights({ rule: rwkv7Rule(), scale: 1 }).structure;
    expect(structure.split('\n').slice(0, 5)).toEqual([
      'r ← Gᵀ removalKey',
      'G ← exp(logDecay by channel) ⊙ G',
      'G ← G − (removalWeight ⊙ removalKey) rᵀ',
      'G ← G + key valueᵀ',
      'output = scale · Gᵀ query',
    ]);
    expect(fastWeights({ rule: rwkv7Rule(), scale: 0.25 }).structure).toBe(structure);
    expect(fastWeights({ rule: kdaRule() }).structure).not.toBe(fastWeights({ rule: gatedDeltaRule() }).structure);
  });

  test('is frozen plain data', () => {
    const variant = fastWeights({ rule: gatedDeltaRule() });
    expect(Object.isFrozen(variant) && Object.isFrozen(variant.rule) && Object.isFrozen(variant.uniforms)).toBe(true);
    expect(structuredClone(variant)).toEqual(variant);
  });
});
