import { attention, mask, tensor, toFloat64, type AttentionInputs } from '@heed/core';
import { blockListFromMask, blockListToMask, intersectBlockLists, printBlockList, uniteBlockLists } from '@heed/core/compute';
import { createCpuBackend } from '@heed/cpu';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  blockDiagonal, dilatedWindow, documentTables, fixed, globalTables, gridNeighbourhood, longformer, patternOf, sparse, slidingWindow, splitLongTiles, streaming, strided, type Pattern, type SparseBackend,
} from '../../src/index.ts';
import { normals, numbers, plainAttention, random, worstShare } from '../plain.ts';

const dim = 8;
const length = 48;
const heads = 4;
let backend: SparseBackend;
beforeAll(async () => {
  backend = sparse(await createCpuBackend({ threads: 1 }));
});
afterAll(() => backend.runtime.dispose());

type Sees = (query: number, key: number, head: number) => boolean;

interface Example {
  readonly pattern: Pattern;
  /** The pattern as its paper has it. */
  readonly sees: Sees;
  readonly tables?: AttentionInputs['tables'];
  /** Most tiles of 4 × 4 that the list may have, of 144: it leaves out what the pattern leaves out. */
  readonly most: number;
}

/** Rows of a 6 × 8 grid, kernel 3 × 5, shifted at the edges. */
const near = (own: number, other: number, size: number, kernel: number): boolean => {
  const start = Math.max(0, Math.min(own - Math.floor(kernel / 2), size - kernel));
  return other >= start && other < start + kernel;
};
const documentOf = (row: number): number => (row < 13 ? 0 : row < 14 ? 1 : row < 30 ? 2 : 3);
const globals = [0, 29];

const examples: Readonly<Record<string, Example>> = {
  slidingWindow: { pattern: slidingWindow({ left: 7, right: 0 }), sees: (i, j) => j <= i && i - j <= 7, most: 33 },
  'slidingWindow, both sides': { pattern: slidingWindow({ left: 3, right: 6 }), sees: (i, j) => i - j <= 3 && j - i <= 6, most: 46 },
  dilatedWindow: { pattern: dilatedWindow({ keys: 3, dilation: 9 }), sees: (i, j) => j <= i && (i - j) % 9 === 0 && (i - j) / 9 < 3, most: 60 },
  strided: { pattern: strided({ stride: 16 }), sees: (i, j) => j <= i && (i - j < 16 || (i - j) % 16 === 0), most: 78 },
  'strided, split heads': { pattern: strided({ stride: 16, heads: 'split' }), sees: (i, j, h) => j <= i && (h % 2 === 0 ? i - j < 16 : (i - j) % 16 === 0), most: 78 },
  fixed: { pattern: fixed({ stride: 12, summary: 2 }), sees: (i, j) => j <= i && (Math.floor(i / 12) === Math.floor(j / 12) || j % 12 >= 10), most: 60 },
  'fixed, split heads': { pattern: fixed({ stride: 12, summary: 4, heads: 'split' }), sees: (i, j, h) => j <= i && (Math.floor(i / 12) === Math.floor(j / 12) || (j % 12 >= 8 - 4 * (h % 3) && j % 12 < 12 - 4 * (h % 3))), most: 60 },
  streaming: { pattern: streaming({ sinks: 4, left: 7 }), sees: (i, j) => j <= i && (j < 4 || i - j <= 7), most: 44 },
  gridNeighbourhood: { pattern: gridNeighbourhood({ shape: [6, 8], kernel: [3, 5] }), sees: (i, j) => near(Math.floor(i / 8), Math.floor(j / 8), 6, 3) && near(i % 8, j % 8, 8, 5), most: 90 },
  blockDiagonal: { pattern: blockDiagonal({ causal: true }), sees: (i, j) => j <= i && documentOf(i) === documentOf(j), tables: documentTables([13, 1, 16, 18]), most: 38 },
  longformer: { pattern: longformer({ left: 4, right: 4 }), sees: (i, j) => Math.abs(i - j) <= 4 || globals.includes(i) || globals.includes(j), tables: globalTables(globals, length), most: 80 },
  'a mask of the user’s own': { pattern: patternOf(mask('triangle', ({ queryPosition, keyPosition }) => queryPosition.add(keyPosition).lt(40))), sees: (i, j) => i + j < 40, most: 66 },
};

