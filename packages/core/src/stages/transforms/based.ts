import { noDeclarations } from '../../expression/declarations.ts';
import type { FeatureMap } from './transform.ts';

/**
 * Features whose product is 1 + s + s²/2 with s = q·k / √dim: the exponential's Taylor polynomial (Arora 2024). Width 1 + dim + dim (dim + 1) / 2, so
 * for narrow rows (16). The scale that follows is 1.
 */
export function based(): FeatureMap {
  return Object.freeze({ ...noDeclarations, kind: 'featureMap', name: 'based', map: Object.freeze({ rule: 'based' }) });
}
