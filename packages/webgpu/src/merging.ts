import type { AttentionVariant, MergeClass } from '@heed/core';
import { mergeClassOf } from '@heed/core/compute';

/** The merge class of a variant, or null with the reason why its partial results cannot merge (L13). */
export function mergingOf(variant: AttentionVariant): { readonly mergeClass: MergeClass | null; readonly refusal: string } {
  const merging = mergeClassOf(variant);
  return 'mergeClass' in merging ? { mergeClass: merging.mergeClass, refusal: '' } : { mergeClass: null, refusal: merging.refusal };
}
