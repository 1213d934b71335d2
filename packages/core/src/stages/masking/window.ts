import { atLeast, given, requireInteger } from '../arguments.ts';
import type { Masking } from './stage.ts';
import { full, mask } from './stage.ts';

export interface WindowOptions {
  /** Keys seen before the query's own position, not counting it; `Infinity` opens the side. */
  readonly left: number;
  /** Keys seen after it, not counting it; `Infinity` opens the side. */
  readonly right: number;
}

/**
 * queryPosition − left ≤ keyPosition ≤ queryPosition + right (L4). A window of w keys that counts the query's own is left = w − 1.
 * @throws AttentionError `invalid-argument` for a negative or fractional side
 */
export function window(options: WindowOptions): Masking {
  const { left, right } = given(options);
  if (left !== Infinity) requireInteger('window', 'left', left, 0);
  if (right !== Infinity) requireInteger('window', 'right', right, 0);
  const leftSide = mask('window', ({ queryPosition, keyPosition, uniform }) => queryPosition.sub(keyPosition).le(uniform('left', left === Infinity ? 0 : left, 'i32', atLeast(0))));
  const rightSide = mask('window', ({ queryPosition, keyPosition, uniform }) => keyPosition.sub(queryPosition).le(uniform('right', right === Infinity ? 0 : right, 'i32', atLeast(0))));
  if (left === Infinity) return right === Infinity ? full() : rightSide;
  return right === Infinity ? leftSide : leftSide.and(rightSide);
}
