import { describe, expect, test } from 'vitest';
import type { AttentionInputs, AttentionStages, HostTensor } from '../../src/index.ts';
import type { Edge } from '../../src/compute.ts';
import { alibi, attention, booleanMask, causal, documents, dropout, relu, rope, scaledDot, slice, softmax, tensor, toFloat64, window } from '../../src/index.ts';
import { edgeList } from '../../src/compute.ts';
import type { BlockList } from '../../src/index.ts';
import { ReferenceKernel } from '../../src/reference/attention/kernel.ts';
import { expectClose, key, query, random, run, sizes, value } from '../plain.ts';

const { batch, heads, keyHeads, queryLength, keyLength, dim, valueDim } = sizes;
const float64 = { query: 'f64', key: 'f64', value: 'f64' } as const;

function kernelOf(stages: AttentionStages): ReferenceKernel {
  return new ReferenceKernel({ variant: attention(stages), queryDim: dim, keyDim: dim, valueDim, dtypes: float64 }, () => false);
}

function i32(data: readonly number[], shape: readonly number[]): HostTensor {
  return tensor(Int32Array.from(data), shape);
}

describe('packed sequences are the sequences by themselves', () => {
  // Four sequences, the second and the last empty; 5 query rows and 8 key rows in all.
  const starts = { query: [0, 2, 2, 5, 5], key: [0, 3, 3, 8, 8] };
  const packedQuery = random(91, [1, heads, 5, dim]);
  const packedKey = random(92, [1, keyHeads, 8, dim]);
  const packedValue = random(93, [1, keyHeads, 8, valueDim]);
  const slopes = random(94, [heads]);

  test.each<[string, AttentionStages, Readonly<Record<string, HostTensor>>?]>([
    ['causal with rotary positions and ALiBi', { scoring: scaledDot().transform(rope({ pairing: 'half' })).modify(alibi()), masking: causal() }, { slopes }],
    ['a normalizer by length', { normalization: relu() }],
    ['dropout', { normalization: softmax().reweighBy(dropout({ probability: 0.5, seed: 1 })) }],
  ])('%s', async (_, stages, tables = {}) => {
    const kernel = kernelOf(stages);
    const packed = await kernel.run({ query: packedQuery, key: packedKey, value: packedValue, packed: starts, queryOffset: 'end', tables });
    const want: number[][] = Array.from({ length: heads }, () => []);
    for (let sequence = 0; sequence < 4; sequence++) {
      const rows = [starts.query[sequence]!, starts.query[sequence + 1]!] as const;
      const keys = [starts.key[sequence]!, starts.key[sequence + 1]!] as const;
      const alone = await kernel.run({ query: slice(packedQuery, 2, ...rows), key: slice(packedKey, 2, ...keys), value: slice(packedValue, 2, ...keys), queryOffset: 'end', sequenceIds: [sequence], tables });
      const data = toFloat64(alone.output);
      for (let head = 0; head < heads; head++) want[head]!.push(...data.subarray(head * (rows[1] - rows[0]) * valueDim, (head + 1) * (rows[1] - rows[0]) * valueDim));
    }
    expect([...toFloat64(packed.output)]).toEqual(want.flat());
  });

  test('keys transformed while packed stand at their own positions', async () => {
    const kernel = kernelOf({ scoring: scaledDot().transform(rope({ pairing: 'interleaved' })), masking: causal() });
    const inputs: AttentionInputs = { query: packedQuery, key: packedKey, value: packedValue, packed: starts, queryOffset: 'end', keyOffset: [0, 5, 2, 0] };
    const transformed = await kernel.transformKeys({ key: packedKey, packed: starts, keyOffset: [0, 5, 2, 0] });
    const got = await kernel.run({ ...inputs, key: transformed, keysTransformed: true });
    expect(toFloat64(got.output)).toEqual(toFloat64((await kernel.run(inputs)).output));
  });

  test('blocks of packed sequences count within each; edges are refused', async () => {
    const kernel = kernelOf({});
    // Sequence 0: rows 0–1 see key tile 0; sequence 2: rows 0–1 see tile 1, row 2 tiles 0 and 2. Tiles of 2.
    const blocks: BlockList = { blockQuery: 2, blockKey: 2, counts: i32([1, 0, 0, 0, 1, 2, 0, 0], [4, 1, 2]), indices: i32([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0], [4, 1, 2, 2]) };
    const inputs = { query: packedQuery, key: packedKey, value: packedValue, packed: starts };
    const allowed = [[0, 1], [0, 1], [2, 3].map((j) => j + 3), [2, 3].map((j) => j + 3), [0, 1, 4].map((j) => j + 3)];
    const mask = tensor(Uint8Array.from(allowed.flatMap((keys) => Array.from({ length: 8 }, (_, j) => Number(keys.includes(j))))), [1, 1, 5, 8]);
    const want = await kernelOf({ masking: booleanMask() }).run({ query: packedQuery, key: packedKey, value: packedValue, tables: { mask } });
    expectClose((await kernel.run({ ...inputs, blocks })).output, toFloat64(want.output), 1e-14);
    const edges = edgeList([], { queryLength: 5, keyLength: 8 });
    await expect(kernel.run({ ...inputs, edges })).rejects.toMatchObject({ code: 'invalid-edges' });
  });
});

