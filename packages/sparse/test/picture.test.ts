import { readFileSync } from 'node:fs';
import { tensor } from '@heed/core';
import { describe, expect, test } from 'vitest';
import { pictureOfBlocks, slidingWindow } from '../src/index.ts';
import { fivePatterns } from './five-patterns.ts';

describe('a picture of a list', () => {
  test('has a rectangle for each run of tiles of a kind, at their places', () => {
    const list = slidingWindow({ left: 3, right: 0 }).blocks({ queryLength: 8, keyLength: 8, blockQuery: 2, blockKey: 2 });
    const picture = pictureOfBlocks(list, { size: 40, keyTiles: 4 });
    // Rows of tiles see: 0; 0 and 1; 0 … 2; 1 … 3, of which only those one before the diagonal are full.
    const rectangles = [...picture.matchAll(/<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="10" fill="#(\w+)"/g)].map(([, x, y, width, fill]) => [Number(x), Number(y), Number(width), fill === '1f5c99' ? 'full' : 'mixed']);
    expect(rectangles).toEqual([
      [0, 0, 10, 'mixed'],
      [0, 10, 10, 'full'], [10, 10, 10, 'mixed'],
      [0, 20, 10, 'mixed'], [10, 20, 10, 'full'], [20, 20, 10, 'mixed'],
      [10, 30, 10, 'mixed'], [20, 30, 10, 'full'], [30, 30, 10, 'mixed'],
    ]);
  });

  test('says a title as text, and refuses a list that it cannot see', () => {
    const list = slidingWindow({ left: 1, right: 0 }).blocks({ queryLength: 4, keyLength: 4, blockQuery: 2, blockKey: 2 });
    expect(pictureOfBlocks(list, { title: 'a < b & c' })).toContain('>a &lt; b &amp; c</text>');
    const { dtype, shape, strides } = tensor(new Int32Array(2), [1, 1, 2]);
    expect(() => pictureOfBlocks({ ...list, counts: { dtype, shape, strides, runtime: null } })).toThrow(expect.objectContaining({ code: 'invalid-blocks' }) as Error);
  });

  test('of five patterns is the one in the documents', () => {
    expect(fivePatterns()).toBe(readFileSync(new URL('../../../docs/patterns.svg', import.meta.url), 'utf8'));
  });
});
