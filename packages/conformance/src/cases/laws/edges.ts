import type { AttentionVariant, EdgeList, HostTensor } from '@heed/core';
import { alibi, attention, edgeBias, edgeFeatures, gat, gatV2, mask, scaledDot, toFloat64 } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { drawTables, integerTensor, smallShape } from '../../inputs.ts';
import type { PlainPair } from '../../plain.ts';
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

/** Place of each edge in `edges.keys`. */
function placesOf({ starts, keys }: EdgeList): (at: PlainPair) => number {
  const [start, key] = [starts, keys].map((list) => [...toFloat64(list as HostTensor)]);
  return ({ query, key: sender }) => (key ?? []).indexOf(sender, start?.[query] ?? 0);
}

/** Graph attention written out: the score of an edge from the rows at its ends and what the edge carries. */
interface EdgeScore {
  readonly variant: AttentionVariant;
  readonly scoreDim?: number;
  readonly score: (at: PlainPair & { readonly edge: number }, rows: { readonly query: ArrayLike<number>; readonly key: ArrayLike<number>; readonly keyHead: number; readonly scaled: number }, table: (name: string, ...indices: readonly number[]) => number) => number;
}

const leaky = (x: number, slope: number): number => (x >= 0 ? x : slope * x);
const product = (row: ArrayLike<number>, weight: (channel: number) => number): number => Array.from(row).reduce((sum, element, channel) => sum + element * weight(channel), 0);

const edgeScores: Readonly<Record<string, EdgeScore>> = {
  edgeBias: { variant: attention({ scoring: scaledDot().modify(edgeBias()) }), score: ({ head, edge }, { scaled }, table) => scaled + table('edgeBias', head, edge) },
  edgeFeatures: {
    variant: attention({ scoring: scaledDot().modify(edgeFeatures({ width: 3 })) }),
    score: ({ head, edge }, { scaled }, table) => scaled + [0, 1, 2].reduce((sum, channel) => sum + table('edgeFeatures', edge, channel) * table('edgeVector', head, channel), 0),
  },
  gat: {
    variant: attention({ scoring: gat({ edges: 2 }) }),
    score: ({ head, edge }, { query, key, keyHead }, table) =>
      leaky(
        product(query, (channel) => table('queryVector', head, 0, channel)) + product(key, (channel) => table('keyVector', keyHead, 0, channel)) +
          table('edgeFeatures', edge, 0) * table('edgeVector', head, 0) + table('edgeFeatures', edge, 1) * table('edgeVector', head, 1),
        0.2,
      ),
  },
  gatV2: {
    variant: attention({ scoring: gatV2({ width: 6, edges: true, slope: 0.1 }) }),
    scoreDim: 6,
    score: ({ head, edge }, { query, key, keyHead }, table) =>
      [0, 1, 2, 3, 4, 5].reduce((sum, w) => {
        const joined = product(query, (channel) => table('queryProjection', head, w, channel)) + product(key, (channel) => table('keyProjection', keyHead, w, channel)) + table('edgeRows', head, edge, w);
        return sum + table('vector', head, w) * leaky(joined, 0.1);
      }, 0),
  },
};

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
  ...Object.entries(edgeScores).map(([name, { variant, scoreDim, score }]) =>
    lawCase('L17', { name, needs, plan: `What edges carry changes their own scores, in the order of the list: ${name} as its formula has it.`, tolerance: float32Attention }, async (context) => {
      const edges = edgesOf(rows, context.random);
      const tables = drawTables(context.random, variant, smallShape, { axes: { edge: rows.flat().length }, ...(scoreDim === undefined ? {} : { scoreDim }) });
      const call = drawCall(context, variant, smallShape, { inputs: { edges, tables } });
      const [plain, place] = [plainOf(call), placesOf(edges)];
      const table = (of: string, ...indices: readonly number[]): number => {
        const { shape } = tables[of] ?? integerTensor([], [0]);
        return toFloat64(tables[of] ?? integerTensor([], [0]))[indices.reduce((sum, index, axis) => sum * (shape[axis] ?? 1) + index, 0)] ?? Number.NaN;
      };
      const row = (values: ArrayLike<number>, at: number): ArrayLike<number> => Array.from(values).slice(at * plain.dim, (at + 1) * plain.dim);
      const want = plainAttention({
        ...plain,
        allowed: (at) => isEdge(at.query, at.key),
        modify: (scaled, at) => {
          if (!isEdge(at.query, at.key)) return scaled;
          const keyHead = Math.floor((at.head * plain.keyHeads) / plain.heads);
          const query = row(plain.query, (at.batch * plain.heads + at.head) * plain.queryLength + at.query);
          const key = row(plain.key, (at.batch * plain.keyHeads + keyHead) * plain.keyLength + at.key);
          return score({ ...at, edge: place(at) }, { query, key, keyHead, scaled }, table);
        },
      });
      compareNumbers(context, call, await context.run(call.request, call.inputs), want, float32Attention);
    }),
  ),
  lawCase('L17', { name: 'edges-needed', needs, laws: ['L20'], plan: 'A variant that reads edges is refused a call without them.', tolerance: exact }, async (context) => {
    const variant = attention({ scoring: scaledDot().modify(edgeBias()) });
    const call = drawCall(context, variant, smallShape, { axes: { edge: rows.flat().length } });
    const kernel = await context.kernel(call.request);
    await context.refuses('run without edges', () => kernel.run(call.inputs), 'invalid-edges');
    await context.refuses('a table with an edge too few', () => kernel.run({ ...call.inputs, edges: edgesOf([[0], [2, 5], [], [], []]) }), 'invalid-table');
  }),
  lawCase('L17', { name: 'duplicate', needs, laws: ['L20'], plan: 'The same edge twice is refused with duplicate-edge, and the kernel still works.', tolerance: exact }, async (context) => {
    const call = drawCall(context, attention(), smallShape);
    const kernel = await context.kernel(call.request);
    await context.refuses('run', () => kernel.run({ ...call.inputs, edges: edgesOf([[0], [2, 5, 2], [], [], []]) }), 'duplicate-edge');
    context.check((await context.numbers(await kernel.run({ ...call.inputs, edges: edgesOf(rows) }))).output.length > 0, () => 'Nothing is returned afterwards.');
  }),
];
