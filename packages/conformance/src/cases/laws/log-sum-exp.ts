import { attention, causal, scaledDot, softcap, softmax } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { smallShape } from '../../inputs.ts';
import { plainAttention } from '../../plain.ts';
import { float32LogSumExp } from '../../tolerance.ts';
import { drawCall, plainOf } from '../../attend.ts';

const bound = float32LogSumExp.bound({ length: smallShape.keyLength, dim: smallShape.queryDim, dtype: 'f32' });
const needs = ['attention', 'logSumExp'] as const;

/** L5: natural logarithm of the final scores' exponentials, sink included, float32 or wider. */
export const logSumExpCases: readonly Case[] = [
  lawCase('L5', { needs, plan: 'logSumExp is the natural logarithm of the sum of exponentials of the scaled scores.', tolerance: float32LogSumExp }, async (context) => {
    const call = drawCall(context, attention(), smallShape);
    context.close('logSumExp', (await context.run(call.request, call.inputs)).logSumExp, plainAttention(plainOf(call)).logSumExp, bound);
  }),
  lawCase('L5', { name: 'one-key', needs, plan: 'Over one key, logSumExp is its score: no base, no offset.', tolerance: float32LogSumExp }, async (context) => {
    const call = drawCall(context, attention({ scoring: scaledDot({ scale: 0.5 }) }), { ...smallShape, keyLength: 1 });
    context.close('logSumExp', (await context.run(call.request, call.inputs)).logSumExp, plainAttention({ ...plainOf(call), scale: 0.5 }).scores, bound);
  }),
  lawCase('L5', { name: 'modified', needs, laws: ['L2'], plan: 'The scores are the final ones: scaled, capped, divided by the temperature, masked.', tolerance: float32LogSumExp }, async (context) => {
    const call = drawCall(context, attention({ scoring: scaledDot().modify(softcap(2)), masking: causal(), normalization: softmax({ temperature: 0.5 }) }), smallShape, { inputs: { queryOffset: 1 } });
    const want = plainAttention({ ...plainOf(call), modify: (score) => (2 * Math.tanh(score / 2)) / 0.5, allowed: (at) => at.key <= at.query + 1 });
    context.close('logSumExp', (await context.run(call.request, call.inputs)).logSumExp, want.logSumExp, bound);
  }),
  lawCase('L5', { name: 'sink', needs, laws: ['L7'], plan: 'The sink of the head is in the sum.', tolerance: float32LogSumExp }, async (context) => {
    const sinks = [1.5, -3, 0, 4];
    const call = drawCall(context, attention({ normalization: softmax({ sink: true }) }), smallShape, { fill: { sink: () => sinks } });
    const want = plainAttention({ ...plainOf(call), sink: (head) => sinks[head] ?? 0 });
    context.close('logSumExp', (await context.run(call.request, call.inputs)).logSumExp, want.logSumExp, bound);
  }),
  lawCase('L5', { name: 'large', needs, plan: 'Scores of ±10⁴ neither overflow nor lose the logarithm: it is the largest score.', tolerance: float32LogSumExp }, async (context) => {
    const call = drawCall(context, attention(), smallShape, { distribution: 'hugeScores' });
    const want = plainAttention(plainOf(call)).logSumExp;
    const score = want.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    context.close('logSumExp', (await context.run(call.request, call.inputs)).logSumExp, want, float32LogSumExp.bound({ length: smallShape.keyLength, dim: smallShape.queryDim, dtype: 'f32', score }));
  }),
  ...(['f16', 'bf16'] as const).map((dtype) =>
    lawCase('L5', { name: 'narrow', parameters: { dtype }, needs: [...needs, `dtype:${dtype}`], laws: ['L9'], plan: `With ${dtype} storage on all sides, logSumExp is still float32 and as exact.`, tolerance: float32LogSumExp }, async (context) => {
      const call = drawCall(context, attention(), smallShape, { dtype, output: dtype });
      context.close('logSumExp', (await context.run(call.request, call.inputs)).logSumExp, plainAttention(plainOf(call)).logSumExp, bound);
    }),
  ),
];
