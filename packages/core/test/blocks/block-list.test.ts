import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BlockList } from '../../src/block-list.ts';
import { blockListFromClasses, blockListFromMask, blockListToMask, intersectBlockLists, printBlockList, uniteBlockLists } from '../../src/block-list.ts';
import { bind } from '../../src/bind.ts';
import { causal } from '../../src/stages/masking/causal.ts';
import type { HostTensor } from '../../src/tensor.ts';
import { slice, tensor, toFloat64, zeros } from '../../src/tensor.ts';
import { classifyTiles } from '../../src/tiles.ts';
import type { PlaneSizes } from '../../src/validate/block-list.ts';
import { checkBlockList } from '../../src/validate/block-list.ts';
import { expectRefusal, inputsOf, requestOf } from '../validate/calls.ts';

const sizes: PlaneSizes = { batch: 2, heads: 2, queryRows: 7, keyRows: 9 };

const masks = fc.tuple(fc.constantFrom(1, 2), fc.constantFrom(1, 2), fc.double({ min: 0, max: 1, noNaN: true }), fc.integer()).map(([batch, heads, density, seed]) => {
  const random = fc.sample(fc.double({ min: 0, max: 1, noNaN: true }), { numRuns: batch * heads * 63, seed });
  return tensor(Uint8Array.from(random, (draw) => Number(draw < density)), [batch, heads, 7, 9]);
});
const block = fc.integer({ min: 1, max: 5 });

/** Whether a pair is marked in a mask whose batch and heads may be shared. */
function marked(mask: HostTensor, batch: number, head: number, query: number, key: number): boolean {
  const [batches, heads] = mask.shape;
  return toFloat64(mask)[((batches === 1 ? 0 : batch) * heads! + (heads === 1 ? 0 : head)) * 63 + query * 9 + key] === 1;
}

function* pairs(): Generator<readonly [number, number, number, number]> {
  for (let batch = 0; batch < 2; batch++) for (let head = 0; head < 2; head++) for (let query = 0; query < 7; query++) for (let key = 0; key < 9; key++) yield [batch, head, query, key];
}

