import { atLeast, requireInteger } from '../arguments.ts';
import type { Masking } from './stage.ts';
import { mask } from './stage.ts';

/**
 * Query and key are in the same chunk of `size` positions: ⌊queryPosition / size⌋ = ⌊keyPosition / size⌋ (Llama 4 2025; `causal()` usually goes with it).
 * `size` is the uniform `chunkedLocal.size`.
 *
 * @throws AttentionError `invalid-argument` when size is no positive integer
 */
export function chunkedLocal(size: number): Masking {
  requireInteger('chunkedLocal', 'size', size, 1);
  return mask('chunkedLocal', ({ queryPosition, keyPosition, uniform }) => {
    const chunk = uniform('size', size, 'i32', atLeast(1));
    return queryPosition.floorDiv(chunk).eq(keyPosition.floorDiv(chunk));
  });
}
