import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AttentionInputs } from '../../src/backend.ts';
import type { BoundCall } from '../../src/bind.ts';
import { bind } from '../../src/bind.ts';
import { evaluate } from '../../src/expression/evaluate.ts';
import type { InputName } from '../../src/expression/node.ts';
import type { BlockList } from '../../src/block-list.ts';
import { blockListFromClasses } from '../../src/block-list.ts';
import type { TileClasses, TileSizes } from '../../src/tiles.ts';
import { classifyTiles, countTiles, listTiles } from '../../src/tiles.ts';
import { booleanMask } from '../../src/stages/masking/boolean-mask.ts';
import { causal } from '../../src/stages/masking/causal.ts';
import { chunkedLocal } from '../../src/stages/masking/chunked-local.ts';
import { dilated } from '../../src/stages/masking/dilated.ts';
import { documents } from '../../src/stages/masking/documents.ts';
import { fixedPattern } from '../../src/stages/masking/fixed-pattern.ts';
import { globalTokens } from '../../src/stages/masking/global-tokens.ts';
import { keyPadding } from '../../src/stages/masking/key-padding.ts';
import { neighbourhood } from '../../src/stages/masking/neighbourhood.ts';
import { prefix } from '../../src/stages/masking/prefix.ts';
import { sinkTokens } from '../../src/stages/masking/sink-tokens.ts';
import type { Masking } from '../../src/stages/masking/stage.ts';
import { full, mask } from '../../src/stages/masking/stage.ts';
import { stridedPattern } from '../../src/stages/masking/strided-pattern.ts';
import { treeIntervals } from '../../src/stages/masking/tree-intervals.ts';
import { tree } from '../../src/stages/masking/tree.ts';
import { window } from '../../src/stages/masking/window.ts';
import { isHostTensor, reader, tensor } from '../../src/tensor.ts';
import { expectRefusal, inputsOf, requestOf } from '../validate/calls.ts';

/** What is allowed of one pair, by `evaluate`: the meaning that classes are compared with. */
function allowsPair(call: BoundCall, entry: number, head: number, query: number, key: number): boolean {
  const sequence = call.sequences[entry]!;
  if (query >= sequence.queryLength || key >= sequence.keyLength) return false;
  const values: Partial<Record<InputName, number>> = {
    batch: sequence.batch,
    head,
    keyHead: Math.floor((head * call.keyHeads) / call.heads),
    queryIndex: query,
    keyIndex: key,
    queryPosition: sequence.queryPositions?.[query] ?? sequence.queryOffset + query,
    keyPosition: sequence.keyPositions?.[key] ?? sequence.keyOffset + key,
    queryLength: sequence.queryLength,
    keyLength: sequence.totalKeyLength,
  };
  const nothing = (): never => {
    throw new Error('masks read none');
  };
  return evaluate(call.request.variant.masking.allowed, {
    input: (name) => values[name]!,
    uniform: (name) => call.uniforms[name]!,
    table: (name, indices) => {
      const { tensor: source, strides } = call.tables[name]!;
      if (!isHostTensor(source)) return nothing();
      return reader(source.dtype, source.view())(indices.reduce((at, index, axis) => at + index * strides[axis]!, 0));
    },
    queryTable: nothing,
    random: nothing,
  }) === 1;
}

/** True classes of every tile, pair by pair, for every sequence and head. */
function trueClasses(call: BoundCall, { blockQuery, blockKey }: TileSizes, queryTiles: number, keyTiles: number): Uint8Array[][] {
  return call.sequences.map((sequence, entry) => Array.from({ length: call.heads }, (_, head) => {
    const classes = new Uint8Array(queryTiles * keyTiles);
    for (let tile = 0; tile < classes.length; tile++) {
      const queryStart = Math.floor(tile / keyTiles) * blockQuery;
      const keyStart = (tile % keyTiles) * blockKey;
      const pairs: boolean[] = [];
      for (let query = queryStart; query < Math.min(queryStart + blockQuery, sequence.queryRows); query++) {
        for (let key = keyStart; key < Math.min(keyStart + blockKey, sequence.keyRows); key++) pairs.push(allowsPair(call, entry, head, query, key));
      }
      classes[tile] = pairs.some(Boolean) ? (pairs.every(Boolean) ? 2 : 1) : 0;
    }
    return classes;
  }));
}

/** What {@link listTiles} lists is what {@link classifyTiles} finds, tile by tile, without places for the rest. */
function expectSameList(call: BoundCall, sizes: TileSizes): void {
  const parts = (list: BlockList): unknown => [list.counts, list.indices, list.full].map((part) => part !== undefined && isHostTensor(part) && [part.shape, [...part.view()]]);
  expect(parts(listTiles(call, sizes))).toEqual(parts(blockListFromClasses(classifyTiles(call, sizes))));
}

