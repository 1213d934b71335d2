import type { AttentionVariant, Expression } from '@heed/core';

/** Every expression that is evaluated for pairs of a query and a key. */
export function pairSlots({ scoring, masking, normalization }: AttentionVariant): readonly Expression[] {
  return [...scoring.modifiers.map(({ expression }) => expression), masking.allowed, normalization.rule.score, normalization.reweigh];
}
