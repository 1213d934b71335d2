import type { BlockList } from '@heed/core';
import { additive, alibi, attention, causal, isHostTensor, l2Norm, mask, modifier, rope, scaledDot, slice, softcap, softmax, tensor, toFloat64, window } from '@heed/core';
import type { Case } from '../case.ts';
import { defineCase } from '../case.ts';
import type { Shape } from '../inputs.ts';
import { integerTensor, smallShape } from '../inputs.ts';
import { plainAttention } from '../plain.ts';
import { exact, float32Attention } from '../tolerance.ts';
import { mergeable, normalizations, toleranceOf } from '../variants.ts';
import { compareNumbers, drawCall, matchReference, outputShape, pickRows, plainOf } from '../attend.ts';

const shape: Shape = { ...smallShape, queryLength: 10, keyLength: 13 };

/** Tiles of 4 queries × 3 keys: the first row of tiles lists key tiles 0 and 3, the second none, the third 1, 2 and 4. */
const listed = [[0, 3], [], [1, 2, 4]] as const;
const capacity = 4;

function isListed(query: number, key: number): boolean {
  return (listed[Math.floor(query / 4)] as readonly number[]).includes(Math.floor(key / 3));
}

function blockList(): BlockList {
  // What lies past a count means nothing: here 99.
  const indices = listed.flatMap((row) => [...row, ...new Array<number>(capacity - row.length).fill(99)]);
  return { blockQuery: 4, blockKey: 3, counts: integerTensor(listed.map((row) => row.length), [1, 1, 3]), indices: integerTensor(indices, [1, 1, 3, capacity]) };
}