/** Class found for a tile, with shared axes spread out. */
function classAt(found: TileClasses, entry: number, head: number, tile: number): number {
  const [batch, heads, queryTiles, keyTiles] = found.shape;
  return found.classes[((batch === 1 ? 0 : entry) * heads + (heads === 1 ? 0 : head)) * queryTiles * keyTiles + tile]!;
}

/** Compares every tile with the truth; returns how many are mixed, found and truly. */
function compare(call: BoundCall, sizes: TileSizes): { readonly found: number; readonly truly: number } {
  const found = classifyTiles(call, sizes);
  expectSameList(call, sizes);
  const [, , queryTiles, keyTiles] = found.shape;
  let [mixedFound, mixedTruly] = [0, 0];
  for (const [entry, heads] of trueClasses(call, sizes, queryTiles, keyTiles).entries()) {
    for (const [head, classes] of heads.entries()) {
      for (const [tile, truth] of classes.entries()) {
        const got = classAt(found, entry, head, tile);
        if (got !== 1 && got !== truth) expect.fail(`tile ${tile} of sequence ${entry}, head ${head}: found ${got}, is ${truth}\n${call.request.variant.structure}`);
        mixedFound += Number(got === 1);
        mixedTruly += Number(truth === 1);
      }
    }
  }
  return { found: mixedFound, truly: mixedTruly };
}

interface Scene {
  readonly masking: Masking;
  readonly tables: AttentionInputs['tables'];
}

const batch = 2;
const heads = 2;
const queryLength = 13;
const keyLength = 17;
const tokens = Math.max(queryLength, keyLength);

const integersOf = (count: number, low: number, high: number): fc.Arbitrary<Int32Array> => fc.array(fc.integer({ min: low, max: high }), { minLength: count, maxLength: count }).map((values) => Int32Array.from(values));
const flags = (count: number): fc.Arbitrary<Uint8Array> => fc.array(fc.nat(1), { minLength: count, maxLength: count }).map((values) => Uint8Array.from(values));
const ascending = (values: Int32Array, rows: number): Int32Array => {
  const length = values.length / rows;
  return Int32Array.from(values.map((_, index) => values.slice(Math.floor(index / length) * length, index + 1).reduce((sum, step) => sum + step, 0)));
};
const size = fc.integer({ min: 1, max: 9 });
const plain = (masking: Masking): Scene => ({ masking, tables: {} });

/** Every mask of core, with tables that fit the scene. Table names differ so that two may meet in one mask. */
const members: readonly fc.Arbitrary<Scene>[] = [
  fc.constant(plain(full())),
  fc.constant(plain(causal())),
  fc.record({ left: fc.oneof(fc.nat(9), fc.constant(Infinity)), right: fc.oneof(fc.nat(9), fc.constant(Infinity)) }).map((sides) => plain(window(sides))),
  size.map((chunk) => plain(chunkedLocal(chunk))),
  fc.record({ keys: size, dilation: size }).map((options) => plain(dilated(options))),
  size.map((stride) => plain(stridedPattern(stride))),
  fc.tuple(size, fc.nat(8)).map(([stride, rest]) => plain(fixedPattern({ stride, summary: 1 + (rest % stride) }))),
  fc.nat(9).map((count) => plain(sinkTokens(count))),
  fc.tuple(integersOf(batch * queryLength, 0, 1), integersOf(batch * keyLength, 0, 1)).map(([queries, keys]) => ({
    masking: documents(),
    tables: { queryDocuments: tensor(ascending(queries, batch), [batch, queryLength]), keyDocuments: tensor(ascending(keys, batch), [batch, keyLength]) },
  })),
  integersOf(batch, -1, 20).map((lengths) => ({ masking: prefix(), tables: { prefixLengths: tensor(lengths, [batch]) } })),
  fc.tuple(integersOf(batch, 0, keyLength), fc.constantFrom('left' as const, 'right' as const)).map(([counts, side]) => ({ masking: keyPadding({ side }), tables: { keyCounts: tensor(counts, [batch]) } })),
  fc.tuple(flags(batch * queryLength), flags(batch * keyLength)).map(([queries, keys]) => ({ masking: globalTokens(), tables: { globalQueries: tensor(queries, [batch, queryLength]), globalKeys: tensor(keys, [batch, keyLength]) } })),
  fc.tuple(flags(heads * queryLength * keyLength), fc.constantFrom(1, 4)).map(([pairs, coarse]) => ({
    masking: booleanMask(),
    tables: { mask: tensor(pairs.map((_, index) => pairs[Math.floor(index / coarse)]!), [1, heads, queryLength, keyLength]) },
  })),
  fc.constantFrom<readonly [readonly number[], number, boolean]>([[tokens], 5, false], [[3, 6], 3, false], [[3, 3, 3], 3, false], [[4, 5], 2, true], [[2, 9], 1, true]).map(([shape, kernel, isCausal]) =>
    plain(neighbourhood({ shape, kernel, causal: isCausal }))),
  fc.tuple(fc.constantFrom(1, 3), fc.constantFrom(1, 2)).map(([kernel, dilation]) => plain(neighbourhood({ shape: [6, 6], kernel, dilation }))),
  integersOf(queryLength, -1, queryLength).map((draws) => {
    const parents = Array.from(draws, (draw, node) => (node === 0 ? -1 : Math.max(-1, draw % node)));
    const { treeNode, treeFirst, treeLast } = treeIntervals(parents, { past: keyLength - queryLength });
    return { masking: tree(), tables: { treeNode: tensor(treeNode, [1, queryLength]), treeFirst: tensor(treeFirst, [1, keyLength]), treeLast: tensor(treeLast, [1, keyLength]) } };
  }),
  size.map((step) => plain(mask('own', ({ head, keyHead, queryPosition, keyPosition, keyLength: length, uniform }) =>
    queryPosition.add(head).mod(uniform('step', step, 'i32')).ne(keyPosition.sub(keyHead).abs().mod(3)).and(keyPosition.lt(length.sub(1)))))),
];

