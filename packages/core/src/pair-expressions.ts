import type { Expression } from './expression/node.ts';
import { readsInput } from './expression/node.ts';
import type { AttentionVariant } from './variant.ts';

/** Every expression that is evaluated for pairs of a query and a key, in the order of the pipeline. */
export function pairExpressions({ scoring, masking, normalization }: AttentionVariant): readonly Expression[] {
  return [...scoring.modifiers.map(({ expression }) => expression), masking.allowed, normalization.rule.score, normalization.reweigh];
}

/** Whether a variant reads `edgeIndex`, or a table with one entry for each edge. Backends without edge lists refuse it. */
export function readsEdges(variant: AttentionVariant): boolean {
  const { tables, scoring } = variant;
  return Object.values(tables).some(({ axes }) => axes.includes('edge')) || [scoring.combine, ...pairExpressions(variant)].some((expression) => readsInput(expression, 'edgeIndex'));
}