describe.each(Object.entries(examples))('%s', (_name, { pattern, sees, tables, most }) => {
  const plane = { queryLength: length, keyLength: length, heads, blockQuery: 4, blockKey: 4, ...(tables === undefined ? {} : { tables }) };

  test('lists a tile for every pair, marks as full only what is, and leaves the rest out', () => {
    const list = pattern.blocks(plane);
    const [, listHeads = 1] = list.counts.shape;
    const listed = toFloat64(blockListToMask(list, { batch: 1, heads, queryRows: length, keyRows: length }));
    for (let h = 0; h < listHeads; h++) for (let i = 0; i < length; i++) for (let j = 0; j < length; j++) if (sees(i, j, h)) expect(listed[(h * length + i) * length + j], `${i} sees ${j}`).toBe(1);
    const [count, index, full] = [toFloat64(list.counts), toFloat64(list.indices), toFloat64(list.full)];
    const capacity = list.indices.shape[3] ?? 0;
    let tiles = 0;
    for (const [row, own] of count.entries()) {
      tiles += own;
      for (let place = row * capacity; place < row * capacity + own; place++) {
        if (full[place] !== 1) continue;
        for (let i = 0; i < 4; i++) for (let j = 0; j < 4; j++) expect(sees((row % 12) * 4 + i, (index[place] ?? 0) * 4 + j, Math.floor(row / 12))).toBe(true);
      }
    }
    expect(tiles / listHeads).toBeLessThanOrEqual(most);
  });

  test('gives with its list what it gives without, which is the pattern of the paper in float64', async () => {
    const next = normals(5);
    const rows = { query: random(next, [1, heads, length, dim]), key: random(next, [1, 2, length, dim]), value: random(next, [1, 2, length, dim]) };
    const want = plainAttention({ ...rows, allowed: (_b, h, i, j) => sees(i, j, h) });
    const kernel = await backend.prepare({ variant: attention({ masking: pattern.masking }), queryDim: dim, keyDim: dim, valueDim: dim });
    const inputs = { ...rows, ...(tables === undefined ? {} : { tables }) };
    for (const blocks of [pattern.blocks(plane), pattern.blocks({ ...plane, blockQuery: 5, blockKey: 7 }), undefined]) {
      const { output } = await kernel.run({ ...inputs, ...(blocks === undefined ? {} : { blocks }) });
      expect(worstShare(await numbers(backend.runtime, output), want)).toBeLessThan(1);
    }
    await kernel.dispose();
  });

  test('comes back from a dense mask, and goes there again', () => {
    const dense = tensor(Uint8Array.from({ length: heads * length * length }, (_, at) => Number(sees(Math.floor(at / length) % length, at % length, Math.floor(at / length / length)))), [1, heads, length, length]);
    const list = blockListFromMask(dense, { blockQuery: 1, blockKey: 1 });
    expect([...blockListToMask(list, { batch: 1, heads, queryRows: length, keyRows: length }).view()]).toEqual([...dense.view()]);
  });
});

describe('lists', () => {
  const plane = { queryLength: length, keyLength: length, blockQuery: 4, blockKey: 4 };

  test('unite and intersect as the masks of their patterns do', () => {
    const [a, b] = [slidingWindow({ left: 7, right: 0 }), strided({ stride: 16 })];
    expect(printBlockList(uniteBlockLists(a.blocks(plane), b.blocks(plane)), 12)).toBe(printBlockList(patternOf(a.masking.or(b.masking)).blocks(plane), 12));
    expect(printBlockList(intersectBlockLists(a.blocks(plane), b.blocks(plane)), 12)).toBe(printBlockList(patternOf(a.masking.and(b.masking)).blocks(plane), 12));
  });

  test('of long planes take memory and time in proportion to the tiles that they list', () => {
    const sizes = [2 ** 15, 2 ** 17].map((tokens) => {
      const list = slidingWindow({ left: 255, right: 0 }).blocks({ queryLength: tokens, keyLength: tokens, blockQuery: 64, blockKey: 64 });
      const listed = toFloat64(list.counts).reduce((sum, own) => sum + own, 0);
      return { listed, places: list.indices.shape.reduce((product, size) => product * size, 1) };
    });
    for (const { listed, places } of sizes) expect(places).toBeLessThan(1.1 * listed);
    expect((sizes[1]?.listed ?? 0) / (sizes[0]?.listed ?? 1)).toBeCloseTo(4, 1);
  });

  test('with a few long rows are split, to the same mask in less memory', async () => {
    const tables = globalTables([3], 400);
    const list = longformer({ left: 4, right: 4 }).blocks({ queryLength: 400, keyLength: 400, blockQuery: 4, blockKey: 4, tables });
    const split = splitLongTiles(list, 400);
    const sizes = { batch: 1, heads: 1, queryRows: 400, keyRows: 400 };
    expect([...blockListToMask(split, sizes).view()]).toEqual([...blockListToMask(list, sizes).view()]);
    expect(list.indices.shape[3]).toBe(100);
    const listed = toFloat64(list.counts).reduce((sum, own) => sum + own, 0);
    expect(split.indices.shape.reduce((product, size) => product * size, 1)).toBeLessThan(2 * listed);
    const next = normals(3);
    const rows = { query: random(next, [1, 1, 400, dim]), key: random(next, [1, 1, 400, dim]), value: random(next, [1, 1, 400, dim]) };
    const kernel = await backend.prepare({ variant: attention({ masking: longformer({ left: 4, right: 4 }).masking }), queryDim: dim, keyDim: dim, valueDim: dim });
    const { output } = await kernel.run({ ...rows, tables, blocks: split });
    expect(worstShare(await numbers(backend.runtime, output), plainAttention({ ...rows, allowed: (_b, _h, i, j) => Math.abs(i - j) <= 4 || i === 3 || j === 3 }))).toBeLessThan(1);
    await kernel.dispose();
  });
});
