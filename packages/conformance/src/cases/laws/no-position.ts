import type { AttentionVariant, HostTensor } from '@heed/core';
import { additive, alibi, attention, causal, mask, permute, scaledDot, softcap, tensor, toFloat64, walk, window } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import type { CaseContext } from '../../context.ts';
import { integerTensor, smallShape } from '../../inputs.ts';
import { float32Attention } from '../../tolerance.ts';
import { normalizations, toleranceOf } from '../../variants.ts';
import { compareNumbers, drawCall } from '../../attend.ts';

const { queryLength, keyLength } = smallShape;

/** L16: attention acts on a set of keys. */
export const noPositionCases: readonly Case[] = [
  ...Object.entries(normalizations).map(([name, make]) =>
    lawCase('L16', { name: 'keys', parameters: { normalization: name }, needs: readsKeyPositions(make()) ? ['attention', 'explicitPositions'] : ['attention'], plan: `Under ${name}, permuting keys and values together${readsKeyPositions(make()) ? ', with their positions,' : ''} changes nothing but rounding.`, tolerance: toleranceOf(make()) }, async (context) => {
      await permuteKeys(context, make());
    }),
  ),
  lawCase('L16', { name: 'keys', parameters: { scoring: 'additive' }, plan: 'Additive scoring: permuting keys and values together changes nothing but rounding.', tolerance: float32Attention }, async (context) => {
    await permuteKeys(context, attention({ scoring: additive({ width: 8 }).modify(softcap(3)) }));
  }),
  lawCase('L16', { name: 'queries', plan: 'Permuting queries permutes the output rows.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention(), smallShape);
    const before = await context.run(call.request, call.inputs);
    const order = context.random.permutation(queryLength);
    const after = await context.run(call.request, { ...call.inputs, query: permuteRows(call.inputs.query, order) });
    const want = permuteRows(tensor(before.output, [2, 4, queryLength, 6]), order);
    context.close('output', after.output, toFloat64(want), float32Attention.bound({ length: keyLength, dim: 8, dtype: 'f32', magnitude: 4 }));
  }),
  lawCase('L16', { name: 'positions', needs: ['attention', 'explicitPositions'], plan: 'With the positions permuted along, permuting keys changes nothing for causal windows and ALiBi either.', tolerance: float32Attention }, async (context) => {
    const order = context.random.permutation(keyLength);
    const call = drawCall(context, attention({ scoring: scaledDot().modify(alibi()), masking: causal().and(window({ left: 4, right: 0 })) }), smallShape, { inputs: { queryOffset: 2 } });
    const before = await context.run(call.request, call.inputs);
    const after = await context.run(call.request, {
      ...call.inputs,
      key: permuteRows(call.inputs.key, order),
      value: permuteRows(call.inputs.value, order),
      keyPositions: integerTensor(order, [1, keyLength]),
    });
    compareNumbers(context, call, after, before, float32Attention);
  }),
  lawCase('L16', { name: 'tables', plan: 'A boolean table of keys is permuted along with them.', tolerance: float32Attention }, async (context) => {
    const seen = mask('seen', ({ queryIndex, keyIndex, table }) => table('seen', ['queryLength', 'keyLength'], 'bool').at(queryIndex, keyIndex));
    const call = drawCall(context, attention({ masking: seen }), smallShape);
    const before = await context.run(call.request, call.inputs);
    const order = context.random.permutation(keyLength);
    const table = call.inputs.tables?.['seen'] as HostTensor;
    const entries = toFloat64(table);
    const permuted = integerTensor(Array.from(entries, (_, index) => entries[index - (index % keyLength) + (order[index % keyLength] ?? 0)] ?? 0), table.shape, 'u8');
    const after = await context.run(call.request, { ...call.inputs, key: permuteRows(call.inputs.key, order), value: permuteRows(call.inputs.value, order), tables: { seen: permuted } });
    compareNumbers(context, call, after, before, float32Attention);
  }),
  lawCase('L16', { name: 'layout', plan: 'The layout in memory means nothing: a view with heads and rows exchanged gives the same result as a dense copy.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ masking: causal() }), smallShape, { layout: 'blhd', inputs: { queryOffset: 2 } });
    const dense = (source: HostTensor): HostTensor => tensor(Float32Array.from(toFloat64(source)), source.shape);
    const before = await context.run(call.request, { ...call.inputs, query: dense(call.inputs.query), key: dense(call.inputs.key), value: dense(call.inputs.value) });
    compareNumbers(context, call, await context.run(call.request, call.inputs), before, float32Attention);
    const twice = permute(permute(call.inputs.key, [0, 2, 1, 3]), [0, 2, 1, 3]);
    compareNumbers(context, call, await context.run(call.request, { ...call.inputs, key: twice }), before, float32Attention);
  }),
];

async function permuteKeys(context: CaseContext, variant: AttentionVariant): Promise<void> {
  const call = drawCall(context, variant, smallShape, { inputs: { queryOffset: 0 } });
  const before = await context.run(call.request, call.inputs);
  const order = context.random.permutation(keyLength);
  const positions = readsKeyPositions(variant) ? { keyPositions: integerTensor(order, [1, keyLength]) } : {};
  const after = await context.run(call.request, { ...call.inputs, key: permuteRows(call.inputs.key, order), value: permuteRows(call.inputs.value, order), ...positions });
  compareNumbers(context, call, after, before, toleranceOf(variant));
}

/** True when the weights of a variant depend on where keys stand: a position weight, or random numbers. */
function readsKeyPositions({ normalization }: AttentionVariant): boolean {
  return [normalization.rule.score, normalization.reweigh].some((expression) => [...walk(expression)].some((node) => node.kind === 'random' || (node.kind === 'input' && node.name === 'keyPosition')));
}

/** Row r of the result is row order[r] of the source, [batch, heads, length, dim]. */
function permuteRows(source: HostTensor, order: readonly number[]): HostTensor {
  const [, , length = 1, dim = 1] = source.shape;
  const values = toFloat64(source);
  const moved = values.map((_, index) => {
    const row = Math.floor(index / dim) % length;
    return values[index + ((order[row] ?? row) - row) * dim] ?? 0;
  });
  return tensor(source.dtype === 'f64' ? moved : Float32Array.from(moved), source.shape);
}
