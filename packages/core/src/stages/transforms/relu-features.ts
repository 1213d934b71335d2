import { elementwise } from './elementwise.ts';
import type { Elementwise } from './transform.ts';

/** max(x, 0), features that are often 0; a row sum over them needs an ε. */
export function reluFeatures(): Elementwise {
  return elementwise('reluFeatures', ({ element }) => element.max(0));
}
