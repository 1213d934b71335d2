import { elementwise } from './elementwise.ts';
import type { Elementwise } from './transform.ts';

/** e^x for each channel: positive features. */
export function expFeatures(): Elementwise {
  return elementwise('expFeatures', ({ element }) => element.exp());
}
