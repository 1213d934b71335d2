import { describe, expect, test } from 'vitest';
import type { AttentionInputs, AttentionRequest, AttentionStages, HostTensor, Normalization, ObservedStage } from '../../src/index.ts';
import {
  additiveBias, alibi, attention, causal, cosine, elementwise, entmax, gumbel, hardMax, laser, maximum, modifier, none, relu, rmsNorm, rope, rowSum, scaledDot, sigmoid, slice, softcap, softmax, softmaxOffByOne, sparsemax, tensor, toFloat64, weightedSum, window, write,
} from '../../src/index.ts';
import { ReferenceKernel } from '../../src/reference/attention/kernel.ts';
import { expectClose, key, plain, query, random, run, sizes, value } from '../plain.ts';

const { batch, heads, queryLength, keyLength, dim, valueDim } = sizes;
const float64 = { query: 'f64', key: 'f64', value: 'f64' } as const;

function kernelOf(stages: AttentionStages, rest: Partial<AttentionRequest> = {}): ReferenceKernel {
  return new ReferenceKernel({ variant: attention(stages), queryDim: dim, keyDim: dim, valueDim, dtypes: float64, ...rest }, () => false);
}

/** The same tensor with other numbers in some rows of every head. */
function withRows(source: HostTensor, change: (row: number) => number | null): HostTensor {
  const width = source.shape[3]!;
  const rows = source.shape[2]!;
  return tensor(toFloat64(source).map((x, at) => change(Math.floor(at / width) % rows) ?? x), source.shape);
}

const normalizations: readonly [string, Normalization][] = [
  ['softmax', softmax()], ['off by one', softmaxOffByOne()], ['sigmoid', sigmoid()], ['relu', relu()], ['sparsemax', sparsemax()], ['entmax-1.5', entmax(1.5)], ['entmax', entmax(1.2)], ['row sum', rowSum()], ['none', none()], ['hard max', hardMax()],
  ['gumbel', gumbel({ seed: 1 })], ['gumbel, hard', gumbel({ seed: 1, hard: true })],
];

describe('L1: rows that see nothing', () => {
  // Row 0 sees nothing, row 1 one key whose score is −∞, row 2 two keys of which one has −∞.
  const bias = tensor(Float64Array.from({ length: queryLength * keyLength }, (_, at) => (at === keyLength || at === 2 * keyLength ? -Infinity : 0)), [1, 1, queryLength, keyLength]);
  const rows = { query, key, value, queryOffset: -1, tables: { bias } };

  const aggregations = [['sum', weightedSum()], ['max', maximum()], ['LASER', laser()]] as const;
  const every = normalizations.flatMap(([name, normalization]) => aggregations.map(([reduction, aggregation]) => [name, reduction, normalization, aggregation] as const));
  // LASER is the logarithm of a sum of weights, which these two let fall to 0 and below.
  test.each(every.filter(([name, reduction]) => reduction !== 'LASER' || (name !== 'none' && name !== 'relu')))(
    '%s, %s: output 0 in the first two, finite gradients everywhere',
    async (_, __, normalization, aggregation) => {
      const finish = write('finish', 'plusOne', ({ output }) => output.add(1));
      const kernel = kernelOf({ scoring: scaledDot().modify(additiveBias()), masking: causal(), normalization, aggregation: aggregation.finishBy(finish) }, { gradients: ['query', 'key', 'value', 'tables.bias'] });
      const { output, logSumExp, saved } = await kernel.run(rows);
      const got = toFloat64(output);
      for (let plane = 0; plane < batch * heads; plane++) {
        expect([...got.subarray(plane * queryLength * valueDim, (plane * queryLength + 2) * valueDim)]).toEqual(new Array(2 * valueDim).fill(0));
        if (logSumExp !== undefined) expect(toFloat64(logSumExp)[plane * queryLength]).toBe(normalization.name === 'softmaxOffByOne' ? 0 : -Infinity);
      }
      const gradients = await kernel.backward(rows, saved!, { output: tensor(new Float64Array(got.length).fill(1), output.shape) });
      for (const [name, gradient] of Object.entries(gradients)) expect(toFloat64(gradient).every(Number.isFinite), name).toBe(true);
      const byQuery = toFloat64(gradients.query as HostTensor);
      expect([...byQuery.subarray(0, 2 * dim)]).toEqual(new Array(2 * dim).fill(0));
    },
  );

  test('with sinks the logSumExp of such a row is the sink, and nothing gets a gradient from it', async () => {
    const sink = random(81, [heads]);
    const kernel = kernelOf({ masking: causal(), normalization: softmax({ sink: true }) }, { gradients: ['query', 'key', 'value', 'tables.sink'] });
    const inputs = { query, key, value, queryOffset: -10, tables: { sink } };
    const { logSumExp, output, saved } = await kernel.run(inputs);
    const z = toFloat64(sink);
    expectClose(logSumExp, Array.from({ length: batch * heads * queryLength }, (_, at) => z[Math.floor(at / queryLength) % heads]!));
    const gradients = await kernel.backward(inputs, saved!, { output: random(82, output.shape), logSumExp: random(83, output.shape.slice(0, 3)) });
    for (const gradient of Object.values(gradients)) expect(toFloat64(gradient).every((x) => x === 0)).toBe(true);
  });

  test.each(normalizations)('%s: NaN or +∞ at an allowed score makes its row NaN, and no other', async (_, normalization) => {
    for (const bad of [Number.NaN, Infinity]) {
      const { output } = await run(attention({ scoring: scaledDot().modify(additiveBias()), normalization }), {
        tables: { bias: tensor(Float64Array.from({ length: queryLength * keyLength }, (__, at) => (at === keyLength + 2 ? bad : 0)), [1, 1, queryLength, keyLength]) },
      });
      toFloat64(output).forEach((x, at) => expect(Number.isNaN(x)).toBe(Math.floor(at / valueDim) % queryLength === 1));
    }
  });
});

