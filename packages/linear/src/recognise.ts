import type { AttentionRequest, Expression, RecurrentRule, Refusal } from '@heed/core';
import { additiveRule, causal, full, isProduct, keyPadding, print, transformedWidth } from '@heed/core';

/** A pairwise variant read as linear attention. */
export interface LinearReading {
  readonly rule: RecurrentRule;
  /** Rows see keys up to their own position; false: all keys. */
  readonly causal: boolean;
  /** Table with the number of keys of each sequence that count, where the mask is a padding by lengths; null: all. */
  readonly counts: string | null;
  /** Added to the row sum; null: no row sum. */
  readonly epsilon: Expression | null;
  readonly width: number;
}

/**
 * Reads a pairwise variant as a sum that can be carried: Σⱼ (q'·k'ⱼ) vⱼ over the keys so far, or over all of them, divided by Σⱼ q'·k'ⱼ + ε or not (Katharopoulos 2020, equations 4 and 12).
 * What stands in the way of that is said, every reason with its remedy. Pure.
 */
export function recognise({ variant, queryDim }: AttentionRequest): { readonly reading: LinearReading; readonly refusals: readonly [] } | { readonly reading: null; readonly refusals: readonly Refusal[] } {
  const refusals: Refusal[] = [];
  const refuse = (stage: Refusal['stage'], reason: string, remedy: string): void => {
    refusals.push({ stage, reason, remedy });
  };
  const { scoring, masking, normalization, aggregation } = variant;
  const dense = 'Use a dense backend, such as cpu or webgpu.';
  if (!isProduct(scoring.combine)) refuse('scoring', `'${scoring.name}' is no product of a query row and a key row`, `Use dot() with a feature map on both sides. ${dense}`);
  if (scoring.modifiers.length > 0) refuse('scoring', `${scoring.modifiers.map(({ name }) => `'${name}'`).join(', ')} changes scores pair by pair, and a sum over keys is kept instead of pairs`, `Leave modifiers out. ${dense}`);
  if (normalization.rule.kind !== 'rowSum' && normalization.rule.kind !== 'elementwise') refuse('normalization', `'${normalization.name}' needs every score of a row`, `Use rowSum() or none() with a feature map. ${dense}`);
  else if (!isInput(normalization.rule.score, 'score')) refuse('normalization', `'${normalization.name}' changes scores pair by pair`, `Use rowSum() or none(). ${dense}`);
  if (!isInput(normalization.reweigh, 'weight')) refuse('normalization', 'weights are changed pair by pair', `Leave the reweighing out. ${dense}`);
  if (aggregation.reduction !== 'sum' || !isInput(aggregation.prepare, 'value') || !isInput(aggregation.finish, 'output')) refuse('aggregation', `'${aggregation.name}' is no plain weighted sum of the values`, `Use weightedSum(). ${dense}`);
  const seen = maskOf(masking.allowed);
  if (seen === null) refuse('masking', `the mask '${masking.name}' is neither causal(), full() nor a padding of the keys on the right, and a running sum over keys can leave out no other`, `Use one of those, or lengths in the call. ${dense}`);
  const [only, ...others] = [...new Set(refusals)];
  if (only !== undefined || seen === null) return { reading: null, refusals: only === undefined ? [] : [only, ...others] };
  const { rule } = normalization;
  return {
    reading: {
      rule: additiveRule(),
      ...seen,
      epsilon: rule.kind === 'rowSum' ? rule.epsilon : null,
      width: scoring.queryTransforms.reduce((width, transform) => transformedWidth(transform, width), queryDim),
    },
    refusals: [],
  };
}

function isInput(expression: Expression, name: string): boolean {
  return expression.kind === 'input' && expression.name === name;
}

/** Masks whose allowed keys are a prefix that grows by one a row, or one prefix for all rows; compared as text, so that any way of writing them counts. */
function maskOf(allowed: Expression): { readonly causal: boolean; readonly counts: string | null } | null {
  const text = print(allowed);
  if (text === print(full().allowed)) return { causal: false, counts: null };
  if (text === print(causal().allowed)) return { causal: true, counts: null };
  for (const counts of tablesOf(allowed)) {
    const padding = keyPadding({ side: 'right', table: counts });
    if (text === print(padding.allowed)) return { causal: false, counts };
    if (text === print(causal().and(padding).allowed) || text === print(padding.and(causal()).allowed)) return { causal: true, counts };
  }
  return null;
}

function tablesOf(expression: Expression): readonly string[] {
  if (expression.kind === 'table') return [expression.name];
  return expression.kind === 'operation' ? [...new Set(expression.operands.flatMap(tablesOf))] : [];
}
