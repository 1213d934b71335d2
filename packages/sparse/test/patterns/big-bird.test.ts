import { attention, toFloat64 } from '@heed/core';
import { blockListToMask } from '@heed/core/compute';
import { createCpuBackend } from '@heed/cpu';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bigBirdBlocks, sparse, type SparseBackend } from '../../src/index.ts';
import { normals, numbers, plainAttention, random, worstShare } from '../plain.ts';

let backend: SparseBackend;
beforeAll(async () => {
  backend = sparse(await createCpuBackend({ threads: 1 }));
});
afterAll(() => backend.runtime.dispose());

const listed = (length: number, options: Parameters<typeof bigBirdBlocks>[1], heads = 1): Float64Array => toFloat64(blockListToMask(bigBirdBlocks({ length, heads }, options), { batch: 1, heads, queryRows: length, keyRows: length }));

/** Key blocks that the first row of a query block sees. */
function seen(mask: Float64Array, length: number, block: number, own: number, head = 0): number[] {
  return Array.from({ length: Math.ceil(length / block) }, (_, tile) => tile).filter((tile) => mask[(head * length + own * block) * length + tile * block] === 1);
}

describe('BigBird', () => {
  test('sees its neighbours, both ends and three further blocks; the ends see everything', () => {
    const [length, block] = [200, 8];
    const mask = listed(length, { block });
    for (let own = 0; own < 25; own++) {
      const blocks = seen(mask, length, block, own);
      if (own === 0 || own === 24) {
        expect(blocks).toHaveLength(25);
        continue;
      }
      const sure = new Set([0, 24, own - 1, own, own + 1]);
      for (const tile of sure) expect(blocks).toContain(tile);
      expect(blocks).toHaveLength(sure.size + 3);
    }
  });

  test('draws by the seed, the head and the block', () => {
    const draws = (seed: number, head: number): string => JSON.stringify(Array.from({ length: 20 }, (_, own) => seen(listed(160, { block: 8, seed }, 2), 160, 8, own, head)));
    expect(draws(1, 0)).toBe(draws(1, 0));
    expect(new Set([draws(1, 0), draws(2, 0), draws(1, 1)]).size).toBe(3);
    // No block is drawn much more often than others: 18 rows draw 3 of about 15 each.
    const counts = new Array<number>(20).fill(0);
    for (let own = 1; own < 19; own++) for (const tile of seen(listed(160, { block: 8, seed: 4 }), 160, 8, own)) counts[tile] = (counts[tile] ?? 0) + 1;
    expect(Math.max(...counts.slice(1, 19))).toBeLessThan(14);
  });

  test('of a length with few blocks sees them all', () => {
    expect(listed(30, { block: 8 }).every((pair) => pair === 1)).toBe(true);
    expect(bigBirdBlocks({ length: 0 }).counts.shape).toEqual([1, 1, 0]);
  });

  test('is attention over the listed blocks, the last one short', async () => {
    const [length, dim] = [131, 8];
    const mask = listed(length, { block: 8, seed: 3 });
    const next = normals(11);
    const rows = { query: random(next, [1, 2, length, dim]), key: random(next, [1, 2, length, dim]), value: random(next, [1, 2, length, dim]) };
    const kernel = await backend.prepare({ variant: attention(), queryDim: dim, keyDim: dim, valueDim: dim });
    const { output } = await kernel.run({ ...rows, blocks: bigBirdBlocks({ length }, { block: 8, seed: 3 }) });
    expect(worstShare(await numbers(backend.runtime, output), plainAttention({ ...rows, allowed: (_b, _h, i, j) => mask[i * length + j] === 1 }))).toBeLessThan(1);
    await kernel.dispose();
  });

  test('takes memory in proportion to the listed blocks', () => {
    const places = [2 ** 14, 2 ** 16].map((length) => {
      const { indices, queryRows } = bigBirdBlocks({ length });
      return [indices, queryRows].reduce((sum, part) => sum + (part?.shape.reduce((product, size) => product * size, 1) ?? 0), 0);
    });
    expect((places[1] ?? 0) / (places[0] ?? 1)).toBeLessThan(4.2);
  });

  test.each([{ block: 0 }, { window: -1 }, { random: 1.5 }])('refuses %o', (options) => {
    expect(() => bigBirdBlocks({ length: 10 }, options)).toThrow(expect.objectContaining({ code: 'invalid-argument' }) as Error);
  });
});
