import type { DecayAxis, FastWeightStep, RecurrentRule } from '../rule.ts';
import { recurrentRule } from '../rule.ts';

/**
 * G ← G + β k (v − Gᵀk)ᵀ: what stood at the key is replaced in part β (Schlag 2021; Yang 2024). β is the input `writeStrength`.
 * Keys should be unit rows, 0 ≤ β ≤ 2.
 */
export function deltaRule(): RecurrentRule {
  return recurrentRule('delta', deltaSteps(null));
}

/** The delta rule after a decay of the state by one number for each head and token, logDecay [batch | 1, valueHeads | 1, length | 1] (Gated DeltaNet, Yang 2025). */
export function gatedDeltaRule(): RecurrentRule {
  return recurrentRule('gatedDelta', deltaSteps('step'));
}

/** The delta rule after a decay of each channel of the key, logDecay [batch | 1, valueHeads | 1, length | 1, width] (Kimi Delta Attention, Kimi Team 2025). */
export function kdaRule(): RecurrentRule {
  return recurrentRule('kda', deltaSteps('channel'));
}

function deltaSteps(by: DecayAxis | null): readonly FastWeightStep[] {
  return [
    ...(by === null ? [] : [{ step: 'decay' as const, by }]),
    { step: 'recall', by: 'key' },
    { step: 'remove', along: 'key', strength: 'writeStrength' },
    { step: 'write', strength: 'writeStrength' },
    { step: 'read' },
  ];
}
