import type { Term } from '../expression/build.ts';
import type { Scope } from '../expression/scope.ts';

/**
 * What n stands for in a formula that depends on the number of keys.
 * position: queryPosition + 1, the keys that a causal query sees, so that prefill and decoding agree; at least 1.
 * keys: the keys of the whole sequence; it changes as a cache grows.
 */
export type LengthMeasure = 'position' | 'keys';

/** n as f32, at least 1. */
export function visibleLength(scope: Pick<Scope<'modify'>, 'queryPosition' | 'keyLength'>, measure: LengthMeasure): Term<'f32'> {
  return (measure === 'keys' ? scope.keyLength : scope.queryPosition.add(1)).max(1).toF32();
}