const scenes: fc.Arbitrary<Scene> = fc.tuple(fc.oneof(...members), fc.oneof(...members), fc.constantFrom('first', 'and', 'or', 'not', 'and not')).map(([a, b, how]) => {
  const tables = { ...a.tables, ...(how === 'first' || how === 'not' ? {} : b.tables) };
  const masking = how === 'first' ? a.masking : how === 'not' ? a.masking.not() : how === 'and' ? a.masking.and(b.masking) : how === 'or' ? a.masking.or(b.masking) : a.masking.and(b.masking.not());
  return { masking, tables };
});

const placement: fc.Arbitrary<Partial<AttentionInputs>> = fc.oneof(
  fc.constant<Partial<AttentionInputs>>({ queryOffset: 'end' }),
  fc.tuple(fc.integer({ min: -9, max: 20 }), fc.integer({ min: -9, max: 9 })).map(([queryOffset, keyOffset]) => ({ queryOffset: [queryOffset, queryOffset + 3], keyOffset })),
  fc.tuple(integersOf(queryLength, -3, 20), integersOf(keyLength, -3, 20)).map(([queries, keys]) => ({ queryPositions: tensor(queries, [1, queryLength]), keyPositions: tensor(keys, [1, keyLength]) })),
  fc.tuple(fc.nat(queryLength), fc.nat(keyLength)).map(([queries, keys]) => ({ queryOffset: 'start' as const, queryLengths: [queries, queryLength], keyLengths: [keyLength, keys] })),
);

