import { attention, causal } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { smallShape } from '../../inputs.ts';
import { exact } from '../../tolerance.ts';
import { normalizations } from '../../variants.ts';
import { drawCall } from '../../attend.ts';

/** L11: lengths of 0 are calls like any other; a dim of 0 is an error. */
export const emptyAxesCases: readonly Case[] = [
  ...Object.entries(normalizations).map(([name, make]) =>
    lawCase('L11', { parameters: { keyLength: 0, normalization: name }, laws: ['L1'], plan: `No keys at all under ${name}: every output is 0.`, tolerance: exact }, async (context) => {
      const call = drawCall(context, make(), { ...smallShape, keyLength: 0 });
      const got = await context.run(call.request, call.inputs);
      context.check(got.output.length === 2 * 4 * 5 * 6, () => `The output has ${got.output.length} elements; expected 240.`);
      context.zero('output', got.output);
    }),
  ),
  lawCase('L11', { name: 'logSumExp', parameters: { keyLength: 0 }, laws: ['L5'], needs: ['attention', 'logSumExp'], plan: 'No keys at all: logSumExp is −∞.', tolerance: exact }, async (context) => {
    const call = drawCall(context, attention(), { ...smallShape, keyLength: 0 });
    const got = await context.run(call.request, call.inputs);
    context.sameBits('logSumExp', got.logSumExp, new Array<number>(40).fill(-Infinity));
  }),
  ...([{ queryLength: 0 }, { batch: 0 }, { batch: 0, queryLength: 0, keyLength: 0 }] as const).map((sizes) =>
    lawCase('L11', { name: 'nothing', parameters: sizes, plan: `${Object.keys(sizes).join(' and ')} of 0: an empty result, no error.`, tolerance: exact }, async (context) => {
      const call = drawCall(context, attention({ masking: causal() }), { ...smallShape, ...sizes }, { inputs: { queryOffset: 0 } });
      const got = await context.run(call.request, call.inputs);
      context.check(got.output.length === 0, () => `The output has ${got.output.length} elements; expected none.`);
      context.check(got.logSumExp === null || got.logSumExp.length === 0, () => 'logSumExp is not empty.');
    }),
  ),
  ...(['queryDim', 'keyDim', 'valueDim'] as const).map((name) =>
    lawCase('L11', { name: 'dim', parameters: { [name]: 0 }, laws: ['L20'], plan: `${name} 0 is refused by prepare with invalid-shape.`, tolerance: exact }, async (context) => {
      const call = drawCall(context, attention(), smallShape);
      await context.refuses('prepare', () => context.backend.prepare({ ...call.request, [name]: 0 }), 'invalid-shape');
    }),
  ),
];
