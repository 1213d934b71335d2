import type { Expression } from './expression/node.ts';
import { walk } from './expression/node.ts';
import { pairExpressions } from './pair-expressions.ts';
import { mergeClassOf } from './partial.ts';
import type { AttentionVariant } from './variant.ts';

/** Names of the tables whose rows are multiplied with query rows, each once. */
export function queryTablesOf(expressions: readonly Expression[]): readonly string[] {
  const names = new Set<string>();
  for (const expression of expressions) for (const node of walk(expression)) if (node.kind === 'queryTable') names.add(node.name);
  return [...names];
}

/** A stream of random numbers: the uniform that holds its seed, and its number. */
export type RandomStream = readonly [seed: string, stream: number];

/** The streams that weights of pairs read, each once. */
export function randomStreamsOf(variant: AttentionVariant): readonly RandomStream[] {
  const streams = new Map<string, RandomStream>();
  for (const expression of pairExpressions(variant)) {
    for (const node of walk(expression)) if (node.kind === 'random') streams.set(`${node.seed} ${node.stream}`, [node.seed, node.stream]);
  }
  return [...streams.values()];
}

/** Whether one walk over the keys is enough: weights, or their numerators, follow from one score and running statistics. Otherwise a kernel needs whole rows of scores. */
export function isOnline(variant: AttentionVariant): boolean {
  const { rule } = variant.normalization;
  if (variant.aggregation.reduction !== 'sum') return false;
  return rule.kind === 'elementwise' || ((rule.kind === 'softmax' || rule.kind === 'rowSum') && mergeClassOf(variant).mergeClass !== null);
}
