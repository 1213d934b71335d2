import type { AttentionStages, AttentionVariant, SoftmaxOptions } from '@heed/core';
import { attention, causal, mask, modifier, scaledDot, softmax, softmaxOffByOne, tensor } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import type { CaseContext } from '../../context.ts';
import { smallShape } from '../../inputs.ts';
import { float32Attention, exact } from '../../tolerance.ts';
import { normalizations, toleranceOf } from '../../variants.ts';
import type { Call } from '../../attend.ts';
import { compareNumbers, drawCall, outputShape, pickRows, rowShape } from '../../attend.ts';

type MakeVariant = (stages: AttentionStages) => AttentionVariant;

/** Queries at odd positions see every key, the others none. */
const oddQueries = mask('oddQueries', ({ queryPosition }) => queryPosition.mod(2).eq(1));

function isEmpty(row: number): boolean {
  return row % 2 === 0;
}

/** L1: what a query that may see no key gets. */
export const emptyRowCases: readonly Case[] = [
  ...Object.entries(normalizations).map(([name, make]) =>
    lawCase(
      'L1',
      {
        parameters: { normalization: name },
        plan: `Queries at even positions may see no key under ${name}: their output is exactly 0, whatever the values; the other rows are those of the reference.`,
        tolerance: toleranceOf(make()),
      },
      async (context) => {
        const { call, numbers } = await runWithEmptyRows(context, make);
        context.zero('output of empty rows', pickRows(numbers.output, outputShape(call.shape), (_batch, _head, row) => isEmpty(row)));
      },
    ),
  ),
  lawCase('L1', { name: 'logSumExp', parameters: { sink: 'none' }, laws: ['L5'], needs: ['attention', 'logSumExp'], plan: 'The logSumExp of a row without keys is −∞.', tolerance: exact }, async (context) => {
    const { call, numbers } = await runWithEmptyRows(context, withSoftmax());
    const empty = pickRows(numbers.logSumExp ?? [], rowShape(call.shape), (_batch, _head, row) => isEmpty(row));
    context.sameBits('logSumExp of empty rows', empty, empty.map(() => -Infinity));
  }),
  lawCase('L1', { name: 'logSumExp', parameters: { sink: 'table' }, laws: ['L5', 'L7'], needs: ['attention', 'logSumExp'], plan: 'The logSumExp of a row without keys is the sink logit of its head.', tolerance: float32Attention }, async (context) => {
    const { call, numbers } = await runWithEmptyRows(context, withSoftmax({ sink: true }), [0.5, -2, 3, 100]);
    const empty = pickRows(numbers.logSumExp ?? [], rowShape(call.shape), (_batch, _head, row) => isEmpty(row));
    const sinks = [0.5, -2, 3, 100];
    const rowsOfHead = empty.length / (call.shape.batch * call.shape.heads);
    context.close('logSumExp of empty rows', empty, empty.map((_, index) => sinks[Math.floor(index / rowsOfHead) % 4] ?? 0), { absolute: 1e-6, relative: 1e-6 });
  }),
  lawCase('L1', { name: 'logSumExp', parameters: { sink: 'offByOne' }, laws: ['L5', 'L7'], needs: ['attention', 'logSumExp'], plan: 'The logSumExp of a row without keys is 0 under softmaxOffByOne.', tolerance: exact }, async (context) => {
    const { call, numbers } = await runWithEmptyRows(context, (stages) => attention({ ...stages, normalization: softmaxOffByOne() }));
    context.zero('logSumExp of empty rows', pickRows(numbers.logSumExp ?? [], rowShape(call.shape), (_batch, _head, row) => isEmpty(row)));
  }),
  lawCase(
    'L1',
    { name: 'weights', laws: ['L8'], needs: ['attention', 'observe:weights'], plan: 'The observed weights of a row without keys are 0.', tolerance: exact },
    async (context) => {
      const { call, numbers } = await runWithEmptyRows(context, withSoftmax(), undefined, true);
      const { batch, heads, queryLength, keyLength } = call.shape;
      context.zero('weights of empty rows', pickRows(numbers.observed.weights ?? [Number.NaN], [batch, heads, queryLength, keyLength], (_batch, _head, row) => isEmpty(row)));
    },
  ),
  lawCase('L1', { name: 'key-lengths', laws: ['L11'], plan: 'A sequence with key length 0 in a batch has only empty rows; the other sequence is not touched.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention(), smallShape, { inputs: { keyLengths: [0, 4] } });
    const got = await context.run(call.request, call.inputs);
    const want = await context.expected(call.request, call.inputs);
    context.zero('output of the empty sequence', pickRows(got.output, outputShape(call.shape), (batch) => batch === 0));
    compareNumbers(context, call, got, want, float32Attention);
  }),
  lawCase('L1', { name: 'query-lengths', plan: 'Query rows past the query length of their sequence are empty.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention(), smallShape, { inputs: { queryLengths: [3, 5] } });
    const got = await context.run(call.request, call.inputs);
    const want = await context.expected(call.request, call.inputs);
    context.zero('output of padding rows', pickRows(got.output, outputShape(call.shape), (batch, _head, row) => batch === 0 && row >= 3));
    compareNumbers(context, call, got, want, float32Attention);
  }),
  lawCase('L1', { name: 'first-rows', laws: ['L3'], plan: 'A causal mask whose keys begin three positions after the queries leaves the first three rows empty.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ masking: causal() }), smallShape, { inputs: { queryOffset: 0, keyOffset: 3 } });
    const got = await context.run(call.request, call.inputs);
    const want = await context.expected(call.request, call.inputs);
    context.zero('output of rows before the first key', pickRows(got.output, outputShape(call.shape), (_batch, _head, row) => row < 3));
    compareNumbers(context, call, got, want, float32Attention);
  }),
  lawCase(
    'L1',
    {
      name: 'minus-infinity',
      needs: ['attention', 'nonFinite'],
      plan: 'A score of −∞ at an allowed position has weight 0, and a row with only such scores is computed as empty: output 0, logSumExp −∞.',
      tolerance: float32Attention,
    },
    async (context) => {
      const { call, want, got } = await runWithBias(context, (query, key) => (query === 1 || key === 2 ? -Infinity : 0));
      compareNumbers(context, call, got, want, float32Attention);
      context.zero('output of the row of −∞', pickRows(got.output, outputShape(call.shape), (_batch, _head, row) => row === 1));
      if (got.logSumExp !== null) {
        const empty = pickRows(got.logSumExp, rowShape(call.shape), (_batch, _head, row) => row === 1);
        context.sameBits('logSumExp of the row of −∞', empty, empty.map(() => -Infinity));
      }
    },
  ),
  ...[Number.NaN, Infinity].map((poison) =>
    lawCase(
      'L1',
      { name: 'not-finite', parameters: { score: String(poison) }, needs: ['attention', 'nonFinite'], plan: `A score of ${poison} at an allowed position makes its row NaN, and no other row.`, tolerance: float32Attention },
      async (context) => {
        const { call, want, got } = await runWithBias(context, (query, key) => (query === 2 && key === 3 ? poison : 0));
        const poisoned = pickRows(got.output, outputShape(call.shape), (_batch, _head, row) => row === 2);
        context.check(poisoned.every(Number.isNaN), () => `The row with a score of ${poison} is ${poisoned.join(', ')}; expected NaN.`);
        context.close(
          'the other rows',
          pickRows(got.output, outputShape(call.shape), (_batch, _head, row) => row !== 2),
          pickRows(want.output, outputShape(call.shape), (_batch, _head, row) => row !== 2),
          float32Attention.bound({ length: call.shape.keyLength, dim: call.shape.queryDim, dtype: 'f32' }),
        );
      },
    ),
  ),
];

