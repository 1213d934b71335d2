import type { Shape, TableOptions } from '@heed/conformance';
import { attention, isAttentionError, type AttentionVariant } from '@heed/core';
import type { ExplorerState } from '../state/state.ts';
import { aggregations, maskings, modifiers, normalizations, scorings, tablesOf } from './members.ts';
import { typedMask, typedScore } from './typed-formula.ts';

/** Where something is wrong, and what. */
export interface Problem {
  readonly place: 'text' | 'query' | 'key' | 'value' | 'typedScore' | 'typedMask' | 'backend' | 'variant';
  readonly message: string;
}

/** A variant, and how its tables are filled for a call of some shape. */
export interface Described {
  readonly variant: AttentionVariant;
  readonly tables: (shape: Shape) => TableOptions;
}

/** A variant whose tables are random, or that has none. */
export function plain(variant: AttentionVariant): Described {
  return { variant, tables: () => ({}) };
}

export interface Built extends Described {
  readonly problems: readonly Problem[];
}

/** The variant that the state describes, for rows of some width and number. What somebody typed wrongly is left out, and said. */
export function variantOf(state: ExplorerState, shape: Pick<Shape, 'queryDim' | 'queryLength'>): Built {
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
  const picked = { scoring: scorings[state.scoring], masking: maskings[state.masking], normalization: normalizations[state.normalization], aggregation: aggregations[state.aggregation] };
  const modifying = state.modifiers.map((name) => modifiers[name]);
  const scoring = picked.scoring?.make(shape);
  const normalization = picked.normalization?.make(shape);
  const masking = masks.reduce((all, one) => all?.and(one), picked.masking?.make(shape));
  const aggregation = picked.aggregation?.make(shape);
  const variant = attention({
    ...(scoring === undefined ? {} : { scoring: scoring.modify(...modifying.flatMap((member) => member?.make(shape) ?? []), ...scores) }),
    ...(masking === undefined ? {} : { masking }),
    ...(normalization === undefined ? {} : { normalization }),
    ...(aggregation === undefined ? {} : { aggregation }),
  });
  return { variant, problems, tables: (sizes) => tablesOf([...Object.values(picked), ...modifying], sizes) };
}

/** The uniforms of a variant with the state's values where it has them: what its kernels are run with. */
export function uniformsOf(variant: AttentionVariant, given: Readonly<Record<string, number>>): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(given).filter(([name]) => Object.hasOwn(variant.uniforms, name)));
}
