import type { DType } from '@heed/core';
import { attention, causal, encode, tensor } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { placed, smallShape } from '../../inputs.ts';
import { plainAttention } from '../../plain.ts';
import { exact, float32Attention } from '../../tolerance.ts';
import { compareNumbers, drawCall, matchReference, plainOf } from '../../attend.ts';

const narrow = ['f16', 'bf16'] as const;
const wide = { ...smallShape, queryLength: 3, keyLength: 65, queryDim: 64, keyDim: 64, valueDim: 40 };

/** L9: float32 sums whatever the storage, weights unrounded, overflow to infinity. */
export const precisionCases: readonly Case[] = [
  ...narrow.map((dtype) =>
    lawCase(
      'L9',
      { name: 'weights', parameters: { dtype }, needs: ['attention', `dtype:${dtype}`], plan: `${dtype} query, key and value with a float32 output are as exact as float32: scores are summed wide and weights are not rounded to ${dtype} before they meet the values.`, tolerance: float32Attention },
      async (context) => {
        const call = drawCall(context, attention({ masking: causal() }), wide, { dtype, inputs: { queryOffset: 60 } });
        const want = plainAttention({ ...plainOf(call), allowed: (at) => at.key <= at.query + 60 });
        compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
      },
    ),
  ),
  ...narrow.map((dtype) =>
    lawCase('L9', { name: 'output', parameters: { dtype }, needs: ['attention', `dtype:${dtype}`], plan: `A ${dtype} output is the float32 result rounded once.`, tolerance: float32Attention }, async (context) => {
      await matchReference(context, drawCall(context, attention(), wide, { dtype, output: dtype }), float32Attention);
    }),
  ),
  ...narrow.map((dtype) =>
    lawCase('L9', { name: 'long-sum', parameters: { dtype }, needs: ['attention', `dtype:${dtype}`], plan: `4097 equal keys with the value 1 in ${dtype} give 1: a narrow running sum would stop growing long before.`, tolerance: float32Attention }, async (context) => {
      const length = 4097;
      const output = await context.run(
        { variant: attention(), queryDim: 2, keyDim: 2, valueDim: 1, dtypes: { query: dtype, key: dtype, value: dtype, output: 'f32' } },
        { query: placed([1, 0], [1, 1, 1, 2], dtype), key: placed(new Float64Array(2 * length), [1, 1, length, 2], dtype), value: placed(new Float64Array(length).fill(1), [1, 1, length, 1], dtype) },
      );
      context.close('output', output.output, [1], float32Attention.bound({ length, dim: 2, dtype: 'f32' }));
    }),
  ),
  ...([['f16', 1e5], ['bf16', 3.4e38]] as const).map(([dtype, size]) =>
    lawCase('L9', { name: 'overflow', parameters: { dtype }, needs: ['attention', `dtype:${dtype}`], plan: `A result of ±${size.toExponential(1)} in a ${dtype} output is ±∞, not the largest finite number.`, tolerance: exact }, async (context) => {
      const output = await context.run(
        { variant: attention(), queryDim: 2, keyDim: 2, valueDim: 2, dtypes: { output: dtype } },
        { query: placed([1, 0], [1, 1, 1, 2]), key: placed([0, 0, 0, 0], [1, 1, 2, 2]), value: placed([size, -size, size, -size], [1, 1, 2, 2]) },
      );
      context.sameBits('output', output.output, [Infinity, -Infinity]);
    }),
  ),
  ...(['hugeScores', 'nearDuplicateKeys', 'dominantScore', 'equalScores', 'denormals'] as const).map((distribution) =>
    lawCase('L9', { name: 'adversarial', parameters: { distribution }, plan: `Inputs drawn as ${distribution} stay within the bound and stay finite.`, tolerance: float32Attention }, async (context) => {
      const call = drawCall(context, attention({ masking: causal() }), { ...smallShape, queryLength: 17, keyLength: 17, queryDim: 40, keyDim: 40 }, { distribution });
      const want = plainAttention({ ...plainOf(call), allowed: (at) => at.key <= at.query });
      const score = want.scores.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention, { score });
    }),
  ),
  lawCase('L9', { name: 'mixed', needs: ['attention', 'dtype:f16', 'dtype:bf16'], plan: 'Query in float32, key in f16, value in bf16: each is read by its own type.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention(), smallShape);
    const as = (source: typeof call.inputs.key, dtype: DType): typeof source => tensor(encode(source.view(), dtype), source.shape, { dtype });
    const mixed = { ...call, request: { ...call.request, dtypes: { query: 'f32', key: 'f16', value: 'bf16', output: 'f32' } }, inputs: { ...call.inputs, key: as(call.inputs.key, 'f16'), value: as(call.inputs.value, 'bf16') } } as const;
    compareNumbers(context, mixed, await context.run(mixed.request, mixed.inputs), plainAttention(plainOf(mixed)), float32Attention);
  }),
];
