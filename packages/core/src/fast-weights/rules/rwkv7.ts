import type { RecurrentRule } from '../rule.ts';
import { recurrentRule } from '../rule.ts';

/**
 * G ← Diag(exp(logDecay)) G − (η ⊙ κ̂)(Gᵀκ̂)ᵀ + k vᵀ: what is removed was recalled from the state before its decay (RWKV-7, Peng 2025).
 * κ̂ is the input `removalKey` (unit rows), η `removalWeight`, both [batch, valueHeads, length, width]; logDecay is one number for each channel. RWKV-7 reads with scale 1.
 */
export function rwkv7Rule(): RecurrentRule {
  return recurrentRule('rwkv7', [
    { step: 'recall', by: 'removalKey' },
    { step: 'decay', by: 'channel' },
    { step: 'remove', along: 'removalKey', strength: 'removalWeight' },
    { step: 'write', strength: null },
    { step: 'read' },
  ]);
}