/** Ways to hand keys and queries over: packed, in blocks, transformed before, in pages, on the runtime. */
export const formatCases: readonly Case[] = [
  ...Object.entries(normalizations).map(([name, make]) =>
    defineCase({ name: 'packed/normalization', parameters: { normalization: name }, laws: ['L14'], needs: ['attention', 'packed'], plan: `Sequences of 4, 0, 5 and 1 queries and 3, 2, 6 and 2 keys, packed, under ${name}: as the reference has each by itself.`, tolerance: toleranceOf(make()) }, async (context) => {
      const call = drawCall(context, make({ masking: causal() }), { ...shape, batch: 1 }, { inputs: { packed: { query: [0, 4, 4, 9, 10], key: [0, 3, 5, 11, 13] }, queryOffset: [1, 0, 2, 1] } });
      // A batch axis of a table counts sequences; those that these variants have may repeat.
      const tables = Object.fromEntries(Object.entries(call.inputs.tables ?? {}).map(([table, bound]) => [table, bound.shape.length === 3 && isHostTensor(bound) ? tensor(Float32Array.from({ length: 4 * 5 }, () => 3 * context.random.uniform()), [1, 4, 5]) : bound]));
      await matchReference(context, { ...call, inputs: { ...call.inputs, tables } }, toleranceOf(make()));
    }),
  ),
  defineCase({ name: 'packed/positions', laws: ['L3'], needs: ['attention', 'packed'], plan: 'Packed sequences count their rows from their own beginning, with an offset each; ALiBi and a window see those positions.', tolerance: float32Attention }, async (context) => {
    const starts = { query: [0, 4, 10], key: [0, 6, 13] } as const;
    const offsets = [2, 1] as const;
    const call = drawCall(context, attention({ scoring: scaledDot().modify(alibi()), masking: window({ left: 3, right: 1 }) }), { ...shape, batch: 1 }, { inputs: { packed: starts, queryOffset: offsets } });
    const slopes = [0.25, 0.0625, 0.015625, 0.00390625];
    const place = (at: { readonly query: number; readonly key: number }): { readonly same: boolean; readonly distance: number } => {
      const sequence = at.query >= 4 ? 1 : 0;
      return { same: sequence === (at.key >= 6 ? 1 : 0), distance: at.query - starts.query[sequence] + offsets[sequence] - (at.key - starts.key[sequence]) };
    };
    const want = plainAttention({
      ...plainOf(call),
      modify: (score, at) => score - (slopes[at.head] ?? 0) * Math.abs(place(at).distance),
      allowed: (at) => place(at).same && place(at).distance <= 3 && place(at).distance >= -1,
    });
    compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
  }),
  ...Object.entries(normalizations).map(([name, make]) =>
    defineCase({ name: 'blocks/normalization', parameters: { normalization: name }, laws: ['L10'], needs: ['attention', 'blocks'], plan: `A list of tiles of 4 × 3 with ragged ends under ${name}: allowed is listed and allowed by the causal mask; rows of the empty tile row are 0.`, tolerance: toleranceOf(make()) }, async (context) => {
      const inList = mask('inList', ({ queryIndex, keyIndex, table }) => table('list', ['queryLength', 'keyLength'], 'bool').at(queryIndex, keyIndex));
      const call = drawCall(context, make({ masking: causal() }), shape, { inputs: { queryOffset: 3 } });
      const table = integerTensor(Array.from({ length: 130 }, (_, index) => Number(isListed(Math.floor(index / 13), index % 13))), [10, 13], 'u8');
      const want = await context.expected({ ...call.request, variant: make({ masking: causal().and(inList) }) }, { ...call.inputs, tables: { ...call.inputs.tables, list: table } });
      const got = await context.run(call.request, { ...call.inputs, blocks: blockList() });
      compareNumbers(context, call, got, want, toleranceOf(make()));
      context.zero('rows of the empty tile row', pickRows(got.output, outputShape(shape), (_batch, _head, row) => row >= 4 && row < 8));
    }),
  ),
  defineCase({ name: 'blocks/full', needs: ['attention', 'blocks'], plan: 'Tiles that are marked as full give the same as tiles that are not.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention(), shape);
    const want = plainAttention({ ...plainOf(call), allowed: (at) => isListed(at.query, at.key) });
    const full = integerTensor(new Array<number>(3 * capacity).fill(1), [1, 1, 3, capacity], 'u8');
    compareNumbers(context, call, await context.run(call.request, { ...call.inputs, blocks: { ...blockList(), full } }), want, float32Attention);
  }),
  defineCase({ name: 'blocks/gathered', laws: ['L13'], needs: ['attention', 'blocks'], plan: 'Query rows gathered into tiles, one of them in two tiles with different keys: it is merged over both, and rows in no tile are empty.', tolerance: float32Attention }, async (context) => {
    const rows = [[9, 2, 5, -1], [0, 2, -1, -1]] as const;
    const keys = [[0, 2], [1, 4]] as const;
    const blocks: BlockList = {
      blockQuery: 4,
      blockKey: 3,
      counts: integerTensor([2, 2], [1, 1, 2]),
      indices: integerTensor(keys.flat(), [1, 1, 2, 2]),
      queryRows: integerTensor(rows.flat(), [1, 1, 2, 4]),
    };
    const sees = (query: number, key: number): boolean => rows.some((tile, index) => (tile as readonly number[]).includes(query) && (keys[index] as readonly number[]).includes(Math.floor(key / 3)));
    const call = drawCall(context, attention({ normalization: softmax({ sink: true }) }), shape, { inputs: { blocks }, fill: { sink: () => [1, 0, -1, 2] } });
    const want = plainAttention({ ...plainOf(call), allowed: (at) => sees(at.query, at.key), sink: (head) => [1, 0, -1, 2][head] ?? 0 });
    compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
  }),
  ...Object.entries({
    rope: attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })), masking: causal() }),
    normRope: attention({ scoring: scaledDot().transform(l2Norm(), rope({ pairing: 'interleaved' })) }),
    additive: attention({ scoring: additive({ width: 8 }) }),
    none: attention(),
  }).map(([name, variant]) =>
    defineCase({ name: 'keys/transformed', parameters: { variant: name }, laws: ['L3'], needs: ['attention', 'transformKeys'], plan: `transformKeys once, then run with keysTransformed, is run with the keys themselves (${name}): transforms are not applied twice, and not skipped.`, tolerance: float32Attention }, async (context) => {
      const call = drawCall(context, variant, smallShape, { inputs: { queryOffset: 5, keyOffset: [3, 2] } });
      const kernel = await context.kernel(call.request);
      const { key, tables, keyOffset } = call.inputs;
      const transformed = await kernel.transformKeys({ key, ...(tables === undefined ? {} : { tables }), ...(keyOffset === undefined ? {} : { keyOffset }) });
      const want = await context.expected(call.request, call.inputs);
      const got = await context.numbers(await kernel.run({ ...call.inputs, key: transformed, keysTransformed: true }));
      compareNumbers(context, call, got, want, float32Attention);
    }),
  ),
  defineCase({ name: 'keys/transformed-in-parts', needs: ['attention', 'transformKeys'], plan: 'A cache that transforms keys as they come has the rows of one that transforms all at once.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })) }), smallShape, { inputs: { queryOffset: 0 } });
    const kernel = await context.kernel(call.request);
    const whole = await context.values(await kernel.transformKeys({ key: call.inputs.key }));
    const last = await context.values(await kernel.transformKeys({ key: slice(call.inputs.key, 2, 4, 7), keyOffset: 4 }));
    context.close('rows 4 … 6', last, pickRows(whole, [2, 2, 7, 8], (_batch, _head, row) => row >= 4), float32Attention.bound({ length: 7, dim: 8, dtype: 'f32' }));
  }),
  defineCase({ name: 'keys/paged', laws: ['L15'], needs: ['attention', 'storage:paged'], plan: 'Keys and values in pages of 4 rows, in any order, with NaN in rows past the lengths: as the same rows one after another.', tolerance: float32Attention }, async (context) => {
    const lengths = [7, 5] as const;
    const call = drawCall(context, attention({ masking: causal() }), smallShape, { inputs: { queryOffset: [2, 0], keyLengths: lengths } });
    const pages = [[3, 0], [1, 4]] as const;
    const paged = (source: typeof call.inputs.key): typeof source => {
      const [, heads = 1, length = 1, dim = 1] = source.shape;
      const values = toFloat64(source);
      const data = new Float32Array(5 * heads * 4 * dim).fill(Number.NaN);
      for (const [sequence, own] of pages.entries()) {
        for (let key = 0; key < (lengths[sequence] ?? 0); key++) {
          for (let head = 0; head < heads; head++) {
            const from = ((sequence * heads + head) * length + key) * dim;
            data.set(values.subarray(from, from + dim), (((own[Math.floor(key / 4)] ?? 0) * heads + head) * 4 + (key % 4)) * dim);
          }
        }
      }
      return tensor(data, [5, heads, 4, dim]);
    };
    const got = await context.run({ ...call.request, storage: 'paged' }, { ...call.inputs, key: paged(call.inputs.key), value: paged(call.inputs.value), pages: { pages: integerTensor(pages.flat(), [2, 2]), pageLength: 4 } });
    compareNumbers(context, call, got, await context.expected(call.request, call.inputs), float32Attention);
  }),
  ...Object.entries(mergeable).map(([name, make]) =>
    defineCase({ name: 'partial/positions', parameters: { variant: name }, laws: ['L13', 'L3'], needs: ['attention', 'partial'], plan: `${name}: the accumulator and statistics of a shard in the middle of the keys are those of the reference.`, tolerance: float32Attention }, async (context) => {
      const call = drawCall(context, make(), shape, { inputs: { queryOffset: 3 } });
      const { key, value } = call.inputs;
      const inputs = { ...call.inputs, key: slice(key, 2, 4, 9), value: slice(value, 2, 4, 9), keyOffset: 4, totalKeyLengths: [13, 13] };
      const kernel = await context.kernel(call.request);
      const got = await kernel.partial(inputs);
      const reference = await context.reference.prepare({ ...call.request, dtypes: { output: 'f64' } });
      const want = await reference.partial(inputs);
      context.check(got.mergeClass === want.mergeClass, () => `The class is ${got.mergeClass}; expected ${want.mergeClass}.`);
      const bound = float32Attention.bound({ length: 13, dim: 8, dtype: 'f32', magnitude: 16 });
      context.close('accumulator', await context.values(got.accumulator), await context.values(want.accumulator, context.reference.runtime), bound);
      for (const [statistic, expected] of Object.entries(want.statistics)) {
        const own = Object.entries(got.statistics).find(([candidate]) => candidate === statistic)?.[1];
        context.close(statistic, own === undefined ? null : await context.values(own), await context.values(expected, context.reference.runtime), bound);
      }
    }),
  ),
  defineCase({ name: 'partial/no-keys', laws: ['L11', 'L13'], needs: ['attention', 'partial'], plan: 'The partial result over no keys has logSumExp −∞.', tolerance: exact }, async (context) => {
    const call = drawCall(context, attention({ scoring: scaledDot().modify(softcap(3)) }), { ...shape, keyLength: 0 });
    const kernel = await context.kernel(call.request);
    const { statistics } = await kernel.partial(call.inputs);
    const logs = statistics.logSumExp === undefined ? new Float64Array([0]) : await context.values(statistics.logSumExp);
    context.sameBits('logSumExp', logs, logs.map(() => -Infinity));
  }),
  defineCase({ name: 'tables/repeat', plan: 'An axis of size 1 of a table repeats along the batch, the heads and the queries.', tolerance: float32Attention }, async (context) => {
    const biased = modifier('bias', ({ score, batch, head, queryIndex, keyIndex, table }) => score.add(table('bias', ['batch', 'head', 'queryLength', 'keyLength']).at(batch, head, queryIndex, keyIndex)));
    const call = drawCall(context, attention({ scoring: scaledDot().modify(biased) }), shape);
    for (const sizes of [[1, 1, 1, 13], [2, 1, 10, 13], [1, 4, 1, 13], [1, 1, 10, 1]] as const) {
      const bias = tensor(Float32Array.from({ length: sizes.reduce<number>((a, b) => a * b, 1) }, () => context.random.normal()), sizes);
      const inputs = { ...call.inputs, tables: { bias } };
      compareNumbers(context, call, await context.run(call.request, inputs), await context.expected(call.request, inputs), float32Attention);
    }
  }),
];
