import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bound } from '../../src/expression/bound.ts';
import type { Masking } from '../../src/index.ts';
import {
  attention, booleanMask, causal, chunkedLocal, dilated, documents, fixedPattern, full, globalTokens, keyPadding, mask, neighbourhood, prefix, sinkTokens, stridedPattern, tree,
  treeIntervals, window,
} from '../../src/index.ts';
import { codeOf } from '../code-of.ts';
import type { Inputs, Tables } from './place.ts';
import { tileOf, valueOf, vector } from './place.ts';

interface Pair {
  readonly queryIndex: number;
  readonly keyIndex: number;
  readonly queryPosition: number;
  readonly keyPosition: number;
}

/** A mask with the tables it reads, and what it means, written plainly. */
interface MaskCase {
  readonly masking: Masking;
  readonly tables?: Tables;
  readonly allows: (pair: Pair) => boolean;
}

/** Rows of one sequence, 0 … rows − 1 on both sides, at positions from their offsets on. */
interface Call {
  readonly rows: number;
  readonly queryOffset: number;
  readonly keyOffset: number;
}

const offsets = fc.record({ rows: fc.integer({ min: 1, max: 24 }), queryOffset: fc.integer({ min: -20, max: 40 }), keyOffset: fc.integer({ min: -20, max: 40 }) });
const positive = fc.integer({ min: 1, max: 9 });
const maybe = (call: Call): fc.Arbitrary<readonly number[]> => fc.array(fc.integer({ min: 0, max: 1 }), { minLength: call.rows, maxLength: call.rows });
const row = (data: readonly number[]): { readonly sizes: readonly number[]; readonly data: readonly number[] } => ({ sizes: [1, data.length], data });

/** Every mask with any parameters. */
const masks: Readonly<Record<string, (call: Call) => fc.Arbitrary<MaskCase>>> = {
  full: () => fc.constant({ masking: full(), allows: () => true }),
  causal: () => fc.constant({ masking: causal(), allows: (pair) => pair.keyPosition <= pair.queryPosition }),
  window: () => fc.tuple(fc.constantFrom(0, 1, 3, 8, Infinity), fc.constantFrom(0, 2, 5, Infinity)).map(([left, right]) => ({
    masking: window({ left, right }),
    allows: (pair) => pair.keyPosition >= pair.queryPosition - left && pair.keyPosition <= pair.queryPosition + right,
  })),
  chunkedLocal: () => positive.map((size) => ({ masking: chunkedLocal(size), allows: (pair) => Math.floor(pair.queryPosition / size) === Math.floor(pair.keyPosition / size) })),
  sinkTokens: () => fc.integer({ min: 0, max: 9 }).map((count) => ({ masking: sinkTokens(count), allows: (pair) => pair.keyPosition < count })),
  prefix: () => fc.integer({ min: 0, max: 30 }).map((length) => ({
    masking: prefix(),
    tables: { prefixLengths: vector([length]) },
    allows: (pair) => pair.queryPosition < length && pair.keyPosition < length,
  })),
  'prefix language model': () => fc.integer({ min: 0, max: 30 }).map((length) => ({
    masking: causal().or(prefix({ table: 'lengths' })),
    tables: { lengths: vector([length]) },
    allows: (pair) => pair.keyPosition <= pair.queryPosition || (pair.queryPosition < length && pair.keyPosition < length),
  })),
  documents: (call) => fc.tuple(maybe(call), maybe(call)).map(([queries, keys]) => ({
    masking: documents(),
    tables: { queryDocuments: row(queries), keyDocuments: row(keys) },
    allows: (pair) => queries[pair.queryIndex] === keys[pair.keyIndex],
  })),
  globalTokens: (call) => fc.tuple(maybe(call), maybe(call)).map(([queries, keys]) => ({
    masking: globalTokens(),
    tables: { globalQueries: row(queries), globalKeys: row(keys) },
    allows: (pair) => queries[pair.queryIndex] === 1 || keys[pair.keyIndex] === 1,
  })),
  'keyPadding left': (call) => fc.integer({ min: 0, max: call.rows }).map((count) => ({
    masking: keyPadding({ side: 'left' }),
    tables: { keyCounts: vector([count]) },
    allows: (pair) => pair.keyIndex >= call.rows - count,
  })),
  'keyPadding right': (call) => fc.integer({ min: 0, max: call.rows }).map((count) => ({
    masking: keyPadding({ side: 'right' }),
    tables: { keyCounts: vector([count]) },
    allows: (pair) => pair.keyIndex < count,
  })),
  booleanMask: (call) => fc.array(maybe(call), { minLength: call.rows, maxLength: call.rows }).map((grid) => ({
    masking: booleanMask(),
    tables: { mask: { sizes: [1, 1, call.rows, call.rows], data: grid.flat() } },
    allows: (pair) => grid[pair.queryIndex]?.[pair.keyIndex] === 1,
  })),
  dilated: () => fc.tuple(positive, positive).map(([keys, dilation]) => ({
    masking: dilated({ keys, dilation }),
    allows: (pair) => Array.from({ length: keys }, (_, step) => pair.queryPosition - step * dilation).includes(pair.keyPosition),
  })),
  stridedPattern: () => positive.map((stride) => ({
    masking: stridedPattern(stride),
    allows: ({ queryPosition, keyPosition }) => keyPosition <= queryPosition && (queryPosition - keyPosition < stride || (queryPosition - keyPosition) % stride === 0),
  })),
  fixedPattern: () => fc.tuple(positive, positive).map(([stride, summary]) => ({
    masking: fixedPattern({ stride, summary: Math.min(stride, summary) }),
    allows: ({ queryPosition, keyPosition }) => {
      const block = Math.floor(keyPosition / stride);
      return keyPosition <= queryPosition && (block === Math.floor(queryPosition / stride) || keyPosition - block * stride >= stride - Math.min(stride, summary));
    },
  })),
  mask: () => positive.map((step) => ({
    masking: mask('sameRest', ({ queryPosition, keyPosition, uniform }) => queryPosition.sub(keyPosition).mod(uniform('step', step, 'i32')).eq(0)),
    allows: (pair) => Math.abs(pair.queryPosition - pair.keyPosition) % step === 0,
  })),
  'and, or, not': () => fc.tuple(positive, positive).map(([left, size]) => ({
    masking: causal().and(window({ left, right: left }).or(sinkTokens(size))).and(chunkedLocal(size).not()),
    allows: ({ queryPosition, keyPosition }) => keyPosition <= queryPosition && (queryPosition - keyPosition <= left || keyPosition < size)
      && Math.floor(queryPosition / size) !== Math.floor(keyPosition / size),
  })),
};