describe('L10 and L15: what may not be seen', () => {
  const prepared = weightedSum().prepareBy(write('prepare', 'tanh', ({ value: x, channel, table }) => x.mul(table('gain', ['valueDim']).at(channel)).tanh()));
  const gain = random(84, [valueDim]);
  const hidden = (bad: number): AttentionInputs => ({
    query: withRows(query, (row) => (row === queryLength - 1 ? bad : null)), key: withRows(key, (row) => (row >= 3 ? bad : null)), value: withRows(value, (row) => (row >= 3 ? bad : null)),
    queryOffset: 0, queryLengths: [3, 3], tables: { gain },
  });

  test.each([['scaled dot', scaledDot()], ['cosine', cosine()], ['RMS norm', scaledDot().transform(rmsNorm())], ['rotary', scaledDot().transform(rope({ pairing: 'half' }))]] as const)(
    '%s: NaN and ∞ in hidden keys, values and query rows change no bit, forward or backward',
    async (_, scoring) => {
      const kernel = kernelOf({ scoring, masking: causal(), aggregation: prepared }, { gradients: ['query', 'key', 'value', 'tables.gain'] });
      const want = await kernel.run(hidden(0.5));
      const gradient = random(85, want.output.shape);
      const wantGradients = await kernel.backward(hidden(0.5), want.saved!, { output: gradient });
      for (const bad of [Number.NaN, Infinity, -Infinity]) {
        const got = await kernel.run(hidden(bad));
        expect(toFloat64(got.output)).toEqual(toFloat64(want.output));
        const gradients = await kernel.backward(hidden(bad), got.saved!, { output: gradient });
        for (const name of Object.keys(gradients)) expect(toFloat64(gradients[name] as HostTensor), name).toEqual(toFloat64(wantGradients[name] as HostTensor));
      }
    },
  );

  test('rows of padding read no table, in the output and in what is observed', async () => {
    const place = (name: string): ReturnType<typeof modifier> => modifier(name, ({ score, queryPosition, keyPosition, table }) => score.add(table('pair', [3, 3]).at(queryPosition, keyPosition)));
    const shifted = elementwise('shifted', ({ element, position, table }) => element.add(table('row', [3]).at(position)));
    const stages: readonly ObservedStage[] = ['scores', 'modified', 'masked', 'weights'];
    const kernel = kernelOf({ scoring: scaledDot().transform(shifted).modify(place('pair')), aggregation: weightedSum().prepareBy(write('prepare', 'moved', ({ value: x, keyPosition, table }) => x.add(table('row', [3]).at(keyPosition)))) }, { observe: { stages, keyMass: true } });
    const tables = { pair: random(86, [3, 3]), row: random(87, [3]) };
    const padded = await kernel.run({ query, key, value, queryLengths: [3, 3], keyLengths: [3, 3], tables });
    const short = await kernel.run({ query: slice(query, 2, 0, 3), key: slice(key, 2, 0, 3), value: slice(value, 2, 0, 3), tables });
    const lengths = [3, 3] as const;
    const grow = (data: Float64Array, width: number, rows: number, fill: number): number[] => {
      const planes = data.length / (lengths[0] * lengths[1]);
      return Array.from({ length: planes * rows * width }, (_, at) => {
        const [plane, row, column] = [Math.floor(at / width / rows), Math.floor(at / width) % rows, at % width];
        return row < 3 && column < 3 ? data[(plane * 3 + row) * 3 + column]! : fill;
      });
    };
    for (const stage of stages) expectClose(padded.observed?.[stage], grow(toFloat64(short.observed?.[stage] as HostTensor), keyLength, queryLength, stage === 'masked' ? -Infinity : 0));
    expectClose(padded.output, grow(toFloat64(short.output), valueDim, queryLength, 0));
  });
});

