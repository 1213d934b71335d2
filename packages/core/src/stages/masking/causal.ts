import type { Masking } from './stage.ts';
import { mask } from './stage.ts';

/** keyPosition ≤ queryPosition (L3): nothing is seen before it is there. */
export function causal(): Masking {
  return mask('causal', ({ queryPosition, keyPosition }) => keyPosition.le(queryPosition));
}
