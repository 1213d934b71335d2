import { noDeclarations } from '../../expression/declarations.ts';
import { requireInteger } from '../arguments.ts';
import type { FeatureMap } from './transform.ts';

/**
 * Deterministic parameter-free projection (Schlag 2021): products of relu([x; −x]) with itself rolled by 1 … order. Width 2 · dim · order.
 * @throws AttentionError `invalid-argument` when order is no positive integer
 */
export function dpfp(options: { readonly order?: number } = {}): FeatureMap {
  const { order = 1 } = options;
  requireInteger('dpfp', 'order', order, 1);
  return Object.freeze({ ...noDeclarations, kind: 'featureMap', name: 'dpfp', map: Object.freeze({ rule: 'dpfp', order }) });
}
