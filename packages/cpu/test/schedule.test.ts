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
  // Long blocks of 32 rows first: the last one sees full tiles of up to 128 keys, then two that the mask decides, the last for half of its rows.
  expect(tasks.map(({ rows }) => rows[0])).toEqual([224, 192, 160, 128, 96, 64, 32, 0]);
  expect(tasks[0]?.tiles).toEqual([
    { first: 0, end: 128, low: 0, high: 128, mixed: false, rowFrom: 0, rowTo: 32 },
    { first: 128, end: 224, low: 128, high: 224, mixed: false, rowFrom: 0, rowTo: 32 },
    { first: 224, end: 240, low: 224, high: 240, mixed: true, rowFrom: 0, rowTo: 32 },
    { first: 240, end: 256, low: 240, high: 256, mixed: true, rowFrom: 16, rowTo: 32 },
  ]);
});

test('the last keys of a length that is no whole step are bounded', () => {
  const request = { variant: attention({ masking: full() }), queryDim: 8, keyDim: 8, valueDim: 8 };
  const [task] = scheduleOf(createBinder(request).bind(inputsOf(1, { heads: 1, queryLength: 5, keyLength: 70 })), planOf(request, machine));
  expect(task?.tiles.at(-1)).toEqual({ first: 64, end: 80, low: 64, high: 70, mixed: true, rowFrom: 0, rowTo: 16 });
});
