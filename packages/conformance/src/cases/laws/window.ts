import { attention, causal, window } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { smallShape } from '../../inputs.ts';
import { plainAttention } from '../../plain.ts';
import { float32Attention } from '../../tolerance.ts';
import { compareNumbers, drawCall, plainOf } from '../../attend.ts';

const sides = [0, 1, 3, Infinity] as const;
const lengths = [
  { queryLength: 5, keyLength: 7, queryOffset: 2 },
  { queryLength: 17, keyLength: 17, queryOffset: 0 },
] as const;

/** L4: both sides of a window exclude self; Infinity opens a side. */
export const windowCases: readonly Case[] = [
  ...lengths.flatMap(({ queryLength, keyLength, queryOffset }) =>
    sides.flatMap((left) =>
      sides.map((right) =>
        lawCase(
          'L4',
          {
            parameters: { left, right, lq: queryLength, lk: keyLength },
            plan: `window({ left: ${left}, right: ${right} }) allows queryPosition − ${left} ≤ keyPosition ≤ queryPosition + ${right}, with ${queryLength} queries from position ${queryOffset} and ${keyLength} keys.`,
            tolerance: float32Attention,
          },
          async (context) => {
            const call = drawCall(context, attention({ masking: window({ left, right }) }), { ...smallShape, queryLength, keyLength }, { inputs: { queryOffset } });
            const want = plainAttention({
              ...plainOf(call),
              allowed: (at) => at.query + queryOffset - left <= at.key && at.key <= at.query + queryOffset + right,
            });
            compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
          },
        ),
      ),
    ),
  ),
  lawCase('L4', { name: 'wide-is-causal', plan: 'A window to the left that is as long as the sequence, and nothing to the right, is causal.', tolerance: float32Attention }, async (context) => {
    const shape = { ...smallShape, queryLength: 17, keyLength: 17 };
    const call = drawCall(context, attention({ masking: window({ left: 16, right: 0 }) }), shape);
    const other = await context.run({ ...call.request, variant: attention({ masking: causal() }) }, call.inputs);
    compareNumbers(context, call, await context.run(call.request, call.inputs), other, float32Attention);
  }),
  lawCase('L4', { name: 'negative', laws: ['L20'], plan: 'A side of −1 is refused with invalid-uniform when a call binds it; 0 is allowed, and means the query’s own position.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ masking: window({ left: 2, right: 1 }) }), smallShape, { inputs: { queryOffset: 2 } });
    const kernel = await context.kernel(call.request);
    await context.refuses('run', () => kernel.run({ ...call.inputs, uniforms: { 'window.left': -1 } }), 'invalid-uniform');
    const got = await context.numbers(await kernel.run({ ...call.inputs, uniforms: { 'window.left': 0, 'window.right': 0 } }));
    compareNumbers(context, call, got, plainAttention({ ...plainOf(call), allowed: (at) => at.key === at.query + 2 }), float32Attention);
  }),
  lawCase('L4', { name: 'override', laws: ['L20'], plan: 'The sides are uniforms: a call may bind others, and the kernel uses those.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ masking: window({ left: 2, right: 1 }) }), smallShape, { inputs: { queryOffset: 2, uniforms: { 'window.left': 1, 'window.right': 0 } } });
    const want = plainAttention({ ...plainOf(call), allowed: (at) => at.query + 1 <= at.key && at.key <= at.query + 2 });
    compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
  }),
];
