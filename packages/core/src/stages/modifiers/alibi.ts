import { requireInteger } from '../arguments.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

export interface AlibiOptions {
  /** Name of the table of slopes [head]; {@link alibiSlopes} makes it. Default 'slopes'. */
  readonly table?: string;
}

/** score − slope_head · |queryPosition − keyPosition| (Press 2022). */
export function alibi(options: AlibiOptions = {}): Modifier {
  return modifier('alibi', ({ score, head, queryPosition, keyPosition, table }) =>
    score.sub(table(options.table ?? 'slopes', ['head']).at(head).mul(queryPosition.sub(keyPosition).abs().toF32())));
}

/**
 * The slopes of the paper: 2^(−8(h+1)/heads) for a power of two; otherwise those of the largest power of two below,
 * then every second slope of twice that power (Press 2022, code released with the paper).
 *
 * @param heads number of query heads
 * @throws AttentionError `invalid-argument`
 */
export function alibiSlopes(heads: number): Float32Array {
  requireInteger('alibiSlopes', 'heads', heads, 1);
  const power = 2 ** Math.floor(Math.log2(heads));
  return Float32Array.from({ length: heads }, (_, head) => (head < power ? 2 ** ((-8 * (head + 1)) / power) : 2 ** ((-4 * (2 * (head - power) + 1)) / power)));
}
