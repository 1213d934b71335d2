import { attention, causal, mask, softmax, tensor, type BlockList, type HostTensor } from '@heed/core';
import { blockListToMask } from '@heed/core/compute';
import { createReferenceBackend } from '@heed/core/reference';
import { createCpuBackend } from '@heed/cpu';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sparse, type SparseBackend } from '../src/index.ts';
import { normals, numbers, random, worstShare } from './plain.ts';

const dim = 8;
let backend: SparseBackend;
beforeAll(async () => {
  backend = sparse(await createCpuBackend({ threads: 1 }), { blockQuery: 3, blockKey: 5, leastTiles: 0 });
});
afterAll(() => backend.runtime.dispose());

interface Drawn {
  readonly list: BlockList;
  readonly queryLength: number;
  readonly keyLength: number;
  readonly seed: number;
}

const integers = (values: ArrayLike<number>, shape: readonly number[]): HostTensor => tensor(Int32Array.from(values), shape);

/** Any list of a plane: tiles of any size, heads that share it or do not, query rows in order or gathered, standing in several tiles of disjoint keys. */
const lists: fc.Arbitrary<Drawn> = fc
  .record({
    queryLength: fc.integer({ min: 1, max: 23 }), keyLength: fc.integer({ min: 1, max: 40 }), blockQuery: fc.integer({ min: 1, max: 7 }), blockKey: fc.integer({ min: 1, max: 17 }),
    heads: fc.constantFrom(1, 2), gathered: fc.boolean(), seed: fc.integer(), density: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  .map(({ queryLength, keyLength, blockQuery, blockKey, heads, gathered, seed, density }) => {
    const next = normals(seed);
    const keyTiles = Math.ceil(keyLength / blockKey);
    const chance = (): boolean => (next() > 0 ? next() * next() + 0.5 : Math.abs(next())) < density * 2;
    const planes = Array.from({ length: heads }, () => {
      if (!gathered) return Array.from({ length: Math.ceil(queryLength / blockQuery) }, () => ({ rows: null, keys: Array.from({ length: keyTiles }, (_, tile) => tile).filter(chance) }));
      // For each key tile, any rows, in any order: a row never meets a key tile twice.
      return Array.from({ length: keyTiles }, (_, tile) => {
        const rows = Array.from({ length: queryLength }, (_unused, row) => row).filter(chance).sort(() => next());
        return Array.from({ length: Math.ceil(rows.length / blockQuery) }, (_unused, part) => ({ rows: rows.slice(part * blockQuery, (part + 1) * blockQuery), keys: [tile] }));
      }).flat();
    });
    const tiles = Math.max(1, ...planes.map((plane) => plane.length));
    const capacity = Math.max(1, ...planes.flat().map(({ keys }) => keys.length));
    const each = planes.flatMap((plane) => Array.from({ length: tiles }, (_, tile) => plane[tile] ?? { rows: null, keys: [] as number[] }));
    const list: BlockList = {
      blockQuery,
      blockKey,
      counts: integers(each.map(({ keys }) => keys.length), [1, heads, tiles]),
      indices: integers(each.flatMap(({ keys }) => Array.from({ length: capacity }, (_, place) => keys[place] ?? 77)), [1, heads, tiles, capacity]),
      ...(gathered ? { queryRows: integers(each.flatMap(({ rows }) => Array.from({ length: blockQuery }, (_, place) => rows?.[place] ?? -1)), [1, heads, tiles, blockQuery]) } : {}),
    };
    return { list, queryLength, keyLength, seed };
  });

/** Dense attention of the reference under the list as a table of allowed pairs. */
async function dense({ list, queryLength, keyLength }: Drawn, rows: { readonly query: HostTensor; readonly key: HostTensor; readonly value: HostTensor }, ordered: boolean): Promise<{ readonly output: Float64Array; readonly logs: Float64Array }> {
  const pairs = blockListToMask(list, { batch: 1, heads: 2, queryRows: queryLength, keyRows: keyLength });
  const listed = mask('listed', ({ head, queryIndex, keyIndex, table }) => table('list', ['head', 'queryLength', 'keyLength'], 'bool').at(head, queryIndex, keyIndex));
  const heads = pairs.shape[1] ?? 1;
  const reference = createReferenceBackend();
  const kernel = await reference.prepare({ variant: attention({ masking: ordered ? causal().and(listed) : listed, normalization: softmax() }), queryDim: dim, keyDim: dim, valueDim: dim, dtypes: { output: 'f64' } });
  const { output, logSumExp } = await kernel.run({ ...rows, queryOffset: 3, tables: { list: tensor(pairs.view(), [heads, queryLength, keyLength]) } });
  return { output: await numbers(reference.runtime, output), logs: logSumExp === undefined ? new Float64Array() : await numbers(reference.runtime, logSumExp) };
}

describe('L10, L17: attention over a block list', () => {
  test.each([false, true])('is dense attention under the same mask, for random lists (causal besides: %s)', async (ordered) => {
    const kernel = await backend.prepare({ variant: attention({ masking: ordered ? causal() : attention().masking }), queryDim: dim, keyDim: dim, valueDim: dim });
    await fc.assert(fc.asyncProperty(lists, async (drawn) => {
      const next = normals(drawn.seed + 1);
      const rows = { query: random(next, [1, 2, drawn.queryLength, dim]), key: random(next, [1, 2, drawn.keyLength, dim]), value: random(next, [1, 2, drawn.keyLength, dim]) };
      const want = await dense(drawn, rows, ordered);
      const { output, logSumExp } = await kernel.run({ ...rows, queryOffset: 3, blocks: drawn.list });
      expect(worstShare(await numbers(backend.runtime, output), want.output)).toBeLessThan(1);
      expect([...(await numbers(backend.runtime, logSumExp ?? output))].map((log, at) => log === want.logs[at] || Math.abs(log - (want.logs[at] ?? 0)) < 2e-5).every(Boolean)).toBe(true);
    }), { numRuns: 150 });
    await kernel.dispose();
  });

  test('reads nothing of keys that are not listed, whatever they hold (L10)', async () => {
    const kernel = await backend.prepare({ variant: attention(), queryDim: dim, keyDim: dim, valueDim: dim });
    await fc.assert(fc.asyncProperty(lists, async (drawn) => {
      const next = normals(drawn.seed + 2);
      const rows = { query: random(next, [1, 2, drawn.queryLength, dim]), key: random(next, [1, 2, drawn.keyLength, dim]), value: random(next, [1, 2, drawn.keyLength, dim]) };
      const pairs = blockListToMask(drawn.list, { batch: 1, heads: 2, queryRows: drawn.queryLength, keyRows: drawn.keyLength });
      const heads = pairs.shape[1] ?? 1;
      const isSeen = (head: number, key: number): boolean => Array.from({ length: drawn.queryLength }, (_, row) => pairs.view()[((heads === 1 ? 0 : head) * drawn.queryLength + row) * drawn.keyLength + key]).includes(1);
      const poisoned = (source: HostTensor): HostTensor => tensor(Float32Array.from(source.view(), (value, at) => (isSeen(Math.floor(at / dim / drawn.keyLength), Math.floor(at / dim) % drawn.keyLength) ? value : Number.NaN)), source.shape);
      const clean = await kernel.run({ ...rows, queryOffset: 0, blocks: drawn.list });
      const dirty = await kernel.run({ ...rows, key: poisoned(rows.key), value: poisoned(rows.value), queryOffset: 0, blocks: drawn.list });
      expect(worstShare(await numbers(backend.runtime, dirty.output), await numbers(backend.runtime, clean.output))).toBeLessThan(1);
    }), { numRuns: 60 });
    await kernel.dispose();
  });
});