function inputsOf(call: Call, queryIndex: number, keyIndex: number): Inputs & Pair {
  return {
    batch: 0, head: 0, keyHead: 0, queryLength: call.rows, keyLength: call.rows,
    queryIndex, keyIndex, queryPosition: call.queryOffset + queryIndex, keyPosition: call.keyOffset + keyIndex,
  };
}

function allows({ masking, tables }: MaskCase, inputs: Inputs): boolean {
  return valueOf(masking.allowed, masking, inputs, tables) === 1;
}

describe.each(Object.entries(masks))('%s', (_, arbitrary) => {
  const calls = offsets.chain((call) => arbitrary(call).map((one) => ({ call, one })));

  test('allows exactly the pairs it says', () => {
    fc.assert(fc.property(calls, ({ call, one }) => {
      for (let query = 0; query < call.rows; query++) {
        for (let key = 0; key < call.rows; key++) {
          const inputs = inputsOf(call, query, key);
          expect(allows(one, inputs)).toBe(one.allows(inputs));
        }
      }
    }));
  });

  test('has a bound that holds for every pair of a tile', () => {
    fc.assert(fc.property(calls, fc.integer({ min: 1, max: 8 }), fc.nat(23), fc.nat(23), ({ call, one }, size, queryStart, keyStart) => {
      const [query, key] = [queryStart, keyStart].map((start) => ({ low: Math.min(start, call.rows - 1), high: Math.min(start + size, call.rows) - 1 }));
      fc.pre(query !== undefined && key !== undefined && query.low <= query.high && key.low <= key.high);
      const point = (value: number): { readonly low: number; readonly high: number } => ({ low: value, high: value });
      const { low, high } = bound(one.masking.allowed, tileOf(one.masking, {
        batch: point(0), head: point(0), keyHead: point(0), queryLength: point(call.rows), keyLength: point(call.rows),
        queryIndex: query, keyIndex: key,
        queryPosition: { low: query.low + call.queryOffset, high: query.high + call.queryOffset },
        keyPosition: { low: key.low + call.keyOffset, high: key.high + call.keyOffset },
      }, one.tables));
      for (let i = query.low; i <= query.high; i++) {
        for (let j = key.low; j <= key.high; j++) {
          const value = Number(one.allows(inputsOf(call, i, j)));
          expect(value >= low && value <= high).toBe(true);
        }
      }
    }));
  });
});

