import { attention } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { smallShape } from '../../inputs.ts';
import { plainAttention } from '../../plain.ts';
import { float32Attention, statistical } from '../../tolerance.ts';
import { compareNumbers, drawCall, plainOf } from '../../attend.ts';

/** L18: the default scale makes scores of unit variance. */
export const scaleCases: readonly Case[] = [
  ...[8, 64, 128].map((dim) =>
    lawCase('L18', { parameters: { dim }, needs: ['attention', 'logSumExp'], plan: `2000 scaled-dot scores of N(0, 1) rows of width ${dim} have variance 1; each is seen as the logSumExp of a row over one key.`, tolerance: statistical }, async (context) => {
      // Every score has a query and a key of its own, so that all are independent: 500 sequences of 4 heads with one query and one key each.
      const samples = 2000;
      const call = drawCall(context, attention(), { batch: samples / 4, heads: 4, keyHeads: 4, queryLength: 1, keyLength: 1, queryDim: dim, keyDim: dim, valueDim: 1 });
      const { logSumExp } = await context.run(call.request, call.inputs);
      const variance = (logSumExp ?? new Float64Array([0])).reduce((sum, score) => sum + score * score, 0) / samples;
      context.close('variance', [variance], [1], statistical.bound({ length: samples, dim, dtype: 'f32' }));
    }),
  ),
  ...[1, 8, 40, 96].map((dim) =>
    lawCase('L18', { name: 'default', parameters: { dim }, plan: `The default scale at width ${dim} is 1/√${dim}.`, tolerance: float32Attention }, async (context) => {
      const call = drawCall(context, attention(), { ...smallShape, queryDim: dim, keyDim: dim });
      compareNumbers(context, call, await context.run(call.request, call.inputs), plainAttention({ ...plainOf(call), scale: dim ** -0.5 }), float32Attention);
    }),
  ),
  lawCase('L18', { name: 'override', plan: 'The scale is a uniform: a call may bind another, on the same kernel.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention(), smallShape);
    const kernel = await context.kernel(call.request);
    for (const scale of [1, 0.125, -0.5]) {
      const got = await context.numbers(await kernel.run({ ...call.inputs, uniforms: { scale } }));
      compareNumbers(context, call, got, plainAttention({ ...plainOf(call), scale }), float32Attention, { score: 30 });
    }
  }),
];
