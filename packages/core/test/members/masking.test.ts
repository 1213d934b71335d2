import { describe, expect, test } from 'vitest';
import type { Masking } from '../../src/index.ts';
import {
  attention, booleanMask, causal, chunkedLocal, dilated, documents, fixedPattern, full, globalTokens, keyPadding, mask, neighbourhood, none, prefix, sinkTokens, stridedPattern, tensor, tree, treeIntervals, window,
} from '../../src/index.ts';
import type { Formulas, Tables } from '../plain.ts';
import { expectPlain, sizes } from '../plain.ts';

// Expected values: the rules of VARIANTS §6 and LAWS L3, L4, pair by pair. Queries stand at 1, 2, 3, 4, keys at 0 … 4.
const { batch, heads, queryLength, keyLength } = sizes;
const bits = (seed: number, count: number): number[] => Array.from({ length: count }, (_, index) => Number(((index + 1) * seed * 2654435761) % 7 < 3));
const boolean = bits(3, heads * queryLength * keyLength);
const queryBits = bits(5, batch * queryLength);
const keyBits = bits(11, batch * keyLength);
const queryDocuments = [0, 0, 1, 2, 1, 1, 1, 0];
const keyDocuments = [0, 1, 1, 2, 2, 0, 0, 1, 1, 3];
const counts = [3, 5];
const prefixes = [2, 4];
const bool = (data: readonly number[], shape: readonly number[]): ReturnType<typeof tensor> => tensor(Uint8Array.from(data), shape);
const i32 = (data: ArrayLike<number>, shape: readonly number[]): ReturnType<typeof tensor> => tensor(Int32Array.from(data), shape);
// Four nodes after one key of the past: 0 ← 1, 0 ← 2 ← 3.
const parents = [-1, 0, 0, 2];
const nodes = treeIntervals(parents, { past: 1 });
const isAncestor = (node: number, of: number): boolean => node === of || (of >= 0 && parents[of]! >= 0 && isAncestor(node, parents[of]!));
const twice = (data: Int32Array): number[] => [...data, ...data];
const isIn = (from: number, count: number, x: number): boolean => x >= from && x < from + count;

const members: readonly [string, Masking, NonNullable<Formulas['allowed']>, Tables?][] = [
  ['full', full(), () => true],
  ['causal', causal(), ({ p, r }) => r <= p],
  ['window', window({ left: 1, right: 0 }), ({ p, r }) => p - 1 <= r && r <= p],
  ['window of itself alone', window({ left: 0, right: 0 }), ({ p, r }) => p === r],
  ['window open to the left', window({ left: Infinity, right: 1 }), ({ p, r }) => r <= p + 1],
  ['window open to the right', window({ left: 1, right: Infinity }), ({ p, r }) => r >= p - 1],
  ['window open to both', window({ left: Infinity, right: Infinity }), () => true],
  ['chunks', chunkedLocal(2), ({ p, r }) => Math.floor(p / 2) === Math.floor(r / 2)],
  ['dilated', dilated({ keys: 2, dilation: 2 }), ({ p, r }) => p - r === 0 || p - r === 2],
  ['strided', stridedPattern(3), ({ p, r }) => r <= p && (p - r < 3 || (p - r) % 3 === 0)],
  ['fixed', fixedPattern({ stride: 3, summary: 1 }), ({ p, r }) => r <= p && (Math.floor(p / 3) === Math.floor(r / 3) || r % 3 >= 2)],
  ['sink tokens', sinkTokens(2), ({ r }) => r < 2],
  ['prefix', prefix(), ({ b, p, r }) => p < prefixes[b]! && r < prefixes[b]!, { prefixLengths: i32(prefixes, [batch]) }],
  ['padding on the right', keyPadding({ side: 'right' }), ({ b, j }) => j < counts[b]!, { keyCounts: i32(counts, [batch]) }],
  ['padding on the left', keyPadding({ side: 'left' }), ({ b, j }) => j >= keyLength - counts[b]!, { keyCounts: i32(counts, [batch]) }],
  ['documents', documents(), ({ b, i, j }) => queryDocuments[b * queryLength + i] === keyDocuments[b * keyLength + j], { queryDocuments: i32(queryDocuments, [batch, queryLength]), keyDocuments: i32(keyDocuments, [batch, keyLength]) }],
  ['a tensor', booleanMask(), ({ h, i, j }) => boolean[(h * queryLength + i) * keyLength + j] === 1, { mask: bool(boolean, [1, heads, queryLength, keyLength]) }],
  ['global tokens', globalTokens(), ({ b, i, j }) => queryBits[b * queryLength + i] === 1 || keyBits[b * keyLength + j] === 1, { globalQueries: bool(queryBits, [batch, queryLength]), globalKeys: bool(keyBits, [batch, keyLength]) }],
  ['tree', tree(), ({ i, j }) => j === 0 || isAncestor(j - 1, i), {
    treeNode: i32(twice(nodes.treeNode), [batch, queryLength]), treeFirst: i32(twice(nodes.treeFirst), [batch, keyLength]), treeLast: i32(twice(nodes.treeLast), [batch, keyLength]),
  }],
  ['neighbourhood on a line', neighbourhood({ shape: [5], kernel: 3 }), ({ p, r }) => isIn(Math.min(Math.max(p - 1, 0), 2), 3, r)],
  ['neighbourhood on a line, causal', neighbourhood({ shape: [5], kernel: 2, causal: true }), ({ p, r }) => isIn(p - 1, 2, r)],
  ['neighbourhood on a grid of 2 × 3', neighbourhood({ shape: [2, 3], kernel: [1, 3] }), ({ p, r }) => Math.floor(p / 3) === Math.floor(r / 3)],
  ["a user's own", mask('parity', ({ queryPosition, keyPosition }) => queryPosition.sub(keyPosition).mod(2).eq(0)), ({ p, r }) => (p + r) % 2 === 0],
  ['and, or, not', causal().and(window({ left: 1, right: 0 }).or(sinkTokens(1))).and(chunkedLocal(4).not()), ({ p, r }) => r <= p && (r >= p - 1 || r < 1) && Math.floor(p / 4) !== Math.floor(r / 4)],
];

describe('masks allow what their rules allow', () => {
  test.each(members)('%s', (_, masking, allowed, tables = {}) => expectPlain(attention({ masking, normalization: none() }), { allowed, weights: (scores) => scores }, tables));

  test('the rules leave something out, but for those that allow all', () => {
    const pairs = Array.from({ length: batch * heads * queryLength * keyLength }, (_, at) => {
      const [j, i, h, b] = [at % keyLength, Math.floor(at / keyLength) % queryLength, Math.floor(at / keyLength / queryLength) % heads, Math.floor(at / keyLength / queryLength / heads)];
      return { b, h, i, j, p: i + 1, r: j };
    });
    const all = members.filter(([, , allowed]) => pairs.every(allowed)).map(([name]) => name);
    expect(all).toEqual(['full', 'window open to both']);
    expect(members.filter(([, , allowed]) => !pairs.some(allowed))).toEqual([]);
  });
});