describe('tiles', () => {
  /** empty, full or mixed, by looking at every pair, and by the bound. */
  function classes(masking: Masking, allow: (query: number, key: number) => boolean): readonly (readonly [string, string])[] {
    const size = 8;
    const named = (low: number, high: number): string => (low === 1 ? 'full' : high === 0 ? 'empty' : 'mixed');
    return Array.from({ length: 64 }, (_, tile) => {
      const [query, key] = [Math.floor(tile / 8) * size, (tile % 8) * size];
      const values = Array.from({ length: size * size }, (__, pair) => Number(allow(query + Math.floor(pair / size), key + (pair % size))));
      const { low, high } = bound(masking.allowed, tileOf(masking, { queryPosition: { low: query, high: query + size - 1 }, keyPosition: { low: key, high: key + size - 1 } }));
      return [named(Math.min(...values), Math.max(...values)), named(low, high)] as const;
    });
  }

  test.each<[string, Masking, (query: number, key: number) => boolean]>([
    ['causal', causal(), (query, key) => key <= query],
    ['window', window({ left: 16, right: 0 }), (query, key) => key <= query && key >= query - 16],
    ['chunked', chunkedLocal(16), (query, key) => query >> 4 === key >> 4],
    ['streaming', causal().and(window({ left: 15, right: 0 }).or(sinkTokens(4))), (query, key) => key <= query && (key >= query - 15 || key < 4)],
    ['causal neighbourhood', neighbourhood({ shape: [64], kernel: 9, causal: true }), (query, key) => key <= query && key > query - 9],
  ])('of %s are classified without loss', (_, masking, allow) => {
    for (const [exact, found] of classes(masking, allow)) expect(found).toBe(exact);
  });
});

describe('neighbourhood', () => {
  const axes = fc.record({ kernel: fc.constantFrom(1, 3, 5), dilation: fc.integer({ min: 1, max: 3 }), extra: fc.nat(6), causal: fc.boolean() })
    .map(({ kernel, dilation, extra, causal: isCausal }) => ({ kernel, dilation, size: kernel * dilation + extra, causal: isCausal }));

  /** Cells seen along one axis, straight from the definition: of the cells with the query's rest, a window of `kernel`, shifted at the edges. */
  function seen(query: number, axis: { readonly size: number; readonly kernel: number; readonly dilation: number; readonly causal: boolean }): readonly number[] {
    const cells = Array.from({ length: axis.size }, (_, cell) => cell).filter((cell) => cell % axis.dilation === query % axis.dilation);
    const at = cells.indexOf(query);
    if (axis.causal) return cells.slice(Math.max(0, at - axis.kernel + 1), at + 1);
    const start = Math.max(0, Math.min(at - Math.floor(axis.kernel / 2), cells.length - axis.kernel));
    return cells.slice(start, start + axis.kernel);
  }

  test.each([1, 2, 3])('on a grid of %d axes sees the shifted windows, and kernel keys along each axis that is not causal', (rank) => {
    fc.assert(fc.property(fc.array(axes, { minLength: rank, maxLength: rank }), fc.boolean(), fc.nat(), (grid, dilate, choice) => {
      const used = dilate ? grid : grid.map((axis) => ({ ...axis, dilation: 1 }));
      const shape = used.map(({ size }) => size);
      const masking = neighbourhood({
        shape, kernel: used.map(({ kernel }) => kernel), causal: used.map((axis) => axis.causal), ...(dilate ? { dilation: used.map(({ dilation }) => dilation) } : {}),
      });
      const cells = shape.reduce((product, size) => product * size, 1);
      const coordinates = (position: number): readonly number[] => shape.map((size, axis) => Math.floor(position / shape.slice(axis + 1).reduce((product, next) => product * next, 1)) % size);
      const query = choice % cells;
      const windows = coordinates(query).map((coordinate, axis) => seen(coordinate, used[axis]!));
      const found: number[] = [];
      for (let key = 0; key < cells; key++) if (valueOf(masking.allowed, masking, { queryPosition: query, keyPosition: key }) === 1) found.push(key);
      const expected = Array.from({ length: cells }, (_, key) => key).filter((key) => coordinates(key).every((coordinate, axis) => windows[axis]?.includes(coordinate) === true));
      expect(found).toEqual(expected);
      if (used.every((axis) => !axis.causal)) expect(found.length).toBe(used.reduce((product, { kernel }) => product * kernel, 1));
    }));
  });

  test('a kernel as long as the axis is full attention', () => {
    const masking = neighbourhood({ shape: [5, 7], kernel: [5, 7] });
    for (let query = 0; query < 35; query++) for (let key = 0; key < 35; key++) expect(valueOf(masking.allowed, masking, { queryPosition: query, keyPosition: key })).toBe(1);
  });

  test('the structure does not depend on sizes', () => {
    const structure = (height: number, width: number, kernel: number): string => attention({ masking: neighbourhood({ shape: [height, width], kernel }) }).structure;
    expect(structure(4, 1, 1)).toBe(structure(12, 9, 5));
  });
});

