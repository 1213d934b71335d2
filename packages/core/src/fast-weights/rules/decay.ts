import { AttentionError } from '../../errors.ts';
import { given } from '../../stages/arguments.ts';
import type { DecayAxis, RecurrentRule } from '../rule.ts';
import { recurrentRule } from '../rule.ts';

export interface DecayOptions {
  /**
   * head: one constant for each head, logDecay [batch | 1, valueHeads | 1, 1] (RetNet, Sun 2023).
   * step: one number for each head and token, logDecay [batch | 1, valueHeads | 1, length | 1] (Mamba-2, Dao 2024).
   * channel: one for each channel of the key besides, logDecay [batch | 1, valueHeads | 1, length | 1, width] (GLA, Yang 2023).
   */
  readonly by: DecayAxis;
  /** Whether writes are multiplied by `writeStrength` (Mamba-2's Δ). Default false. */
  readonly strength?: boolean;
}

/**
 * G ← exp(logDecay) ⊙ G + k vᵀ: decay, write, read.
 * Mamba-2 is `{ by: 'step', strength: true }` with logDecay = Δ·A, writeStrength = Δ, key = B, query = C and scale 1.
 *
 * @throws AttentionError `invalid-argument`
 */
export function decayRule(options: DecayOptions): RecurrentRule {
  const { by, strength = false } = given(options);
  if (!['head', 'step', 'channel'].includes(by)) throw new AttentionError('invalid-argument', `decayRule got by = ${by}.`, "Expected 'head', 'step' or 'channel'.");
  return recurrentRule('decay', [{ step: 'decay', by }, { step: 'write', strength: strength ? 'writeStrength' : null }, { step: 'read' }]);
}

/** RetNet's log decay of each head: ln(1 − 2^(−5 − head)) (Sun 2023). Bind it as a tensor [1, heads, 1]. */
export function retentionLogDecay(heads: number): readonly number[] {
  if (!Number.isSafeInteger(heads) || heads < 1) throw new AttentionError('invalid-argument', `retentionLogDecay got ${heads} heads.`, 'Expected an integer of 1 or more.');
  return Array.from({ length: heads }, (_, head) => Math.log1p(-(2 ** (-5 - head))));
}
