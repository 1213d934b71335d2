import { attention, scaledDot, slice, softcap, softmax, softmaxOffByOne } from '@heed/core';
import { finalize, merge } from '@heed/core/compute';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { smallShape } from '../../inputs.ts';
import { plainAttention } from '../../plain.ts';
import { float32Attention } from '../../tolerance.ts';
import { compareNumbers, drawCall, plainOf } from '../../attend.ts';
import { hostPartial } from '../../shards.ts';

const sinks = [2, -1, 0.5, 3] as const;
const fill = { sink: (): readonly number[] => sinks };
const sinkOf = (head: number): number => sinks[head] ?? 0;

/** L7: one logit per query head, in the denominator only. */
export const sinkCases: readonly Case[] = [
  lawCase('L7', { plan: 'One logit for each query head joins the denominator: four heads on two key heads have four different sinks.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ normalization: softmax({ sink: true }) }), smallShape, { fill });
    compareNumbers(context, call, await context.run(call.request, call.inputs), plainAttention({ ...plainOf(call), sink: sinkOf }), float32Attention);
  }),
  lawCase('L7', { name: 'not-scaled', plan: 'The sink is not scaled: with scale 0.05 it stays what it is.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ scoring: scaledDot({ scale: 0.05 }), normalization: softmax({ sink: true }) }), smallShape, { fill });
    compareNumbers(context, call, await context.run(call.request, call.inputs), plainAttention({ ...plainOf(call), scale: 0.05, sink: sinkOf }), float32Attention);
  }),
  lawCase('L7', { name: 'not-modified', plan: 'The sink is not modified: neither softcap nor temperature reaches it.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ scoring: scaledDot().modify(softcap(0.5)), normalization: softmax({ sink: true, temperature: 0.5 }) }), smallShape, { fill });
    const want = plainAttention({ ...plainOf(call), modify: (score) => (0.5 * Math.tanh(score / 0.5)) / 0.5, sink: sinkOf });
    compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
  }),
  lawCase('L7', { name: 'off-by-one', plan: 'softmaxOffByOne is the sink 0.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ normalization: softmaxOffByOne() }), smallShape);
    compareNumbers(context, call, await context.run(call.request, call.inputs), plainAttention({ ...plainOf(call), sink: () => 0 }), float32Attention);
  }),
  lawCase('L7', { name: 'minus-infinity', needs: ['attention', 'nonFinite'], plan: 'A sink of −∞ is no sink.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ normalization: softmax({ sink: true }) }), smallShape, { fill: { sink: () => [-Infinity, -Infinity, -Infinity, -Infinity] } });
    compareNumbers(context, call, await context.run(call.request, call.inputs), plainAttention(plainOf(call)), float32Attention);
  }),
  lawCase('L7', { name: 'dominant', plan: 'A sink far above every score takes the weight: the rows go to 0 and logSumExp to the sink.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ normalization: softmax({ sink: true }) }), smallShape, { fill: { sink: () => [90, 90, 90, 90] } });
    compareNumbers(context, call, await context.run(call.request, call.inputs), plainAttention({ ...plainOf(call), sink: () => 90 }), float32Attention, { score: 90 });
  }),
  ...[[3], [1, 2, 5]].map((cuts) =>
    lawCase('L7', { name: 'merged', parameters: { cuts: cuts.join('-') }, laws: ['L13'], needs: ['attention', 'partial'], plan: `Keys split at ${cuts.join(', ')}: the sink is counted once, at the end.`, tolerance: float32Attention }, async (context) => {
      const call = drawCall(context, attention({ normalization: softmax({ sink: true }) }), smallShape, { fill });
      const kernel = await context.kernel(call.request);
      const ends = [0, ...cuts, smallShape.keyLength];
      const partials = [];
      for (const [index, start] of ends.slice(0, -1).entries()) {
        const end = ends[index + 1] ?? start;
        partials.push(await hostPartial(context, await kernel.partial({ ...call.inputs, key: slice(call.inputs.key, 2, start, end), value: slice(call.inputs.value, 2, start, end) })));
      }
      const got = await context.numbers(finalize(call.request, merge(partials), call.inputs));
      compareNumbers(context, call, got, plainAttention({ ...plainOf(call), sink: sinkOf }), float32Attention);
    }),
  ),
];
