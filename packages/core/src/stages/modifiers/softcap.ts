import { AttentionError } from '../../errors.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

/**
 * cap · tanh(score / cap) (Gemma 2 2024): keeps |score| < cap. Never after a mask, so it is a modifier (L2).
 * @throws AttentionError `invalid-argument` when cap is not positive
 */
export function softcap(cap: number): Modifier {
  if (!(cap > 0)) throw new AttentionError('invalid-argument', `softcap got ${cap}.`, 'Expected a positive number.');
  return modifier('softcap', ({ score, uniform }) => {
    const limit = uniform('cap', cap);
    return limit.mul(score.div(limit).tanh());
  });
}