describe('tree', () => {
  const forests = fc.array(fc.nat(), { maxLength: 12 }).map((picks) => picks.map((pick, node) => (pick % (node + 1)) - 1));

  test('a node sees the past, itself and its ancestors', () => {
    fc.assert(fc.property(forests, fc.nat(5), (parents, past) => {
      const { treeNode, treeFirst, treeLast, depth } = treeIntervals(parents, { past });
      const masking = tree();
      const tables = { treeNode: row([...treeNode]), treeFirst: row([...treeFirst]), treeLast: row([...treeLast]) };
      parents.forEach((_, query) => {
        const ancestors = [query];
        for (let node = parents[query]!; node >= 0; node = parents[node]!) ancestors.push(node);
        expect(depth[query]).toBe(ancestors.length - 1);
        for (let key = 0; key < past + parents.length; key++) {
          const expected = key < past || ancestors.includes(key - past);
          expect(valueOf(masking.allowed, masking, { batch: 0, queryIndex: query, keyIndex: key }, tables)).toBe(Number(expected));
        }
      });
    }));
  });

  test('nodes may stand in any order', () => {
    expect([...treeIntervals([1, -1, 1]).depth]).toEqual([1, 0, 1]);
  });

  test.each([[[0]], [[1, 0]], [[-1, 2, 1]], [[5]], [[-2]], [[0.5]]])('refuses parents %j', (parents) => {
    expect(codeOf(() => treeIntervals(parents))).toBe('invalid-argument');
  });
});

describe('arguments', () => {
  test.each<[string, () => unknown]>([
    ['window({ left: -1 })', () => window({ left: -1, right: 0 })],
    ['window({ right: 0.5 })', () => window({ left: 0, right: 0.5 })],
    ['window({ left: NaN })', () => window({ left: Number.NaN, right: 0 })],
    ['chunkedLocal(0)', () => chunkedLocal(0)],
    ['sinkTokens(-1)', () => sinkTokens(-1)],
    ['dilated({ dilation: 0 })', () => dilated({ keys: 3, dilation: 0 })],
    ['stridedPattern(1.5)', () => stridedPattern(1.5)],
    ['fixedPattern with a summary longer than its block', () => fixedPattern({ stride: 4, summary: 5 })],
    ['keyPadding without a side', () => keyPadding({} as { side: 'left' })],
    ['an even kernel', () => neighbourhood({ shape: [8], kernel: 4 })],
    ['a kernel longer than its axis', () => neighbourhood({ shape: [8, 2], kernel: 3 })],
    ['a dilated kernel longer than its axis', () => neighbourhood({ shape: [8], kernel: 3, dilation: 3 })],
    ['two kernels for one axis', () => neighbourhood({ shape: [8], kernel: [3, 3] })],
    ['no axis', () => neighbourhood({ shape: [], kernel: 3 })],
  ])('refuses %s', (_, make) => {
    expect(codeOf(make)).toBe('invalid-argument');
  });
});
