import { describe, expect, test } from 'vitest';
import type { AttentionInputs, AttentionRequest, AttentionStages, HostPartial, HostTensor } from '../../src/index.ts';
import {
  additiveBias, alibi, attention, causal, dropout, entmax, eluFeatures, gumbel, hardMax, laser, maximum, none, outputGate, positionWeight, relu, reluSquared, restride, reweighing, rope, rowSum,
  scaledDot, sigmoid, slice, softmax, softmaxOffByOne, sparsemax, tensor, toFloat64, weightedSum, window,
} from '../../src/index.ts';
import { finalize, mergeClassOf, merge } from '../../src/compute.ts';
import { ReferenceKernel } from '../../src/reference/attention/kernel.ts';
import type { Tables } from '../plain.ts';
import { expectClose, key, query, random, sizes, value } from '../plain.ts';

// L13 and L14: keys split in any way, computed apart, merged and finalized give what all keys at once give.
const { batch, heads, queryLength, keyLength, dim, valueDim } = sizes;
const bias = tensor(random(71, [batch, heads, queryLength, keyLength]).view().map((x, at) => (at % 7 === 0 ? -Infinity : x)) as Float64Array, [batch, heads, queryLength, keyLength]);

const variants: readonly [string, AttentionStages, Tables?][] = [
  ['softmax', {}],
  ['causal softmax with sinks and ALiBi', { scoring: scaledDot().modify(alibi()), masking: causal(), normalization: softmax({ sink: true }) }, { slopes: random(72, [heads]), sink: random(73, [heads]) }],
  ['rotary keys, window, softmax off by one', { scoring: scaledDot().transform(rope({ pairing: 'half' })), masking: window({ left: 1, right: 1 }), normalization: softmaxOffByOne() }],
  ['a row without keys, and a gate', { masking: window({ left: 0, right: 0 }), aggregation: weightedSum().finishBy(outputGate()) }, { gate: random(74, [batch, heads, queryLength, valueDim]) }],
  ['softmax with dropout', { normalization: softmax().reweighBy(dropout({ probability: 0.4, seed: 9 })) }],
  ['softmax around centres', { normalization: softmax().reweighBy(positionWeight({ deviation: 2 })) }, { centers: random(75, [1, heads, queryLength]) }],
  ['Gumbel', { normalization: gumbel({ seed: 4 }) }],
  ['linear attention', { scoring: scaledDot({ scale: 1 }).transform(eluFeatures()), masking: causal(), normalization: rowSum() }],
  ['row sum with dropout', { scoring: scaledDot({ scale: 1 }).transform(eluFeatures()), normalization: rowSum().reweighBy(dropout({ probability: 0.4, seed: 9 })) }],
  ['sigmoid, whose bias is −ln of all keys', { normalization: sigmoid() }],
  ['ReLU by keys', { normalization: relu() }],
  ['ReLU² by position', { normalization: reluSquared({ length: 'position' }), masking: causal() }],
  ['none', { normalization: none() }],
  ['largest value', { normalization: sigmoid(), aggregation: maximum(), masking: causal() }],
  ['LASER', { aggregation: laser(), masking: causal(), normalization: softmax({ sink: true }) }, { sink: random(73, [heads]) }],
  ['LASER of sigmoid weights', { aggregation: laser(), normalization: sigmoid() }],
];

function requestOf(stages: AttentionStages): AttentionRequest {
  return { variant: attention(stages), queryDim: dim, keyDim: dim, valueDim, dtypes: { query: 'f64', key: 'f64', value: 'f64' } };
}

/** The keys from `start` to `end` as a shard of the whole, with tables that run over keys cut likewise. */
function shard(inputs: AttentionInputs, start: number, end: number): AttentionInputs {
  const tables = Object.fromEntries(Object.entries(inputs.tables ?? {}).map(([name, table]) => [name, table.shape[3] === keyLength ? slice(table as HostTensor, 3, start, end) : table]));
  return { ...inputs, tables, key: slice(key, 2, start, end), value: slice(value, 2, start, end), keyOffset: start, totalKeyLengths: [keyLength, keyLength] };
}

async function split(stages: AttentionStages, tables: Tables, cuts: readonly number[]): Promise<{ readonly whole: Awaited<ReturnType<ReferenceKernel['run']>>; readonly partials: readonly HostPartial[]; readonly request: AttentionRequest; readonly inputs: AttentionInputs }> {
  const request = requestOf(stages);
  const kernel = new ReferenceKernel(request, () => false);
  const inputs = { query, key, value, queryOffset: 1, tables };
  const edges = [0, ...cuts, keyLength];
  const partials = await Promise.all(edges.slice(1).map((end, index) => kernel.partial(shard(inputs, edges[index]!, end))));
  return { whole: await kernel.run(inputs), partials, request, inputs };
}

