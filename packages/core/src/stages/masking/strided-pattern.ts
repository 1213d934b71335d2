import { atLeast, requireInteger } from '../arguments.ts';
import type { Masking } from './stage.ts';
import { mask } from './stage.ts';

/**
 * The union of Child's strided heads (Child 2019, section 4.3): the last `stride` keys, and every key whose distance is a multiple of `stride`. Causal; the uniform `stridedPattern.stride`.
 * @throws AttentionError `invalid-argument` when stride is no positive integer
 */
export function stridedPattern(stride: number): Masking {
  requireInteger('stridedPattern', 'stride', stride, 1);
  return mask('stridedPattern', ({ queryPosition, keyPosition, uniform }) => {
    const length = uniform('stride', stride, 'i32', atLeast(1));
    const distance = queryPosition.sub(keyPosition);
    return distance.ge(0).and(distance.lt(length).or(distance.mod(length).eq(0)));
  });
}
