import type { AttentionInputs } from '@heed/core';
import { attention, causal, slice, window } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { integerTensor, smallShape } from '../../inputs.ts';
import type { PlainPair } from '../../plain.ts';
import { plainAttention } from '../../plain.ts';
import { exact, float32Attention } from '../../tolerance.ts';
import { compareNumbers, drawCall, outputShape, pickRows, plainOf } from '../../attend.ts';

interface Placement {
  readonly plan: string;
  readonly inputs: Omit<Partial<AttentionInputs>, 'query' | 'key' | 'value'>;
  readonly query: (at: PlainPair) => number;
  readonly key: (at: PlainPair) => number;
}

const { queryLength, keyLength } = smallShape;
const ends = keyLength - queryLength;

/** Ways to say where rows stand, and where they stand by that. */
const placements: Readonly<Record<string, Placement>> = {
  start: { plan: "queryOffset 'start' is 0", inputs: { queryOffset: 'start' }, query: (at) => at.query, key: (at) => at.key },
  end: { plan: "queryOffset 'end' is keyLength − queryLength", inputs: { queryOffset: 'end' }, query: (at) => at.query + ends, key: (at) => at.key },
  number: { plan: 'a number is the offset of every sequence', inputs: { queryOffset: 4 }, query: (at) => at.query + 4, key: (at) => at.key },
  perSequence: { plan: 'an array has one offset for each sequence', inputs: { queryOffset: [1, 5] }, query: (at) => at.query + (at.batch === 0 ? 1 : 5), key: (at) => at.key },
  negative: { plan: 'a negative offset is not clamped', inputs: { queryOffset: -2 }, query: (at) => at.query - 2, key: (at) => at.key },
  keyOffset: { plan: 'keys have an offset of their own', inputs: { queryOffset: 3, keyOffset: [2, -1] }, query: (at) => at.query + 3, key: (at) => at.key + (at.batch === 0 ? 2 : -1) },
  far: { plan: 'positions far from 0 differ as near ones do', inputs: { queryOffset: 1_000_003, keyOffset: 1_000_000 }, query: (at) => at.query + 3, key: (at) => at.key },
  endOfLengths: {
    plan: "queryOffset 'end' counts the rows of each sequence that are not padding",
    inputs: { queryOffset: 'end', keyLengths: [7, 5], queryLengths: [5, 3] },
    query: (at) => at.query + 2,
    key: (at) => at.key,
  },
};

function visible(placement: Placement, at: PlainPair): boolean {
  const padding = placement.inputs.keyLengths !== undefined && (at.batch === 1 ? at.key >= 5 || at.query >= 3 : false);
  return !padding && placement.key(at) <= placement.query(at);
}

/** L3: masks see absolute positions. */
export const positionCases: readonly Case[] = [
  ...Object.entries(placements).flatMap(([name, placement]) => [
    lawCase('L3', { parameters: { mask: 'causal', offset: name }, plan: `causal() allows keyPosition ≤ queryPosition, and ${placement.plan}.`, tolerance: float32Attention }, async (context) => {
      const call = drawCall(context, attention({ masking: causal() }), smallShape, { inputs: placement.inputs });
      const want = plainAttention({ ...plainOf(call), allowed: (at) => visible(placement, at) });
      compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
    }),
  ]),
  lawCase('L3', { name: 'explicit', needs: ['attention', 'explicitPositions'], plan: 'Explicit positions in any order replace row numbers on both sides, for each sequence of the batch.', tolerance: float32Attention }, async (context) => {
    const queryPositions = [4, 0, 6, 2, 2, 1, 9, -3, 5, 0];
    const keyPositions = [3, 6, 0, 5, 1, 2, 4, 0, 1, 1, 8, -5, 2, 3];
    const call = drawCall(context, attention({ masking: causal().and(window({ left: 3, right: 0 })) }), smallShape, {
      inputs: { queryPositions: integerTensor(queryPositions, [2, queryLength]), keyPositions: integerTensor(keyPositions, [2, keyLength]) },
    });
    const want = plainAttention({
      ...plainOf(call),
      allowed: (at) => {
        const distance = (queryPositions[at.batch * queryLength + at.query] ?? 0) - (keyPositions[at.batch * keyLength + at.key] ?? 0);
        return distance >= 0 && distance <= 3;
      },
    });
    compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
  }),
  lawCase('L3', { name: 'explicit-shared', needs: ['attention', 'explicitPositions'], plan: 'Positions of shape [1, length] are shared by the sequences of the batch; queries alone may have them.', tolerance: float32Attention }, async (context) => {
    const queryPositions = [6, 3, 0, 2, 4];
    const call = drawCall(context, attention({ masking: causal() }), smallShape, { inputs: { queryPositions: integerTensor(queryPositions, [1, queryLength]) } });
    const want = plainAttention({ ...plainOf(call), allowed: (at) => at.key <= (queryPositions[at.query] ?? 0) });
    compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
  }),
  lawCase('L3', { name: 'ambiguous', laws: ['L20'], plan: "Lengths that differ, a mask that reads positions and no offset: refused with ambiguous-offset, naming 'start' and 'end'.", tolerance: exact }, async (context) => {
    const call = drawCall(context, attention({ masking: causal() }), smallShape);
    const kernel = await context.kernel(call.request);
    await context.refuses('run without an offset', () => kernel.run(call.inputs), 'ambiguous-offset');
    try {
      await kernel.run(call.inputs);
    } catch (error) {
      const text = error instanceof Error ? error.message : '';
      context.check(text.includes('start') && text.includes('end'), () => `The message names not both conventions: ${text}`);
    }
  }),
  lawCase('L3', { name: 'not-needed', plan: 'Lengths that differ and a variant that reads no position: no offset is needed.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention(), smallShape);
    compareNumbers(context, call, await context.run(call.request, call.inputs), plainAttention(plainOf(call)), float32Attention);
  }),
  lawCase('L3', { name: 'decode', plan: 'Row t of a prefill is the answer of a decode step with one query at offset t over the first t + 1 keys.', tolerance: float32Attention }, async (context) => {
    const shape = { ...smallShape, queryLength: 6, keyLength: 6 };
    const call = drawCall(context, attention({ masking: causal() }), shape);
    const whole = await context.run(call.request, call.inputs);
    const { query, key, value } = call.inputs;
    for (const row of [0, 3, 5]) {
      const step = await context.run(call.request, { query: slice(query, 2, row, row + 1), key: slice(key, 2, 0, row + 1), value: slice(value, 2, 0, row + 1), queryOffset: row });
      const want = pickRows(whole.output, outputShape(shape), (_batch, _head, candidate) => candidate === row);
      context.close(`decode step ${row}`, step.output, want, float32Attention.bound({ length: row + 1, dim: shape.queryDim, dtype: 'f32' }));
    }
  }),
];