describe('a block list of a mask', () => {
  test('lists exactly the tiles that hold an allowed pair, and marks as full those that hold no other', () => {
    fc.assert(
      fc.property(masks, block, block, (mask, blockQuery, blockKey) => {
        const list = blockListFromMask(mask, { blockQuery, blockKey });
        checkBlockList(list, sizes);
        const dense = blockListToMask(list, sizes);
        const fullOnly = blockListToMask(onlyFull(list), sizes);
        for (const [batch, head, query, key] of pairs()) {
          const tile: boolean[] = [];
          const [q0, k0] = [Math.floor(query / blockQuery) * blockQuery, Math.floor(key / blockKey) * blockKey];
          for (let q = q0; q < Math.min(q0 + blockQuery, 7); q++) for (let k = k0; k < Math.min(k0 + blockKey, 9); k++) tile.push(marked(mask, batch, head, q, k));
          expect(marked(dense, batch, head, query, key)).toBe(tile.some(Boolean));
          expect(marked(fullOnly, batch, head, query, key)).toBe(tile.every(Boolean));
        }
      }),
      { numRuns: 60 },
    );
  });

  test('joins with another as sets do', () => {
    fc.assert(
      fc.property(masks, masks, block, block, (maskA, maskB, blockQuery, blockKey) => {
        const [a, b] = [maskA, maskB].map((mask) => blockListFromMask(mask, { blockQuery, blockKey }));
        const [left, right, union, intersection] = [a!, b!, uniteBlockLists(a!, b!), intersectBlockLists(a!, b!)].map((list) => blockListToMask(list, sizes));
        for (const [batch, head, query, key] of pairs()) {
          const [inA, inB] = [marked(left!, batch, head, query, key), marked(right!, batch, head, query, key)];
          expect(marked(union!, batch, head, query, key)).toBe(inA || inB);
          expect(marked(intersection!, batch, head, query, key)).toBe(inA && inB);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('keeps full marks through a join only where they stay true', () => {
    const [all, some] = [new Uint8Array(63).fill(1), new Uint8Array(63).fill(1).with(0, 0)].map((data) => blockListFromMask(tensor(data, [1, 1, 7, 9]), { blockQuery: 7, blockKey: 9 }));
    expect(printBlockList(uniteBlockLists(all!, some!))).toBe('█');
    expect(printBlockList(intersectBlockLists(all!, some!))).toBe('▒');
    const { full: _, ...unmarked } = all!;
    expect(printBlockList(intersectBlockLists(all!, unmarked))).toBe('▒');
  });

  test('of other tiles or of a device does not join', () => {
    const [a, b] = [1, 2].map((blockKey) => blockListFromMask(zeros([1, 1, 7, 9], 'u8'), { blockQuery: 2, blockKey }));
    expectRefusal(() => uniteBlockLists(a!, b!), 'invalid-blocks');
    expectRefusal(() => intersectBlockLists(a!, { ...a!, counts: { dtype: 'i32', shape: [1, 1, 4], strides: [4, 4, 1], runtime: {} as never } }), 'invalid-blocks', 'device');
  });
});

/** The list without the tiles that are not full. */
function onlyFull(list: ReturnType<typeof blockListFromMask>): BlockList {
  const [batch = 0, heads = 0, tiles = 0, capacity = 0] = list.indices.shape;
  const counts = new Int32Array(batch * heads * tiles);
  const indices = new Int32Array(batch * heads * tiles * capacity);
  const [given, marks, numbers] = [list.counts, list.full, list.indices].map(toFloat64) as [Float64Array, Float64Array, Float64Array];
  for (let row = 0; row < counts.length; row++) {
    for (let place = 0; place < given[row]!; place++) {
      if (marks[row * capacity + place] === 1) indices[row * capacity + counts[row]!++] = numbers[row * capacity + place]!;
    }
  }
  return { blockQuery: list.blockQuery, blockKey: list.blockKey, counts: tensor(counts, [batch, heads, tiles]), indices: tensor(indices, [batch, heads, tiles, capacity]) };
}

describe('a block list', () => {
  test('prints as tiles', () => {
    const call = bind(requestOf({ masking: causal() }), inputsOf({ batch: 1, queryLength: 8 }));
    expect(printBlockList(blockListFromClasses(classifyTiles(call, { blockQuery: 2, blockKey: 2 })))).toBe('▒···\n█▒··\n██▒·\n███▒');
    const two = blockListFromMask(zeros([1, 2, 2, 2], 'u8'), { blockQuery: 1, blockKey: 1 });
    expect(printBlockList(two, 2)).toBe('batch 0, head 0\n··\n··\n\nbatch 0, head 1\n··\n··');
  });

  test('gathers query rows', () => {
    const list = {
      blockQuery: 2,
      blockKey: 3,
      counts: tensor(Int32Array.of(1, 2), [1, 1, 2]),
      indices: tensor(Int32Array.of(1, 0, 0, 1), [1, 1, 2, 2]),
      queryRows: tensor(Int32Array.of(3, 0, 2, -1), [1, 1, 2, 2]),
    };
    expect([...toFloat64(blockListToMask(list, { batch: 1, heads: 1, queryRows: 4, keyRows: 6 }))]).toEqual([0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1]);
  });

  const counts = [2, 1, 0];
  const indices = [0, 2, 1, 0, 0, 0];
  const make = (change: Partial<Record<keyof BlockList, unknown>> = {}): BlockList => ({ blockQuery: 3, blockKey: 4, counts: tensor(Int32Array.from(counts), [1, 1, 3]), indices: tensor(Int32Array.from(indices), [1, 1, 3, 2]), ...change } as BlockList);
  const withIndices = (values: readonly number[]): BlockList => make({ indices: tensor(Int32Array.from(values), [1, 1, 3, 2]) });

  test('in order is accepted, whatever lies past its counts', () => {
    expect(() => checkBlockList(make(), sizes)).not.toThrow();
    expect(() => checkBlockList(withIndices([0, 2, 1, 99, -7, 5]), sizes)).not.toThrow();
    expect(() => checkBlockList(make({ full: zeros([1, 1, 3, 2], 'u8') }), sizes)).not.toThrow();
  });

  test.each([
    ['a count above its capacity', make({ counts: tensor(Int32Array.of(3, 1, 0), [1, 1, 3]) }), 'counts[0, 0, 0] is 3'],
    ['a negative count', make({ counts: tensor(Int32Array.of(2, -1, 0), [1, 1, 3]) }), 'counts[0, 0, 1]'],
    ['a tile past the last', withIndices([0, 3, 1, 0, 0, 0]), 'indices[0, 0, 0, 1] is 3'],
    ['a negative tile', withIndices([-1, 2, 1, 0, 0, 0]), 'indices[0, 0, 0, 0] is -1'],
    ['descending tiles', withIndices([2, 0, 1, 0, 0, 0]), 'after 2'],
    ['a tile twice', withIndices([2, 2, 1, 0, 0, 0]), 'after 2'],
    ['another number of query tiles', make({ blockQuery: 4 }), '3 query tiles'],
    ['tiles of no size', make({ blockKey: 0 }), 'blockKey is 0'],
    ['counts of another rank', make({ counts: zeros([3], 'i32') }), 'counts has shape [3]'],
    ['counts for other heads', make({ counts: zeros([1, 3, 3], 'i32'), indices: zeros([1, 3, 3, 2], 'i32') }), 'counts has shape'],
    ['indices of another shape', make({ indices: zeros([1, 1, 2, 2], 'i32') }), 'indices has shape'],
    ['another dtype', make({ indices: zeros([1, 1, 3, 2]) }), 'indices is f32'],
    ['full marks of another shape', make({ full: zeros([1, 1, 3], 'u8') }), 'full has shape'],
    ['gathered rows out of range', make({ queryRows: tensor(Int32Array.of(0, 1, 2, 3, 4, 5, 6, 7, -1), [1, 1, 3, 3]) }), 'queryRows[0, 0, 2, 1] is 7'],
    ['nothing', null as unknown as BlockList, 'null'],
  ])('with %s is refused', (_, list, part) => {
    expectRefusal(() => checkBlockList(list, sizes), 'invalid-blocks', part);
    expectRefusal(() => bind(requestOf(), inputsOf({ batch: 2, heads: 2, queryLength: 7, keyLength: 9 }, { blocks: list })), 'invalid-blocks', part);
  });

  test('that a device holds is checked by shape alone', () => {
    const elsewhere = (shape: readonly number[]): never => ({ dtype: 'i32', shape, strides: shape.map(() => 1), runtime: {} }) as never;
    expect(() => checkBlockList(make({ counts: elsewhere([1, 1, 3]), indices: elsewhere([1, 1, 3, 9]) }), sizes)).not.toThrow();
    expectRefusal(() => checkBlockList(make({ counts: elsewhere([1, 1, 4]), indices: elsewhere([1, 1, 4, 9]) }), sizes), 'invalid-blocks');
  });

  test('is read through its strides', () => {
    const wide = tensor(Int32Array.from(indices.flatMap((index) => [index, -9])), [1, 1, 3, 2, 2]);
    const strided = slice(wide, 4, 0, 1);
    const list = make({ indices: { ...strided, shape: [1, 1, 3, 2], strides: strided.strides.slice(0, 4) } });
    checkBlockList(list, sizes);
    expect(printBlockList(list)).toBe('▒·▒\n·▒·\n···');
  });
});
