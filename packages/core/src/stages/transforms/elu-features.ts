import { elementwise } from './elementwise.ts';
import type { Elementwise } from './transform.ts';

/** elu(x) + 1: x + 1 above 0, e^x below (Katharopoulos 2020, equation 7). Positive features for linear attention. */
export function eluFeatures(): Elementwise {
  return elementwise('eluFeatures', ({ element }) => element.gt(0).select(element.add(1), element.exp()));
}
