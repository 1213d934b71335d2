import { mask, stridedPattern } from '@heed/core';
import { patternOf, type Pattern } from './pattern.ts';

export interface StridedOptions {
  /** ℓ, about √length. */
  readonly stride: number;
  /**
   * 'merged': every head sees both parts. 'split': even heads see the last `stride` keys, odd heads those whose distance is a multiple of `stride` (Child 2019, section 4.3, the first of its two
   * ways). Default 'merged'.
   */
  readonly heads?: 'merged' | 'split';
}

/**
 * Strided attention (Child 2019): the last ℓ keys, and every ℓ-th before. Causal; about 2 √length pairs of a query where ℓ is √length. Tiles have to be smaller than ℓ to leave any out.
 * @throws AttentionError `invalid-argument`
 */
export function strided({ stride, heads = 'merged' }: StridedOptions): Pattern {
  const merged = stridedPattern(stride);
  if (heads === 'merged') return patternOf(merged, 'strided');
  const split = mask('stridedHeads', ({ head, queryPosition, keyPosition, uniform }) => {
    const length = uniform('stride', stride, 'i32', [1, 2 ** 30]);
    const distance = queryPosition.sub(keyPosition);
    const isLocal = head.mod(2).eq(0);
    return distance.ge(0).and(isLocal.and(distance.lt(length)).or(isLocal.not().and(distance.mod(length).eq(0))));
  });
  return patternOf(split, 'strided');
}
