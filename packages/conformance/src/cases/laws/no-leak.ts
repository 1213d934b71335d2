import { attention, causal, scaledDot, softcap, window } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { smallShape } from '../../inputs.ts';
import { exact } from '../../tolerance.ts';
import { normalizations } from '../../variants.ts';
import { drawCall, outputShape, pickRows } from '../../attend.ts';
import { blindRows, hiddenKeys, hidings, otherNumbers, withRow } from '../../poison.ts';

/** L15: what a query may not see does not change its row, bit for bit. */
export const noLeakCases: readonly Case[] = [
  ...Object.entries(hidings).map(([name, hiding]) =>
    lawCase('L15', { parameters: { hidden: name }, plan: `With ${hiding.plan}, other keys and values at each hidden place change no bit of the rows that may not see it.`, tolerance: exact }, async (context) => {
      const call = drawCall(context, attention({ ...(hiding.masking === undefined ? {} : { masking: hiding.masking }) }), smallShape, { inputs: hiding.inputs });
      const kernel = await context.kernel(call.request);
      const before = await context.numbers(await kernel.run(call.inputs));
      for (const key of hiddenKeys(hiding)) {
        const other = otherNumbers(context.random);
        const after = await context.numbers(await kernel.run({ ...call.inputs, key: withRow(call.inputs.key, key, other), value: withRow(call.inputs.value, key, other) }));
        const blind = blindRows(hiding, key);
        context.sameBits(`rows that may not see key ${key}`, pickRows(after.output, outputShape(smallShape), blind), pickRows(before.output, outputShape(smallShape), blind));
      }
    }),
  ),
  ...Object.entries(normalizations).map(([name, make]) =>
    lawCase('L15', { parameters: { normalization: name, lq: 33 }, plan: `Under ${name} and a causal mask, changing the second half of the keys changes no bit of the first half of 33 rows.`, tolerance: exact }, async (context) => {
      const shape = { ...smallShape, batch: 1, queryLength: 33, keyLength: 33 };
      const call = drawCall(context, make({ masking: causal() }), shape);
      const kernel = await context.kernel(call.request);
      const before = await context.numbers(await kernel.run(call.inputs));
      let { key, value } = call.inputs;
      for (let row = 17; row < 33; row++) {
        key = withRow(key, row, otherNumbers(context.random));
        value = withRow(value, row, otherNumbers(context.random));
      }
      const after = await context.numbers(await kernel.run({ ...call.inputs, key, value }));
      const early = (_batch: number, _head: number, row: number): boolean => row < 17;
      context.sameBits('rows 0 … 16', pickRows(after.output, outputShape(shape), early), pickRows(before.output, outputShape(shape), early));
    }),
  ),
  lawCase('L15', { name: 'modified', plan: 'Softcap, a window of 15 and 65 rows: changing key 40 changes no bit of the rows outside 40 … 55.', tolerance: exact }, async (context) => {
    const shape = { ...smallShape, batch: 1, queryLength: 65, keyLength: 65 };
    const call = drawCall(context, attention({ scoring: scaledDot().modify(softcap(2)), masking: window({ left: 15, right: 0 }) }), shape);
    const kernel = await context.kernel(call.request);
    const before = await context.numbers(await kernel.run(call.inputs));
    const other = otherNumbers(context.random);
    const after = await context.numbers(await kernel.run({ ...call.inputs, key: withRow(call.inputs.key, 40, other), value: withRow(call.inputs.value, 40, other) }));
    const blind = (_batch: number, _head: number, row: number): boolean => row < 40 || row > 55;
    context.sameBits('rows that may not see key 40', pickRows(after.output, outputShape(shape), blind), pickRows(before.output, outputShape(shape), blind));
  }),
  lawCase('L15', { name: 'packed', needs: ['attention', 'packed'], plan: 'Packed sequences of 3 and 8 rows: changing one changes no bit of the other.', tolerance: exact }, async (context) => {
    const shape = { ...smallShape, batch: 1, queryLength: 11, keyLength: 11 };
    const call = drawCall(context, attention(), shape, { inputs: { packed: { query: [0, 3, 11], key: [0, 3, 11] } } });
    const before = await context.run(call.request, call.inputs);
    let { key, value } = call.inputs;
    for (let row = 3; row < 11; row++) {
      key = withRow(key, row, () => Number.NaN);
      value = withRow(value, row, otherNumbers(context.random));
    }
    const after = await context.run(call.request, { ...call.inputs, key, value });
    const first = (_batch: number, _head: number, row: number): boolean => row < 3;
    context.sameBits('rows of the first sequence', pickRows(after.output, outputShape(shape), first), pickRows(before.output, outputShape(shape), first));
  }),
];
