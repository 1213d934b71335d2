import { alibi, attention, causal, modifier, projection, rope, scaledDot, softcap, toFloat64 } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { firstDifferentBit } from '../../compare.ts';
import { smallShape } from '../../inputs.ts';
import { plainAttention } from '../../plain.ts';
import { float32Attention } from '../../tolerance.ts';
import { compareNumbers, drawCall, matchReference, plainOf } from '../../attend.ts';

const inputs = { queryOffset: 1 } as const;

/** L2: transforms, combine, scale, modifiers in their order, mask, normalize, aggregate. */
export const orderCases: readonly Case[] = [
  lawCase('L2', { parameters: { modifiers: 'softcap-alibi' }, plan: 'Softcap then ALiBi: the cap is on the scaled score, and the distance is subtracted after it (checked against the formula written out).', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ scoring: scaledDot().modify(softcap(1.5), alibi()) }), smallShape, { inputs });
    const slopes = slopesOf(call.inputs.tables);
    const want = plainAttention({ ...plainOf(call), modify: (score, at) => 1.5 * Math.tanh(score / 1.5) - (slopes[at.head] ?? 0) * Math.abs(at.query + 1 - at.key) });
    compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
  }),
  lawCase('L2', { parameters: { modifiers: 'alibi-softcap' }, plan: 'ALiBi then softcap: the cap is on the score with its distance (checked against the formula written out).', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ scoring: scaledDot().modify(alibi(), softcap(1.5)) }), smallShape, { inputs });
    const slopes = slopesOf(call.inputs.tables);
    const want = plainAttention({ ...plainOf(call), modify: (score, at) => 1.5 * Math.tanh((score - (slopes[at.head] ?? 0) * Math.abs(at.query + 1 - at.key)) / 1.5) });
    compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
  }),
  lawCase('L2', { parameters: { modifiers: 'three' }, plan: 'Three modifiers of the user, double, plus one, square, act in the order listed.', tolerance: float32Attention }, async (context) => {
    const double = modifier('double', ({ score }) => score.mul(2));
    const plusOne = modifier('plusOne', ({ score }) => score.add(1));
    const square = modifier('square', ({ score }) => score.mul(score));
    const call = drawCall(context, attention({ scoring: scaledDot({ scale: 0.25 }).modify(double, plusOne, square) }), smallShape);
    const want = plainAttention({ ...plainOf(call), scale: 0.25, modify: (score) => (2 * score + 1) ** 2 });
    compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention, { score: 40 });
  }),
  lawCase('L2', { name: 'scale-first', plan: 'The scale is applied before the modifiers: softcap sees the scaled score.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ scoring: scaledDot({ scale: 0.1 }).modify(softcap(0.3)) }), smallShape);
    const want = plainAttention({ ...plainOf(call), scale: 0.1, modify: (score) => 0.3 * Math.tanh(score / 0.3) });
    compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
  }),
  lawCase('L2', { name: 'mask-last', laws: ['L10'], plan: 'The mask comes after every modifier: a softcap of −∞ would be −cap and leak weight; here a masked key has none.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ scoring: scaledDot().modify(softcap(0.5)), masking: causal() }), smallShape, { inputs });
    const want = plainAttention({ ...plainOf(call), modify: (score) => 0.5 * Math.tanh(score / 0.5), allowed: (at) => at.key <= at.query + 1 });
    compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
  }),
  lawCase('L2', { name: 'transforms', parameters: { order: 'projection-rope' }, plan: 'Row transforms act in the order listed: project, then rotate; the other order gives another result.', tolerance: float32Attention }, async (context) => {
    const project = projection({ width: 8, table: 'mix' });
    const turn = rope({ pairing: 'half' });
    const call = drawCall(context, attention({ scoring: scaledDot().transform(project, turn) }), smallShape, { axes: { mixInput: 8 }, inputs: { queryOffset: 3 } });
    const { got } = await matchReference(context, call, float32Attention, { score: 30 });
    const other = await context.run({ ...call.request, variant: attention({ scoring: scaledDot().transform(turn, project) }) }, call.inputs);
    context.check(firstDifferentBit(got.output, other.output) >= 0, () => 'Both orders of projection and rope give the same bits.');
  }),
];

function slopesOf(tables: Readonly<Record<string, unknown>> | undefined): Float64Array {
  return toFloat64(tables?.['slopes'] as Parameters<typeof toFloat64>[0]);
}
