import { positive, requirePositive } from '../arguments.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

/**
 * cap · tanh(score / cap) (Gemma 2 2024): keeps |score| < cap. Never after a mask, so it is a modifier (L2).
 * @throws AttentionError `invalid-argument` when cap is not positive
 */
export function softcap(cap: number): Modifier {
  requirePositive('softcap', 'cap', cap);
  return modifier('softcap', ({ score, uniform }) => {
    const limit = uniform('cap', cap, 'f32', positive);
    return limit.mul(score.div(limit).tanh());
  });
}
