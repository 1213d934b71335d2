import { attention, causal } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { smallShape } from '../../inputs.ts';
import { plainAttention } from '../../plain.ts';
import { exact, float32Attention } from '../../tolerance.ts';
import { normalizations, toleranceOf } from '../../variants.ts';
import { compareNumbers, drawCall, matchReference, outputShape, pickRows, plainOf } from '../../attend.ts';
import { blindRows, hiddenKeys, hidings, withRow } from '../../poison.ts';

const poisons = [Number.NaN, Infinity, -Infinity] as const;

/** L10: true = may attend, and what is not allowed contributes nothing. */
export const maskSelectCases: readonly Case[] = [
  ...Object.entries(hidings).map(([name, hiding]) =>
    lawCase('L10', { parameters: { hidden: name }, plan: `Keys hidden by ${hiding.plan} have no weight, the others have all of it (checked against the formula over the allowed pairs).`, tolerance: float32Attention }, async (context) => {
      const call = drawCall(context, attention({ ...(hiding.masking === undefined ? {} : { masking: hiding.masking }) }), smallShape, { inputs: hiding.inputs });
      const want = plainAttention({ ...plainOf(call), allowed: (at) => !hiding.hidden(at.batch, at.query, at.key) });
      compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
    }),
  ),
  ...Object.entries(hidings).flatMap(([name, hiding]) =>
    poisons.map((poison) =>
      lawCase(
        'L10',
        { name: 'poison', parameters: { hidden: name, holds: String(poison) }, laws: ['L15'], plan: `With ${hiding.plan}, a key and value of ${poison} change no bit of the rows that may not see them, nor of their logSumExp.`, tolerance: exact },
        async (context) => {
          const call = drawCall(context, attention({ ...(hiding.masking === undefined ? {} : { masking: hiding.masking }) }), smallShape, { inputs: hiding.inputs });
          const clean = await context.run(call.request, call.inputs);
          for (const key of hiddenKeys(hiding)) {
            const poisoned = { ...call.inputs, key: withRow(call.inputs.key, key, () => poison), value: withRow(call.inputs.value, key, () => poison) };
            const got = await context.run(call.request, poisoned);
            const blind = blindRows(hiding, key);
            context.sameBits(`output with key ${key} poisoned`, pickRows(got.output, outputShape(smallShape), blind), pickRows(clean.output, outputShape(smallShape), blind));
            if (clean.logSumExp === null) continue;
            const rows = [smallShape.batch, smallShape.heads, smallShape.queryLength, 1] as const;
            context.sameBits(`logSumExp with key ${key} poisoned`, pickRows(got.logSumExp ?? [], rows, blind), pickRows(clean.logSumExp, rows, blind));
          }
        },
      ),
    ),
  ),
  ...Object.entries(normalizations).map(([name, make]) =>
    lawCase('L10', { name: 'poison', parameters: { normalization: name }, plan: `Under ${name}, NaN in the key and value of the last position changes nothing for the queries before it, and the rest is that of the reference.`, tolerance: toleranceOf(make()) }, async (context) => {
      const shape = { ...smallShape, queryLength: 6, keyLength: 7 };
      const call = drawCall(context, make({ masking: causal() }), shape, { inputs: { queryOffset: 0 } });
      const { got } = await matchReference(context, call, toleranceOf(call.request.variant));
      const poisoned = await context.run(call.request, { ...call.inputs, key: withRow(call.inputs.key, 6, () => Number.NaN), value: withRow(call.inputs.value, 6, () => Number.NaN) });
      context.sameBits('output', poisoned.output, got.output);
    }),
  ),
];