describe('lists', () => {
  test('gathered rows: a row in several groups sees what any of them lists, a row in none is empty', async () => {
    // Groups of two: rows 3 and 0 on key tile 0, rows 0 and none on tiles 1 and 2. Rows 1 and 2 are in no group.
    const blocks: BlockList = { blockQuery: 2, blockKey: 2, counts: i32([1, 2], [1, 1, 2]), indices: i32([0, 0, 1, 2], [1, 1, 2, 2]), queryRows: i32([3, 0, 0, -1], [1, 1, 2, 2]) };
    const allowed = [[0, 1, 2, 3, 4], [], [], [0, 1]];
    const mask = tensor(Uint8Array.from(allowed.flatMap((keys) => Array.from({ length: keyLength }, (_, j) => Number(keys.includes(j))))), [1, 1, queryLength, keyLength]);
    for (const masking of [window({ left: 2, right: 0 }), causal()]) {
      const got = await run(attention({ masking }), { blocks });
      const want = await run(attention({ masking: masking.and(booleanMask()) }), { tables: { mask } });
      expectClose(got.output, toFloat64(want.output));
      expectClose(got.logSumExp, toFloat64(want.logSumExp!));
    }
  });

  test('L17: edges, repeated over batch and heads, are the masked dense result', async () => {
    const edges: Edge[] = [[0, 4], [0, 1], [2, 0], [3, 3], [3, 2], [3, 4]];
    const mask = new Uint8Array(queryLength * keyLength);
    for (const [receiver, sender] of edges) mask[receiver * keyLength + sender] = 1;
    const got = await run(attention({ masking: causal() }), { edges: edgeList(edges, { queryLength, keyLength }) });
    const want = await run(attention({ masking: causal().and(booleanMask()) }), { tables: { mask: tensor(mask, [1, 1, queryLength, keyLength]) } });
    expectClose(got.output, toFloat64(want.output));
  });

  test('documents of a batch and lengths are the same as each entry by itself', async () => {
    const kernel = kernelOf({ masking: documents() });
    const tables = { queryDocuments: i32([0, 0, 1, 1, 1, 1, 0, 2], [batch, queryLength]), keyDocuments: i32([0, 1, 1, 0, 1, 0, 0, 1, 1, 2], [batch, keyLength]) };
    const whole = toFloat64((await kernel.run({ query, key, value, tables, keyLengths: [3, 5] })).output);
    const first = await kernel.run({
      query: slice(query, 0, 0, 1), key: slice(slice(key, 0, 0, 1), 2, 0, 3), value: slice(slice(value, 0, 0, 1), 2, 0, 3),
      tables: { queryDocuments: slice(tables.queryDocuments, 0, 0, 1), keyDocuments: slice(slice(tables.keyDocuments, 0, 0, 1), 1, 0, 3) },
    });
    expect([...toFloat64(first.output)]).toEqual([...whole.subarray(0, heads * queryLength * valueDim)]);
  });
});
