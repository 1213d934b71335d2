import { attention, isAttentionError, type AttentionVariant } from '@heed/core';
import type { ExplorerState } from '../state/state.ts';
import { aggregations, maskings, modifiers, normalizations, scorings } from './members.ts';
import { typedMask, typedScore } from './typed-formula.ts';

/** Where something is wrong, and what. */
export interface Problem {
  readonly place: 'text' | 'query' | 'key' | 'value' | 'typedScore' | 'typedMask' | 'backend' | 'variant';
  readonly message: string;
}

export type Built = { readonly variant: AttentionVariant; readonly problems: readonly Problem[] };

/** The variant that the state describes. What somebody typed wrongly is left out, and said. */
export function variantOf(state: ExplorerState): Built {
  const problems: Problem[] = [];
  const typed = <T>(place: 'typedScore' | 'typedMask', text: string, make: (text: string) => T): readonly T[] => {
    if (text.trim() === '') return [];
    try {
      return [make(text)];
    } catch (error) {
      if (!isAttentionError(error)) throw error;
      problems.push({ place, message: error.message });
      return [];
    }
  };
  const scores = typed('typedScore', state.typedScore, typedScore);
  const masks = typed('typedMask', state.typedMask, typedMask);
  const scoring = (scorings[state.scoring] ?? scorings['scaledDot'])?.make();
  const normalization = normalizations[state.normalization]?.make();
  const masking = masks.reduce((all, one) => all?.and(one), maskings[state.masking]?.make());
  const aggregation = aggregations[state.aggregation]?.make();
  const variant = attention({
    ...(scoring === undefined ? {} : { scoring: scoring.modify(...state.modifiers.flatMap((name) => modifiers[name]?.make() ?? []), ...scores) }),
    ...(masking === undefined ? {} : { masking }),
    ...(normalization === undefined ? {} : { normalization }),
    ...(aggregation === undefined ? {} : { aggregation }),
  });
  return { variant, problems };
}

/** The uniforms of a variant with the state's values where it has them: what its kernels are run with. */
export function uniformsOf(variant: AttentionVariant, given: Readonly<Record<string, number>>): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(given).filter(([name]) => Object.hasOwn(variant.uniforms, name)));
}
