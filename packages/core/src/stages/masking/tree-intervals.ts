import { AttentionError } from '../../errors.ts';
import { requireInteger } from '../arguments.ts';

/** What `tree` reads, for one sequence. */
export interface TreeIntervals {
  /** Number of each node in depth-first order, [nodes]. */
  readonly treeNode: Int32Array;
  /** First and last number in the subtree of each key, [past + nodes]; keys of the past have all numbers in theirs. */
  readonly treeFirst: Int32Array;
  readonly treeLast: Int32Array;
  /** Distance of each node from the root of its tree, 0 for a root: its position is past + depth. */
  readonly depth: Int32Array;
}

/**
 * The tables of `tree` for drafts after `past` keys that all of them see.
 *
 * @param parents parent of each node, −1 for those that follow the past directly
 * @throws AttentionError `invalid-argument` for a parent that does not exist, or a circle
 */
export function treeIntervals(parents: readonly number[] | Int32Array, options: { readonly past?: number } = {}): TreeIntervals {
  const { past = 0 } = options;
  requireInteger('treeIntervals', 'past', past, 0);
  const nodes = parents.length;
  const children = childrenOf(parents);
  const treeNode = new Int32Array(nodes).fill(-1);
  const treeFirst = new Int32Array(past + nodes);
  const treeLast = new Int32Array(past + nodes).fill(nodes);
  const depth = new Int32Array(nodes);
  let visited = 0;
  // A node is on the stack twice: to be numbered, and, as ~node, to be closed after its subtree.
  const stack = [...(children.get(-1) ?? [])].reverse();
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (node < 0) {
      treeLast[past + ~node] = visited - 1;
      continue;
    }
    treeNode[node] = visited;
    treeFirst[past + node] = visited++;
    const parent = parents[node] ?? -1;
    depth[node] = parent < 0 ? 0 : (depth[parent] ?? 0) + 1;
    stack.push(~node, ...(children.get(node) ?? []));
  }
  if (visited < nodes) throw new AttentionError('invalid-argument', `treeIntervals got a circle through node ${treeNode.indexOf(-1)}.`, 'Every node must lead to a parent of −1.');
  return { treeNode, treeFirst, treeLast, depth };
}

function childrenOf(parents: readonly number[] | Int32Array): ReadonlyMap<number, readonly number[]> {
  const children = new Map<number, number[]>();
  parents.forEach((parent: number, node: number) => {
    if (!Number.isSafeInteger(parent) || parent < -1 || parent >= parents.length) {
      throw new AttentionError('invalid-argument', `treeIntervals got parent ${parent} for node ${node} of ${parents.length}.`, 'Expected −1 or the number of a node.');
    }
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [node]);
    else siblings.push(node);
  });
  return children;
}
