import type { Masking } from './stage.ts';
import { mask } from './stage.ts';

/**
 * A query sees its ancestors in a tree and itself: drafts of speculative decoding in one call (Miao 2023; Cai 2024). The tree comes as an interval for each key and a number
 * for each query, i32 tables that {@link treeIntervals} makes: `treeFirst` and `treeLast` [batch, keyLength], `treeNode` [batch, queryLength]; key j is seen where
 * treeFirst[j] ≤ treeNode[i] ≤ treeLast[j]. Keys that all nodes see have the widest interval.
 */
export function tree(): Masking {
  return mask('tree', ({ batch, queryIndex, keyIndex, table }) => {
    const node = table('treeNode', ['batch', 'queryLength'], 'i32').at(batch, queryIndex);
    const first = table('treeFirst', ['batch', 'keyLength'], 'i32').at(batch, keyIndex);
    const last = table('treeLast', ['batch', 'keyLength'], 'i32').at(batch, keyIndex);
    return first.le(node).and(node.le(last));
  });
}