describe('L13: shards merge to the whole', () => {
  describe.each(variants)('%s', (_, stages, tables = {}) => {
    test.each([[[2]], [[0, 1, 1, 4]], [[5]], [[1, 2, 3, 4]]])('cut at %j', async (cuts) => {
      const { whole, partials, request, inputs } = await split(stages, tables, cuts);
      const first = shard(inputs, 0, cuts[0] ?? keyLength);
      for (const order of [partials, [...partials].reverse()]) {
        const merged = finalize(request, merge(order), first);
        expectClose(merged.output, toFloat64(whole.output));
        if (whole.logSumExp === undefined) expect(merged.logSumExp).toBeUndefined();
        else expectClose(merged.logSumExp, toFloat64(whole.logSumExp));
      }
    });
  });

  test('scores of −∞ and rows that only have those', async () => {
    const stages = { scoring: scaledDot().modify(additiveBias()) };
    const { whole, partials, request, inputs } = await split(stages, { bias }, [1, 3]);
    expectClose(finalize(request, merge(partials), shard(inputs, 0, 1)).output, toFloat64(whole.output));
  });

  test('the same shards give the same bits, and an empty shard changes none', async () => {
    const { partials } = await split({ masking: causal() }, {}, [0, 2]);
    const [empty, ...others] = partials;
    const bits = (partial: HostPartial): Float64Array => toFloat64(partial.accumulator);
    expect(bits(merge(partials))).toEqual(bits(merge(partials)));
    expect(bits(merge([...others, empty!]))).toEqual(bits(merge(others)));
  });

  test('partials of different requests are told apart, when merged and when finalized', async () => {
    const { partials: [softmaxPartial], request, inputs } = await split({}, {}, [2]);
    const { partials: [linear] } = await split({ normalization: rowSum() }, {}, [2]);
    const { partials: [plainSum] } = await split({ normalization: none() }, {}, [2]);
    const code = { code: 'invalid-argument' };
    const thrown = (work: () => unknown): unknown => {
      try {
        work();
        return 'accepted';
      } catch (error) {
        return error;
      }
    };
    expect(thrown(() => merge([]))).toMatchObject(code);
    expect(thrown(() => merge([softmaxPartial!, linear!]))).toMatchObject(code);
    expect(thrown(() => merge([linear!, plainSum!]))).toMatchObject(code);
    expect(thrown(() => finalize(request, linear!, inputs))).toMatchObject(code);
    expect(thrown(() => finalize(request, softmaxPartial!, { ...inputs, query: slice(query, 2, 0, 3) }))).toMatchObject(code);
    expect(thrown(() => finalize(requestOf({ normalization: sparsemax() }), softmaxPartial!, inputs))).toMatchObject(code);
  });

  test('what cannot merge says so', async () => {
    for (const stages of [{ normalization: sparsemax() }, { normalization: entmax(1.5) }, { normalization: hardMax() }, { aggregation: maximum() }, { normalization: rowSum(), aggregation: laser() }, { normalization: softmax().reweighBy(reweighing('square', ({ weight }) => weight.mul(weight))) }]) {
      expect(mergeClassOf(attention(stages)).mergeClass).toBeNull();
      const kernel = new ReferenceKernel(requestOf(stages), () => false);
      expect(kernel.mergeClass).toBeNull();
      await expect(kernel.partial({ query, key, value })).rejects.toMatchObject({ code: 'merge-refused' });
    }
  });
});

describe('L14: random numbers follow the sequence, the head and the positions', () => {
  const stages = { normalization: softmax().reweighBy(dropout({ probability: 0.5, seed: 3 })) };
  const kernel = new ReferenceKernel(requestOf(stages), () => false);
  const inputs = { query, key, value, queryOffset: 1 };

  test('a sequence by itself, a head by itself, a query by itself', async () => {
    const whole = toFloat64((await kernel.run(inputs)).output);
    const rowsOf = (b: number, h: number, from: number, to: number): Float64Array => whole.slice(((b * heads + h) * queryLength + from) * valueDim, ((b * heads + h) * queryLength + to) * valueDim);
    const second = await kernel.run({ ...inputs, query: slice(query, 0, 1, 2), key: slice(key, 0, 1, 2), value: slice(value, 0, 1, 2), sequenceIds: [1] });
    expect(toFloat64(second.output).slice(0, queryLength * valueDim)).toEqual(rowsOf(1, 0, 0, queryLength));
    const head = await kernel.run({ ...inputs, query: slice(query, 1, 1, 2), headOffset: 1 });
    expect(toFloat64(head.output).slice(0, queryLength * valueDim)).toEqual(rowsOf(0, 1, 0, queryLength));
    const last = await kernel.run({ ...inputs, query: slice(query, 2, 3, 4), queryOffset: 4 });
    expect(toFloat64(last.output).slice(0, valueDim)).toEqual(rowsOf(0, 0, 3, 4));
  });

  test('equal rows of two sequences, two heads or two positions get numbers of their own', async () => {
    const repeated = (source: HostTensor): HostTensor => restride(source, [2, 2, 2, source.shape[3]!], [0, 0, 0, 1]);
    const manyKeys = (source: HostTensor): HostTensor => restride(source, [2, 1, keyLength, source.shape[3]!], [0, 0, source.strides[2]!, 1]);
    const { output } = await kernel.run({ query: repeated(query), key: manyKeys(key), value: manyKeys(value), queryOffset: 1 });
    const rows = Array.from({ length: 8 }, (_, row) => toFloat64(output).slice(row * valueDim, (row + 1) * valueDim).join());
    expect(new Set(rows).size).toBe(8);
  });
});