describe('tiles of a mask', () => {
  test('are never wrongly empty and never wrongly full, for every mask and its and, or, not', () => {
    fc.assert(
      fc.property(scenes, placement, fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 7 }), ({ masking, tables }, where, blockQuery, blockKey) => {
        const call = bind(requestOf({ masking }), inputsOf({ batch, heads, keyHeads: 1, queryLength, keyLength }, { ...where, tables: tables! }));
        compare(call, { blockQuery, blockKey });
      }),
      { numRuns: 500 },
    );
  });

  const sizes = fc.record({ blockQuery: fc.integer({ min: 1, max: 9 }), blockKey: fc.integer({ min: 1, max: 9 }) });
  const offsets = fc.record({ queryOffset: fc.integer({ min: -9, max: 20 }), keyOffset: fc.integer({ min: -9, max: 20 }) });

  test('are mixed only where they are: causal, windows, chunks, sinks and what and, or, not make of two', () => {
    const side = fc.oneof(fc.nat(12), fc.constant(Infinity));
    const sharp = fc.oneof(
      fc.constant(causal()),
      fc.constant(causal().not()),
      fc.record({ left: side, right: side }).map(window),
      fc.record({ left: side, right: side }).map((sides) => window(sides).and(causal())),
      fc.record({ left: side, right: side }).map((sides) => window(sides).not()),
      fc.nat(9).map(sinkTokens),
    );
    fc.assert(
      fc.property(sharp, sizes, offsets, (masking, tiles, where) => {
        const { found, truly } = compare(bind(requestOf({ masking }), inputsOf({ batch: 1, heads: 1, keyHeads: 1, queryLength: 31, keyLength: 37 }, where)), tiles);
        expect(found).toBe(truly);
      }),
      { numRuns: 500 },
    );
  });

  test('are mixed only where they are: documents in order, and prefixes', () => {
    fc.assert(
      fc.property(integersOf(30, 0, 1), fc.nat(30), sizes, (steps, length, tiles) => {
        const table = tensor(ascending(steps, 1), [1, 30]);
        const inputs = inputsOf({ batch: 1, heads: 1, keyHeads: 1, queryLength: 30 });
        const documented = bind(requestOf({ masking: documents() }), { ...inputs, tables: { queryDocuments: table, keyDocuments: table } });
        const prefixed = bind(requestOf({ masking: prefix() }), { ...inputs, tables: { prefixLengths: tensor(Int32Array.of(length), [1]) } });
        for (const call of [documented, prefixed]) {
          const { found, truly } = compare(call, tiles);
          expect(found).toBe(truly);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('of a causal mask of equal tiles are mixed on the diagonal alone', () => {
    const call = bind(requestOf({ masking: causal() }), inputsOf({ batch: 3, heads: 4, keyHeads: 2, queryLength: 64 }));
    const found = classifyTiles(call, { blockQuery: 8, blockKey: 8 });
    expect(found.shape).toEqual([1, 1, 8, 8]);
    expect(countTiles(found)).toEqual({ total: 64, empty: 28, mixed: 8, full: 28 });
  });

  test('are shared by heads and sequences that see alike, and only by them', () => {
    const shapeOf = (masking: Masking, rest: Partial<AttentionInputs> = {}): readonly number[] => classifyTiles(bind(requestOf({ masking }), inputsOf({}, rest)), { blockQuery: 5, blockKey: 5 }).shape.slice(0, 2);
    expect(shapeOf(causal())).toEqual([1, 1]);
    expect(shapeOf(causal(), { queryOffset: [0, 1] })).toEqual([2, 1]);
    expect(shapeOf(causal(), { keyLengths: [5, 4], queryOffset: 0 })).toEqual([2, 1]);
    expect(shapeOf(causal(), { keyPositions: tensor(Int32Array.of(0, 1, 2, 3, 4, 0, 1, 2, 3, 4), [2, 5]) })).toEqual([1, 1]);
    expect(shapeOf(causal(), { keyPositions: tensor(Int32Array.of(0, 1, 2, 3, 4, 0, 1, 2, 4, 3), [2, 5]) })).toEqual([2, 1]);
    expect(shapeOf(mask('perHead', ({ head, keyIndex }) => keyIndex.gt(head)))).toEqual([1, 4]);
    expect(shapeOf(mask('perBatch', ({ batch: entry, keyIndex }) => keyIndex.gt(entry)))).toEqual([2, 1]);
  });

  test('of packed sequences end where each ends', () => {
    const packed = { query: [0, 3, 9], key: [0, 3, 9] };
    const call = bind(requestOf({ masking: causal() }), inputsOf({ batch: 1, heads: 1, keyHeads: 1, queryLength: 9 }, { packed }));
    const found = classifyTiles(call, { blockQuery: 3, blockKey: 3 });
    expect(found.shape).toEqual([2, 1, 2, 2]);
    expect([...found.classes]).toEqual([1, 0, 0, 0, 1, 0, 2, 1]);
    compare(call, { blockQuery: 2, blockKey: 2 });
  });

  test('of empty axes are none', () => {
    for (const sizesOfCall of [{ batch: 0 }, { queryLength: 0, keyLength: 4 }, { queryLength: 4, keyLength: 0 }]) {
      const found = classifyTiles(bind(requestOf({ masking: causal() }), inputsOf(sizesOfCall)), { blockQuery: 2, blockKey: 2 });
      expect(found.classes).toHaveLength(0);
      expect(() => blockListFromClasses(found)).not.toThrow();
    }
  });

  test('of no size are refused', () => {
    const call = bind(requestOf(), inputsOf());
    for (const blockQuery of [0, -1, 1.5, Number.NaN]) expectRefusal(() => classifyTiles(call, { blockQuery, blockKey: 2 }), 'invalid-argument');
  });

  test('of long causal sequences take a few looks for each row of tiles, not one for each tile', () => {
    // 2¹⁵ tokens in tiles of 32: a million tiles, about 4 · 1024 of them looked at.
    const length = 2 ** 15;
    const huge = { dtype: 'f32' as const, runtime: {} as never, strides: [0, 0, 0, 0] };
    const call = bind(requestOf({ masking: causal() }), { query: { ...huge, shape: [1, 1, length, 4] }, key: { ...huge, shape: [1, 1, length, 4] }, value: { ...huge, shape: [1, 1, length, 3] } });
    const started = performance.now();
    const found = classifyTiles(call, { blockQuery: 32, blockKey: 32 });
    expect(performance.now() - started).toBeLessThan(1000);
    expect(countTiles(found).mixed).toBe(1024);
  });
});
