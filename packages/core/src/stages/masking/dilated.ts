import { atLeast, given, requireInteger } from '../arguments.ts';
import type { Masking } from './stage.ts';
import { mask } from './stage.ts';

export interface DilatedOptions {
  /** Keys seen, the query's own position included. */
  readonly keys: number;
  /** Positions from one to the next; 1 is a window. */
  readonly dilation: number;
}

/**
 * queryPosition − keyPosition is 0, dilation, 2 · dilation, …, (keys − 1) · dilation (Beltagy 2020, section 3.1). Causal. Uniforms `dilated.keys`, `dilated.dilation`.
 * @throws AttentionError `invalid-argument` when either is no positive integer
 */
export function dilated(options: DilatedOptions): Masking {
  const { keys, dilation } = given(options);
  requireInteger('dilated', 'keys', keys, 1);
  requireInteger('dilated', 'dilation', dilation, 1);
  return mask('dilated', ({ queryPosition, keyPosition, uniform }) => {
    const distance = queryPosition.sub(keyPosition);
    const step = uniform('dilation', dilation, 'i32', atLeast(1));
    const near = distance.ge(0).and(distance.floorDiv(step).lt(uniform('keys', keys, 'i32', atLeast(1))));
    return near.and(distance.mod(step).eq(0));
  });
}
