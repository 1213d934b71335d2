import { write } from '../../expression/scope.ts';
import { given, positive, requirePositive } from '../arguments.ts';
import type { FeatureMap } from './transform.ts';

export interface CosformerOptions {
  /** M: positions are less than it, or features become negative; the uniform `cosformer.horizon`. The paper takes the sequence's length, which changes as it grows. */
  readonly horizon: number;
}

/**
 * [relu(x) cos(π p / 2M); relu(x) sin(π p / 2M)] at position p (Qin 2022): the product of two rows falls with their distance.
 * @throws AttentionError `invalid-argument` when the horizon is not positive
 */
export function cosformer(options: CosformerOptions): FeatureMap {
  const { horizon } = given(options);
  requirePositive('cosformer', 'horizon', horizon);
  const { expression, uniforms, tables } = write('transform', 'cosformer', ({ uniform }) => uniform('horizon', horizon, 'f32', positive));
  return Object.freeze({ uniforms, tables, kind: 'featureMap', name: 'cosformer', map: Object.freeze({ rule: 'cosformer', horizon: expression }) });
}
