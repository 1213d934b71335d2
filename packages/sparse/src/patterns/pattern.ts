import type { Masking } from '@heed/core';
import type { HostBlockList } from '@heed/core/compute';
import { blocksOfMask, type PatternPlane } from './mask.ts';

/**
 * A fixed set of pairs. The mask is the meaning; the list is where it is computed, found by the mask's bound without looking at pairs. A kernel of the variant with this mask gives the same
 * with the list and without it.
 */
export interface Pattern {
  readonly name: string;
  readonly masking: Masking;
  /** The tiles that hold a pair, for a plane of these lengths. Tables that the mask reads are the plane's. */
  readonly blocks: (plane: PatternPlane) => HostBlockList;
}

/** The pattern of a mask: any mask, also of the user's own. */
export function patternOf(masking: Masking, name: string = masking.name): Pattern {
  return Object.freeze({ name, masking, blocks: (plane: PatternPlane) => blocksOfMask(masking, plane) });
}
