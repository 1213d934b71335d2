import type { ObservedStage } from '@heed/core';
import { attention, causal, scaledDot, softcap, softmax } from '@heed/core';
import type { Case, Need } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { smallShape } from '../../inputs.ts';
import type { PlainOutputs } from '../../plain.ts';
import { plainAttention } from '../../plain.ts';
import { exact, float32Attention } from '../../tolerance.ts';
import { drawCall, pickRows, plainOf } from '../../attend.ts';

const stages: readonly ObservedStage[] = ['scores', 'modified', 'masked', 'weights'];
const { batch, heads, queryLength, keyLength } = smallShape;
const pairShape = [batch, heads, queryLength, keyLength] as const;
const bound = float32Attention.bound({ length: keyLength, dim: smallShape.queryDim, dtype: 'f32', magnitude: 4 });
const variant = attention({ scoring: scaledDot().modify(softcap(1.5)), masking: causal(), normalization: softmax({ sink: true }) });
const sinks = [0.5, -1, 2, 0] as const;

function observing(stage: ObservedStage): readonly Need[] {
  return ['attention', `observe:${stage}`];
}

const meaning: Readonly<Record<ObservedStage, string>> = {
  scores: 'combined and scaled, before any modifier',
  modified: 'after all modifiers, before the mask',
  masked: 'after the mask, −∞ where not allowed',
  weights: 'after normalization, the sink only in the denominator',
};

/** L8: what each observed stage is. */
export const observedStageCases: readonly Case[] = [
  ...stages.map((stage) =>
    lawCase('L8', { parameters: { stage }, needs: observing(stage), plan: `The stage '${stage}' is ${meaning[stage]}.`, tolerance: float32Attention }, async (context) => {
      const call = drawCall(context, variant, smallShape, { fill: { sink: () => sinks }, inputs: { queryOffset: 1 }, request: { observe: { stages: [stage] } } });
      const got = await context.run(call.request, call.inputs);
      context.check(Object.keys(got.observed).join() === stage, () => `Observed ${Object.keys(got.observed).join(', ')}; only ${stage} was asked for.`);
      context.close(stage, got.observed[stage], plainStages(plainOf(call))[stage], bound);
    }),
  ),
  ...stages.map((stage) =>
    lawCase('L8', { name: 'chosen', parameters: { stage }, needs: observing(stage), plan: `Rows 4 and 1 of heads 3 and 0, in that order: only those come back, as [batch, 2, 2, keyLength].`, tolerance: float32Attention }, async (context) => {
      const rows = [4, 1];
      const chosen = [3, 0];
      const call = drawCall(context, variant, smallShape, { fill: { sink: () => sinks }, inputs: { queryOffset: 1, observe: { rows, heads: chosen } }, request: { observe: { stages: [stage] } } });
      const got = await context.run(call.request, call.inputs);
      const all = plainStages(plainOf(call))[stage];
      const want: number[] = [];
      for (let sequence = 0; sequence < batch; sequence++) for (const head of chosen) for (const row of rows) want.push(...pickRows(all, pairShape, (b, h, i) => b === sequence && h === head && i === row));
      context.close(stage, got.observed[stage], want, bound);
    }),
  ),
  lawCase('L8', { name: 'key-mass', needs: ['attention', 'keyMass'], plan: 'The mass of a key is the sum of its weights over the rows looked at.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, variant, smallShape, { fill: { sink: () => sinks }, inputs: { queryOffset: 1, observe: { rows: [0, 2, 3] } }, request: { observe: { stages: [], keyMass: true } } });
    const { weights } = plainStages(plainOf(call));
    const want = new Float64Array(batch * heads * keyLength);
    for (let head = 0; head < batch * heads; head++) for (const row of [0, 2, 3]) for (let key = 0; key < keyLength; key++) want[head * keyLength + key] = (want[head * keyLength + key] ?? 0) + (weights[(head * queryLength + row) * keyLength + key] ?? 0);
    context.close('key mass', (await context.run(call.request, call.inputs)).keyMass, want, bound);
  }),
  lawCase('L8', { name: 'output-unchanged', needs: observing('weights'), plan: 'Observing does not change the output.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, variant, smallShape, { fill: { sink: () => sinks }, inputs: { queryOffset: 1 } });
    const plain = await context.run(call.request, call.inputs);
    const observed = await context.run({ ...call.request, observe: { stages: ['weights'] } }, call.inputs);
    context.close('output', observed.output, plain.output, bound);
  }),
  lawCase('L8', { name: 'byte-budget', needs: observing('weights'), laws: ['L20'], plan: 'More observed bytes than the budget are refused with byte-budget; one row within it is given.', tolerance: exact }, async (context) => {
    const call = drawCall(context, variant, smallShape, { inputs: { queryOffset: 1 }, request: { observe: { stages: ['weights'], byteBudget: 4 * batch * heads * keyLength } } });
    const kernel = await context.kernel(call.request);
    await context.refuses('all rows', () => kernel.run(call.inputs), 'byte-budget');
    const one = await context.numbers(await kernel.run({ ...call.inputs, observe: { rows: [2] } }));
    context.check(one.observed.weights?.length === batch * heads * keyLength, () => `One row of weights has ${String(one.observed.weights?.length)} elements.`);
  }),
];

function plainStages(inputs: Parameters<typeof plainAttention>[0]): PlainOutputs {
  return plainAttention({ ...inputs, modify: (score) => 1.5 * Math.tanh(score / 1.5), allowed: (at) => at.key <= at.query + 1, sink: (head) => sinks[head] ?? 0 });
}
