import type { RecurrentRule } from '../rule.ts';
import { recurrentRule } from '../rule.ts';

/** G ← G + k vᵀ: linear attention (Katharopoulos 2020, equation 18), the fast weights of Schmidhuber 1992. Never forgets. */
export function additiveRule(): RecurrentRule {
  return recurrentRule('additive', [{ step: 'write', strength: null }, { step: 'read' }]);
}