describe('L3 and L4: positions', () => {
  const alibied = { scoring: scaledDot().modify(alibi()), masking: causal().and(window({ left: 2, right: 0 })) };
  const slopes = random(88, [heads]);

  test('explicit positions in any order are the rows in that order', async () => {
    const order = [3, 0, 4, 1, 2];
    const shuffle = (source: HostTensor): HostTensor => {
      const width = source.shape[3]!;
      const data = toFloat64(source);
      return tensor(Float64Array.from(data, (_, at) => data[(Math.floor(at / width / keyLength) * keyLength + order[Math.floor(at / width) % keyLength]!) * width + (at % width)]!), source.shape);
    };
    const kernel = kernelOf(alibied);
    const want = await kernel.run({ query, key, value, queryOffset: 1, tables: { slopes } });
    const got = await kernel.run({ query, key: shuffle(key), value: shuffle(value), queryOffset: 1, keyPositions: tensor(Int32Array.from(order), [1, keyLength]), tables: { slopes } });
    expectClose(got.output, toFloat64(want.output), 1e-14);
  });

  test('moving queries and keys together changes nothing, to negative positions too', async () => {
    const kernel = kernelOf(alibied);
    const want = await kernel.run({ query, key, value, queryOffset: 1, tables: { slopes } });
    const got = await kernel.run({ query, key, value, queryOffset: [-99, 1001], keyOffset: [-100, 1000], tables: { slopes } });
    expect(toFloat64(got.output)).toEqual(toFloat64(want.output));
  });

  test("'start' and 'end' are what they say, and one of them is asked for", async () => {
    const kernel = kernelOf({ masking: causal() });
    const of = async (queryOffset: number | 'start' | 'end'): Promise<Float64Array> => toFloat64((await kernel.run({ query, key, value, queryOffset })).output);
    expect(await of('start')).toEqual(await of(0));
    expect(await of('end')).toEqual(await of(1));
    await expect(kernel.run({ query, key, value })).rejects.toMatchObject({ code: 'ambiguous-offset' });
  });

  test('keys transformed once are the same keys, at their own positions', async () => {
    const kernel = kernelOf({ scoring: scaledDot().transform(rope({ pairing: 'half' })).modify(alibi()), masking: causal() });
    const tables = { slopes };
    const inputs = { query, key, value, queryOffset: [8, 4], keyOffset: [7, 3], tables };
    const transformed = await kernel.transformKeys({ key, keyOffset: [7, 3] });
    const want = await kernel.run(inputs);
    const got = await kernel.run({ ...inputs, key: transformed, keysTransformed: true });
    expect(toFloat64(got.output)).toEqual(toFloat64(want.output));
  });
});

