import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

export interface EdgeBiasOptions {
  /** Name of the table [head, edge]; the first axis may be 1, which repeats. Default 'edgeBias'. */
  readonly table?: string;
}

/** score + bias, one number for each edge of the graph and head: scores of edges that are known beforehand, in the order of `edges.keys`. Only in calls with edges. */
export function edgeBias(options: EdgeBiasOptions = {}): Modifier {
  return modifier('edgeBias', ({ score, head, edgeIndex, table }) => score.add(table(options.table ?? 'edgeBias', ['head', 'edge']).at(head, edgeIndex)));
}
