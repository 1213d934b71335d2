/** Tiles come from the mask's bounds: what a causal mask of 256 positions must give is counted by hand. */
import { attention, causal, full } from '@heed/core';
import { createBinder } from '@heed/core/compute';
import { expect, test } from 'vitest';
import { planOf } from '../src/plan.ts';
import { scheduleOf } from '../src/schedule.ts';
import { inputsOf } from './compare.ts';

const machine = { fused: true, wide: false, shared: false };

test('a causal mask skips what lies after the block and needs no mask before it', () => {
  const request = { variant: attention({ masking: causal() }), queryDim: 8, keyDim: 8, valueDim: 8 };
  const tasks = scheduleOf(createBinder(request).bind(inputsOf(1, { heads: 1, queryLength: 256 })), planOf(request, machine));
  // Blocks of 48 rows, long ones first: the second to last sees full tiles of up to 128 keys, then two that the mask decides, the last for half of its rows.
  // The last one has 16 rows, and so less work than the one that begins at row 48.
  expect(tasks.map(({ rows }) => rows[0])).toEqual([192, 144, 96, 48, 240, 0]);
  expect(tasks[0]?.tiles).toEqual([
    { first: 0, end: 128, low: 0, high: 128, mixed: false, rowFrom: 0, rowTo: 48 },
    { first: 128, end: 192, low: 128, high: 192, mixed: false, rowFrom: 0, rowTo: 48 },
    { first: 192, end: 224, low: 192, high: 224, mixed: true, rowFrom: 0, rowTo: 48 },
    { first: 224, end: 240, low: 224, high: 240, mixed: true, rowFrom: 24, rowTo: 48 },
  ]);
});

test('the last keys of a length that is no whole step are bounded', () => {
  const request = { variant: attention({ masking: full() }), queryDim: 8, keyDim: 8, valueDim: 8 };
  const [task] = scheduleOf(createBinder(request).bind(inputsOf(1, { heads: 1, queryLength: 5, keyLength: 70 })), planOf(request, machine));
  expect(task?.tiles.at(-1)).toEqual({ first: 64, end: 80, low: 64, high: 70, mixed: true, rowFrom: 0, rowTo: 24 });
});

test('blocks that read the same keys stand together', () => {
  const request = { variant: attention({ masking: causal() }), queryDim: 8, keyDim: 8, valueDim: 8 };
  const tasks = scheduleOf(createBinder(request).bind(inputsOf(1, { heads: 4, keyHeads: 2, queryLength: 96 })), planOf(request, machine));
  expect(tasks.map(({ head, rows }) => [head, rows[0]])).toEqual([[0, 48], [1, 48], [0, 0], [1, 0], [2, 48], [3, 48], [2, 0], [3, 0]]);
});
