import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Edge } from '../../src/edge-list.ts';
import { edgeList, edgeListFromMask, edgesToMask } from '../../src/edge-list.ts';
import { tensor, toFloat64, zeros } from '../../src/tensor.ts';
import { checkEdgeList } from '../../src/validate/edge-list.ts';
import { expectRefusal } from '../validate/calls.ts';

const sizes = { queryLength: 5, keyLength: 4 };

describe('an edge list', () => {
  test('L17: is the same graph as the mask it comes from', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1), { minLength: 20, maxLength: 20 }), (pairs) => {
        const mask = tensor(Uint8Array.from(pairs), [5, 4]);
        const list = edgeListFromMask(mask);
        checkEdgeList(list, { queryRows: 5, keyRows: 4 });
        expect([...toFloat64(edgesToMask(list, 4))]).toEqual(pairs);
      }),
    );
  });

  test('takes its edges in any order', () => {
    const all: readonly Edge[] = Array.from({ length: 20 }, (_, index) => [Math.floor(index / 4), index % 4] as const);
    fc.assert(
      fc.property(fc.shuffledSubarray([...all]), (edges) => {
        const marks = new Uint8Array(20);
        for (const [query, key] of edges) marks[query * 4 + key] = 1;
        const list = edgeList(edges, sizes);
        expect([...toFloat64(edgesToMask(list, 4))]).toEqual([...marks]);
        // L14: the same graph is the same list, so that sums over its edges have the same bits.
        expect([...list.keys.view()]).toEqual([...edgeListFromMask(tensor(marks, [5, 4])).keys.view()]);
      }),
    );
  });

  test('holds each edge once', () => {
    expectRefusal(() => edgeList([[1, 2], [0, 2], [1, 2]], sizes), 'duplicate-edge', 'key 2 to query 1');
    expect(() => edgeList([[1, 2], [0, 2]], sizes)).not.toThrow();
  });

  test.each<Edge>([[5, 0], [-1, 0], [0, 4], [0, -1], [0.5, 0], [0, 0.5], [Number.NaN, 0]])('refuses the edge [%s, %s], which leaves the graph', (query, key) => {
    expectRefusal(() => edgeList([[query, key]], sizes), 'invalid-edges', String(query));
  });

  test('of other shapes, dtypes or contents is refused', () => {
    const rows = { queryRows: 2, keyRows: 4 };
    const make = (starts: readonly number[], keys: readonly number[]): Parameters<typeof checkEdgeList>[0] => ({ starts: tensor(Int32Array.from(starts), [starts.length]), keys: tensor(Int32Array.from(keys), [keys.length]) });
    expect(() => checkEdgeList(make([0, 2, 3], [3, 0, 3]), rows)).not.toThrow();
    expectRefusal(() => checkEdgeList(make([0, 2], [3, 0]), rows), 'invalid-edges', '[2]', '[3]');
    expectRefusal(() => checkEdgeList(make([1, 2, 3], [3, 0, 3]), rows), 'invalid-edges', 'from 1');
    expectRefusal(() => checkEdgeList(make([0, 2, 2], [3, 0, 3]), rows), 'invalid-edges', 'to 2');
    expectRefusal(() => checkEdgeList(make([0, 4, 3], [3, 0, 3]), rows), 'invalid-edges', 'starts[1]');
    expectRefusal(() => checkEdgeList(make([0, 2, 3], [3, 4, 3]), rows), 'invalid-edges', 'keys[1] is 4');
    expectRefusal(() => checkEdgeList(make([0, 2, 3], [3, 3, 3]), rows), 'duplicate-edge', 'key 3 to query 0');
    expectRefusal(() => checkEdgeList({ ...make([0, 2, 3], [3, 0, 3]), keys: zeros([3]) }, rows), 'invalid-edges', 'f32');
    expectRefusal(() => checkEdgeList({ ...make([0, 2, 3], [3, 0, 3]), keys: zeros([3, 1], 'i32') }, rows), 'invalid-edges', 'one axis');
    expectRefusal(() => checkEdgeList(null as never, rows), 'invalid-edges');
  });
});
