import type { EdgeList } from '@heed/core';
import { alibi, attention, mask, scaledDot } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { integerTensor, smallShape } from '../../inputs.ts';
import { plainAttention } from '../../plain.ts';
import type { RandomSource } from '../../random.ts';
import { exact, float32Attention } from '../../tolerance.ts';
import { normalizations, toleranceOf } from '../../variants.ts';
import { compareNumbers, drawCall, outputShape, pickRows, plainOf } from '../../attend.ts';

const { queryLength, keyLength } = smallShape;
const needs = ['attention', 'edges'] as const;

/** In-edges of each query; query 3 has none. */
const rows: readonly (readonly number[])[] = [[0], [2, 5], [0, 1, 2, 3, 4, 5, 6], [], [6, 1]];

function isEdge(query: number, key: number): boolean {
  return rows[query]?.includes(key) ?? false;
}

/** Compressed rows, each in the order given or a random one. */
function edgesOf(neighbours: readonly (readonly number[])[], random?: RandomSource): EdgeList {
  const ordered = neighbours.map((row) => (random === undefined ? row : random.permutation(row.length).map((index) => row[index] ?? 0)));
  const starts = [0];
  for (const row of ordered) starts.push((starts.at(-1) ?? 0) + row.length);
  return { starts: integerTensor(starts, [starts.length]), keys: integerTensor(ordered.flat(), [ordered.flat().length]) };
}

const graph = mask('graph', ({ queryIndex, keyIndex, table }) => table('adjacency', ['queryLength', 'keyLength'], 'bool').at(queryIndex, keyIndex));
const adjacency = integerTensor(Array.from({ length: queryLength * keyLength }, (_, index) => Number(isEdge(Math.floor(index / keyLength), index % keyLength))), [queryLength, keyLength], 'u8');

/** L17: a mask is a directed graph, and message passing over its edges is the masked result. */
export const edgeCases: readonly Case[] = [
  lawCase('L17', { name: 'table', plan: 'The mask of a graph, as a table: row i aggregates over the in-edges of i, and a node without in-edges gets 0.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ masking: graph }), smallShape, { inputs: { tables: { adjacency } } });
    const got = await context.run(call.request, call.inputs);
    compareNumbers(context, call, got, plainAttention({ ...plainOf(call), allowed: (at) => isEdge(at.query, at.key) }), float32Attention);
    context.zero('the isolated node', pickRows(got.output, outputShape(smallShape), (_batch, _head, row) => row === 3));
  }),
  ...Object.entries(normalizations).map(([name, make]) =>
    lawCase('L17', { parameters: { normalization: name }, needs, plan: `The edges as a list give the masked dense result under ${name}, in any order within a row.`, tolerance: toleranceOf(make()) }, async (context) => {
      const call = drawCall(context, make(), smallShape, { inputs: { queryOffset: 1 } });
      const masked = { ...call, request: { ...call.request, variant: make({ masking: graph }) } };
      const want = await context.expected(masked.request, { ...call.inputs, tables: { ...call.inputs.tables, adjacency } });
      for (const edges of [edgesOf(rows), edgesOf(rows, context.random)]) compareNumbers(context, call, await context.run(call.request, { ...call.inputs, edges }), want, toleranceOf(call.request.variant));
    }),
  ),
  lawCase('L17', { name: 'with-mask', needs, plan: 'Edges and a mask: allowed is what both allow, and modifiers see the positions of the edge.', tolerance: float32Attention }, async (context) => {
    const odd = mask('odd', ({ queryPosition, keyPosition }) => queryPosition.add(keyPosition).mod(2).eq(1));
    const call = drawCall(context, attention({ scoring: scaledDot().modify(alibi()), masking: odd }), smallShape, { inputs: { queryOffset: 1, edges: edgesOf(rows) } });
    const slopes = [0.25, 0.0625, 0.015625, 0.00390625];
    const want = plainAttention({
      ...plainOf(call),
      modify: (score, at) => score - (slopes[at.head] ?? 0) * Math.abs(at.query + 1 - at.key),
      allowed: (at) => isEdge(at.query, at.key) && (at.query + 1 + at.key) % 2 === 1,
    });
    compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
  }),
  lawCase('L17', { name: 'complete', needs, plan: 'The complete bipartite graph is dense attention.', tolerance: float32Attention }, async (context) => {
    const all = Array.from({ length: queryLength }, () => Array.from({ length: keyLength }, (_, key) => key));
    const call = drawCall(context, attention(), smallShape);
    compareNumbers(context, call, await context.run(call.request, { ...call.inputs, edges: edgesOf(all) }), plainAttention(plainOf(call)), float32Attention);
  }),
  lawCase('L17', { name: 'duplicate', needs, laws: ['L20'], plan: 'The same edge twice is refused with duplicate-edge, and the kernel still works.', tolerance: exact }, async (context) => {
    const call = drawCall(context, attention(), smallShape);
    const kernel = await context.kernel(call.request);
    await context.refuses('run', () => kernel.run({ ...call.inputs, edges: edgesOf([[0], [2, 5, 2], [], [], []]) }), 'duplicate-edge');
    context.check((await context.numbers(await kernel.run({ ...call.inputs, edges: edgesOf(rows) }))).output.length > 0, () => 'Nothing is returned afterwards.');
  }),
];
