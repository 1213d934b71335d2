import type { Normalization } from '@heed/core';
import { attention, causal, slice, softmax, toFloat64, write } from '@heed/core';
import { randomAt } from '@heed/core/compute';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { integerTensor, smallShape } from '../../inputs.ts';
import { exact, float32Attention } from '../../tolerance.ts';
import { normalizations } from '../../variants.ts';
import { drawCall, outputShape, pickRows } from '../../attend.ts';

const seed = 7;
const keep = 0.6;

/** Softmax whose weights stay with probability 0.6, by the generator of the contract. */
function thinned(): Normalization {
  return softmax().reweighBy(write('reweigh', 'thin', ({ weight, random, uniform }) => random(uniform('seed', seed, 'i32')).lt(keep).select(weight.div(keep), 0)));
}

const needs = ['attention', 'deterministic'] as const;

/** L14: the same call, the same bits; random numbers belong to positions. */
export const determinismCases: readonly Case[] = [
  ...[1, 5, 65].map((queryLength) =>
    lawCase('L14', { name: 'repeat', parameters: { lq: queryLength }, needs, plan: `Ten runs of one call with ${queryLength} queries, half of them on a second kernel of the same request, give the same bits.`, tolerance: exact }, async (context) => {
      const call = drawCall(context, attention({ masking: causal() }), { ...smallShape, batch: 1, queryLength, keyLength: 65 }, { inputs: { queryOffset: 'end' } });
      const kernel = await context.kernel(call.request);
      const first = await context.numbers(await kernel.run(call.inputs));
      const second = await context.kernel(call.request);
      for (let count = 0; count < 9; count++) {
        const again = await context.numbers(await (count % 2 === 0 ? second : kernel).run(call.inputs));
        context.sameBits('output', again.output, first.output);
        if (first.logSumExp !== null) context.sameBits('logSumExp', again.logSumExp, first.logSumExp);
      }
    }),
  ),
  ...[1, 5, 17].map((queryLength) =>
    lawCase('L14', { name: 'batch', parameters: { lq: queryLength }, needs, plan: `A sequence with ${queryLength} queries gives the same bits alone and beside two others.`, tolerance: exact }, async (context) => {
      const shape = { ...smallShape, batch: 3, queryLength, keyLength: 33 };
      const call = drawCall(context, attention({ masking: causal() }), shape, { inputs: { queryOffset: 'end' } });
      const whole = await context.run(call.request, call.inputs);
      const { query, key, value } = call.inputs;
      for (const sequence of [0, 1, 2]) {
        const alone = await context.run(call.request, { query: slice(query, 0, sequence, sequence + 1), key: slice(key, 0, sequence, sequence + 1), value: slice(value, 0, sequence, sequence + 1), queryOffset: 'end' });
        context.sameBits(`sequence ${sequence}`, alone.output, pickRows(whole.output, outputShape(shape), (batch) => batch === sequence));
      }
    }),
  ),
  lawCase('L14', { name: 'packed', needs: [...needs, 'packed'], plan: 'Sequences of 3, 7 and 1 rows packed one after another give the same bits as each alone.', tolerance: exact }, async (context) => {
    const shape = { ...smallShape, batch: 1, queryLength: 11, keyLength: 11 };
    const call = drawCall(context, attention({ masking: causal() }), shape, { inputs: { packed: { query: [0, 3, 10, 11], key: [0, 3, 10, 11] } } });
    const whole = await context.run(call.request, call.inputs);
    const { query, key, value } = call.inputs;
    for (const [start, end] of [[0, 3], [3, 10], [10, 11]] as const) {
      const alone = await context.run(call.request, { query: slice(query, 2, start, end), key: slice(key, 2, start, end), value: slice(value, 2, start, end) });
      context.sameBits(`rows ${start} … ${end - 1}`, alone.output, pickRows(whole.output, outputShape(shape), (_batch, _head, row) => row >= start && row < end));
    }
  }),
  lawCase('L14', { name: 'order-of-calls', needs, plan: 'Another call in between, of another shape on the same kernel, changes no bit.', tolerance: exact }, async (context) => {
    const call = drawCall(context, attention(), smallShape);
    const other = drawCall(context, attention(), { ...smallShape, batch: 1, queryLength: 33, keyLength: 3 });
    const kernel = await context.kernel(call.request);
    const first = await context.numbers(await kernel.run(call.inputs));
    await kernel.run(other.inputs);
    context.sameBits('output', (await context.numbers(await kernel.run(call.inputs))).output, first.output);
  }),
  lawCase('L14', { name: 'random', plan: 'Random numbers are Threefry-2x32 keyed by seed, sequence id, head, query position and key position: which weights a thinning keeps is known in advance.', tolerance: exact }, async (context) => {
    const ids = [5, 1];
    const shape = { ...smallShape, valueDim: smallShape.keyLength };
    const call = drawCall(context, attention({ normalization: thinned() }), shape, { inputs: { queryOffset: 3, keyOffset: 2, sequenceIds: ids, headOffset: 10 } });
    // The value of key j is the unit row j, so the output is the row of weights.
    const unit = Float32Array.from({ length: call.inputs.value.view().length }, (_, index) => (index % 7 === Math.floor(index / 7) % 7 ? 1 : 0));
    call.inputs.value.view().set(unit);
    const { output } = await context.run(call.request, call.inputs);
    for (let index = 0; index < output.length; index++) {
      const key = index % 7;
      const query = Math.floor(index / 7) % 5;
      const head = Math.floor(index / 35) % 4;
      const sequence = Math.floor(index / 140);
      const kept = randomAt(seed, 0, ids[sequence] ?? 0, head + 10, query + 3, key + 2) < keep;
      context.check((output[index] !== 0) === kept, () => `Sequence ${sequence}, head ${head}, query ${query}, key ${key}: the weight is ${output[index]}, which should be ${kept ? 'kept' : 'dropped'}.`);
    }
  }),
  lawCase('L14', { name: 'random-decode', plan: 'A decode step draws the random numbers of its row in the prefill.', tolerance: float32Attention }, async (context) => {
    const shape = { ...smallShape, queryLength: 7, keyLength: 7 };
    const call = drawCall(context, attention({ masking: causal(), normalization: thinned() }), shape);
    const whole = await context.run(call.request, call.inputs);
    const { query, key, value } = call.inputs;
    for (const row of [2, 6]) {
      const step = await context.run(call.request, { query: slice(query, 2, row, row + 1), key: slice(key, 2, 0, row + 1), value: slice(value, 2, 0, row + 1), queryOffset: row });
      context.close(`row ${row}`, step.output, pickRows(whole.output, outputShape(shape), (_batch, _head, candidate) => candidate === row), float32Attention.bound({ length: 7, dim: 8, dtype: 'f32', magnitude: 4 }));
    }
  }),
  lawCase('L14', { name: 'random-batch', plan: 'With its sequence id, the second sequence of a batch draws the same random numbers alone; with its head offset, a shard of the heads does too.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ normalization: thinned() }), smallShape, { inputs: { queryOffset: 0 } });
    const whole = await context.run(call.request, call.inputs);
    const { query, key, value } = call.inputs;
    const bound = float32Attention.bound({ length: 7, dim: 8, dtype: 'f32', magnitude: 4 });
    const alone = await context.run(call.request, { query: slice(query, 0, 1, 2), key: slice(key, 0, 1, 2), value: slice(value, 0, 1, 2), sequenceIds: [1], queryOffset: 0 });
    context.close('the sequence alone', alone.output, pickRows(whole.output, outputShape(smallShape), (batch) => batch === 1), bound);
    const shard = await context.run(call.request, { query: slice(query, 1, 2, 4), key: slice(key, 1, 1, 2), value: slice(value, 1, 1, 2), headOffset: 2, queryOffset: 0 });
    context.close('heads 2 and 3', shard.output, pickRows(whole.output, outputShape(smallShape), (_batch, head) => head >= 2), bound);
  }),
  ...Object.entries(normalizations).map(([name, make]) =>
    lawCase('L14', { name: 'repeat', parameters: { normalization: name }, needs, plan: `Two runs under ${name} give the same bits.`, tolerance: exact }, async (context) => {
      const call = drawCall(context, make(), smallShape, { inputs: { queryOffset: 1 } });
      const kernel = await context.kernel(call.request);
      const first = await context.numbers(await kernel.run(call.inputs));
      context.sameBits('output', (await context.numbers(await kernel.run(call.inputs))).output, first.output);
    }),
  ),
  lawCase('L14', { name: 'inputs-kept', needs: ['attention'], plan: 'A run writes nothing to its inputs.', tolerance: exact }, async (context) => {
    const call = drawCall(context, attention({ masking: causal() }), smallShape, { inputs: { queryOffset: 2, keyLengths: integerTensor([7, 4], [2]).view() as Int32Array } });
    const before = [call.inputs.query, call.inputs.key, call.inputs.value].map((source) => toFloat64(source));
    await context.run(call.request, call.inputs);
    for (const [index, source] of [call.inputs.query, call.inputs.key, call.inputs.value].entries()) context.sameBits(`input ${index}`, toFloat64(source), before[index]);
  }),
];
