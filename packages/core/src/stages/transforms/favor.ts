import type { Axis } from '../../expression/declarations.ts';
import { given, requireInteger } from '../arguments.ts';
import type { FeatureMap } from './transform.ts';

export interface FavorOptions {
  /** Number of random features. */
  readonly features: number;
  /** Name of the table [features, dim] of frequencies, the same for queries and keys; `favorFrequencies` of `@heed/core/compute` makes one. Default 'favorFrequencies'. */
  readonly table?: string;
  /** Size of the table's last axis: 'queryDim', 'keyDim', a number or any name. Default 'queryDim'. */
  readonly axis?: Axis;
}

/**
 * Positive random features (Choromanski 2021, lemma 1): e^(ω_l · x̃ − ‖x̃‖²/2) / √features with x̃ = x · dim^(−1/4), so that the expected product of a query's and a
 * key's features is e^(q·k / √dim). The scale that follows is 1. No maximum is subtracted: shards and decoding agree, and long rows may overflow.
 *
 * @throws AttentionError `invalid-argument` when features is no positive integer
 */
export function favor(options: FavorOptions): FeatureMap {
  const { features, table = 'favorFrequencies', axis = 'queryDim' } = given(options);
  requireInteger('favor', 'features', features, 1);
  return Object.freeze({
    kind: 'featureMap',
    name: 'favor',
    map: Object.freeze({ rule: 'favor', table, features }),
    uniforms: Object.freeze({}),
    tables: Object.freeze({ [table]: Object.freeze({ type: 'f32', axes: Object.freeze([features, axis]) }) }),
  });
}
