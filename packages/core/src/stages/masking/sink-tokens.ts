import { atLeast, requireInteger } from '../arguments.ts';
import type { Masking } from './stage.ts';
import { mask } from './stage.ts';

/**
 * Keys at positions below `count`, the uniform `sinkTokens.count`. Streaming with attention sinks is `causal().and(window({ left, right: 0 }).or(sinkTokens(4)))` (Xiao 2023).
 * @throws AttentionError `invalid-argument` when count is negative or no integer
 */
export function sinkTokens(count: number): Masking {
  requireInteger('sinkTokens', 'count', count, 0);
  return mask('sinkTokens', ({ keyPosition, uniform }) => keyPosition.lt(uniform('count', count, 'i32', atLeast(0))));
}