describe('L11: empty axes', () => {
  test('no keys, no queries, no batch', async () => {
    const kernel = kernelOf({ normalization: softmax({ sink: true }) });
    const tables = { sink: tensor([0.25, -1], [2], { dtype: 'f64' }) };
    const noKeys = await kernel.run({ query, key: slice(key, 2, 0, 0), value: slice(value, 2, 0, 0), tables });
    expectClose(noKeys.output, new Float64Array(batch * heads * queryLength * valueDim));
    expectClose(noKeys.logSumExp, Array.from({ length: batch * heads * queryLength }, (_, at) => (Math.floor(at / queryLength) % 2 === 0 ? 0.25 : -1)));
    const noQueries = await kernel.run({ query: slice(query, 2, 0, 0), key, value, tables });
    expect(noQueries.output.shape).toEqual([batch, heads, 0, valueDim]);
    const noBatch = await kernel.run({ query: slice(query, 0, 0, 0), key: slice(key, 0, 0, 0), value: slice(value, 0, 0, 0), tables });
    expect(noBatch.output.shape).toEqual([0, heads, queryLength, valueDim]);
  });
});

describe('L9: storage', () => {
  test.each(['f16', 'bf16', 'f32'] as const)('%s rows are computed in float64 and rounded once', async (dtype) => {
    const stored = (source: HostTensor): HostTensor => tensor([...toFloat64(source)], source.shape, { dtype });
    const wide = (source: HostTensor): HostTensor => tensor(toFloat64(stored(source)), source.shape);
    const kernel = kernelOf({}, { dtypes: { query: dtype, key: dtype, value: dtype } });
    const got = await kernel.run({ query: stored(query), key: stored(key), value: stored(value) });
    const want = await run(attention(), { query: wide(query), key: wide(key), value: wide(value) });
    expect(got.output.dtype).toBe(dtype);
    expect(toFloat64(got.output)).toEqual(toFloat64(tensor([...toFloat64(want.output)], want.output.shape, { dtype })));
  });

  test('strided inputs and targets, elements between them untouched', async () => {
    const kernel = kernelOf({ masking: causal() });
    const inputs = { query, key, value, queryOffset: 1 };
    const want = toFloat64((await kernel.run(inputs)).output);
    const shape = [batch, heads, queryLength, valueDim];
    const memory = new Float64Array(2 * want.length).fill(-7);
    const target = tensor(memory, shape, { strides: [2 * heads * queryLength * valueDim, 2 * valueDim, 2 * heads * valueDim, 2] });
    const logSumExp = tensor(new Float64Array(batch * heads * queryLength), [batch, heads, queryLength], { strides: [1, 2 * queryLength, 2] });
    const strided = (source: HostTensor): HostTensor => {
      const [b = 0, h = 0, rows = 0, width = 0] = source.shape;
      const copy = new Float64Array(b * h * rows * width);
      const blhd = tensor(copy, source.shape, { layout: 'blhd' });
      toFloat64(source).forEach((x, at) => {
        const [d, l, head, entry] = [at % width, Math.floor(at / width) % rows, Math.floor(at / width / rows) % h, Math.floor(at / width / rows / h)];
        copy[((entry * rows + l) * h + head) * width + d] = x;
      });
      return blhd;
    };
    const got = await kernel.run({ ...inputs, query: strided(query), key: strided(key), value: strided(value) }, { into: { output: target, logSumExp } });
    expect(got.output).toBe(target);
    expect(toFloat64(target)).toEqual(want);
    expect(memory.filter((_, at) => at % 2 === 1).every((x) => x === -7)).toBe(true);
  });
});

describe('L5 and L7: logSumExp', () => {
  test('it is the natural logarithm of the final scores and the sink', async () => {
    const sink = random(89, [heads]);
    const z = toFloat64(sink);
    const rows: number[] = [];
    plain({ score: (q, k) => 0.5 * Math.tanh(q.reduce((sum, x, c) => sum + x * k[c]!, 0) / 2 / 0.5), allowed: ({ p, r }) => r <= p, weights: (s, { h }) => (rows.push(Math.log(s.reduce((sum, x) => sum + Math.exp(x), Math.exp(z[h]!)))), s) });
    const { logSumExp } = await run(attention({ scoring: scaledDot().modify(softcap(0.5)), masking: causal(), normalization: softmax({ sink: true }) }), { tables: { sink } });
    expectClose(logSumExp, rows);
  });
});