function withSoftmax(options?: SoftmaxOptions): MakeVariant {
  return (stages) => attention({ ...stages, normalization: softmax(options) });
}

async function runWithEmptyRows(context: CaseContext, make: MakeVariant, sinks?: readonly number[], observe = false): Promise<{ call: Call; numbers: Awaited<ReturnType<CaseContext['run']>> }> {
  const call = drawCall(context, make({ masking: oddQueries }), smallShape, {
    inputs: { queryOffset: 0 },
    ...(sinks === undefined ? {} : { fill: { sink: () => sinks } }),
    ...(observe ? { request: { observe: { stages: ['weights'] } } } : {}),
  });
  const numbers = await context.run(call.request, call.inputs);
  const want = await context.expected(call.request, call.inputs);
  compareNumbers(context, call, numbers, want, toleranceOf(call.request.variant));
  return { call, numbers };
}

/** Softmax with a bias table [queryLength, keyLength] of the given entries. */
async function runWithBias(context: CaseContext, entry: (query: number, key: number) => number): Promise<{ call: Call; got: Awaited<ReturnType<CaseContext['run']>>; want: Awaited<ReturnType<CaseContext['expected']>> }> {
  const bias = modifier('bias', ({ score, queryIndex, keyIndex, table }) => score.add(table('bias', ['queryLength', 'keyLength']).at(queryIndex, keyIndex)));
  const variant = attention({ scoring: scaledDot().modify(bias) });
  const { queryLength, keyLength } = smallShape;
  const entries = Float32Array.from({ length: queryLength * keyLength }, (_, index) => entry(Math.floor(index / keyLength), index % keyLength));
  const call = drawCall(context, variant, smallShape, { inputs: { tables: { bias: tensor(entries, [queryLength, keyLength]) } } });
  return { call, got: await context.run(call.request, call.inputs), want: await context.expected(call.request, call.inputs) };
}
