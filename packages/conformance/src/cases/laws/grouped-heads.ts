import { attention, causal } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { drawInputs, smallShape } from '../../inputs.ts';
import { plainAttention } from '../../plain.ts';
import { exact, float32Attention } from '../../tolerance.ts';
import { compareNumbers, drawCall, plainOf } from '../../attend.ts';

const groups = [
  { heads: 6, keyHeads: 6 },
  { heads: 6, keyHeads: 3 },
  { heads: 6, keyHeads: 2 },
  { heads: 6, keyHeads: 1 },
  { heads: 32, keyHeads: 8 },
] as const;

/** L6: query head h reads key head floor(h · keyHeads / heads). */
export const groupedHeadCases: readonly Case[] = [
  ...groups.flatMap(({ heads, keyHeads }) =>
    [1, 5].map((queryLength) =>
      lawCase(
        'L6',
        { parameters: { heads, keyHeads, lq: queryLength }, plan: `${heads} query heads on ${keyHeads} key heads, ${queryLength} queries: contiguous groups, as if each key head were repeated ${heads / keyHeads} times.`, tolerance: float32Attention },
        async (context) => {
          const call = drawCall(context, attention({ masking: causal() }), { ...smallShape, heads, keyHeads, queryLength }, { inputs: { queryOffset: 2 } });
          const want = plainAttention({ ...plainOf(call), allowed: (at) => at.key <= at.query + 2 });
          compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
        },
      ),
    ),
  ),
  lawCase('L6', { name: 'not-a-multiple', laws: ['L20'], plan: '4 query heads on 3 key heads are refused with invalid-shape.', tolerance: exact }, async (context) => {
    const kernel = await context.kernel(drawCall(context, attention(), smallShape).request);
    await context.refuses('run', () => kernel.run(drawInputs(context.random, { ...smallShape, heads: 4, keyHeads: 3 })), 'invalid-shape');
  }),
];
