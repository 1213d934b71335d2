import { AttentionError } from '../../errors.ts';
import type { Activation, GradientRule, InnerModel } from '../rule.ts';
import { modelTables } from '../inner-model.ts';
import { checkMiniBatch } from './ttt.ts';

export interface TitansOptions {
  /** linear: M(k) = k·W. mlp: M(k) = activation(k·W₁)·W₂. Default 'linear'. */
  readonly memory?: 'linear' | 'mlp';
  /** Hidden width of an mlp over the width of its input. Default 4. */
  readonly expansion?: number;
  /** Of an mlp. Default 'geluTanh'. */
  readonly activation?: Activation;
  /** Tokens whose gradients are taken at the same weights. Default 1: at the current weights. */
  readonly miniBatch?: number;
}

/**
 * Titans' neural memory (Behrouz 2025, section 3.1): S ← momentum·S − θ∇ℓ(M; k, v), M ← (1 − α)M + S, output = M(q) without a further update.
 *
 * The loss here is ½‖M(k) − v‖², the paper's is ‖M(k) − v‖²: θ absorbs its factor 2, so θ here is twice the paper's.
 * Inputs, each [batch, valueHeads, length] or with axes of 1 that repeat for logDecay: `writeStrength` θ, `momentum` η, `logDecay` ln(1 − α).
 * Tables `weight`, or `weight1` and `weight2`: the memory before the first token (see InnerModel). State: see `stateShapes`.
 *
 * @throws AttentionError `invalid-argument`
 */
export function titansRule(options: TitansOptions = {}): GradientRule {
  const { memory = 'linear', expansion = 4, activation = 'geluTanh', miniBatch = 1 } = options;
  checkMiniBatch('titans', miniBatch);
  if (!['linear', 'mlp'].includes(memory)) throw new AttentionError('invalid-argument', `titansRule got memory = ${memory}.`, "Expected 'linear' or 'mlp'.");
  if (!Number.isSafeInteger(expansion) || expansion < 1) throw new AttentionError('invalid-argument', `titansRule got expansion ${expansion}.`, 'Expected an integer of 1 or more.');
  if (!['geluTanh', 'silu'].includes(activation)) throw new AttentionError('invalid-argument', `titansRule got activation ${activation}.`, "Expected 'geluTanh' or 'silu'.");
  const model: InnerModel = memory === 'linear' ? { layers: 1, bias: false, activation: null, expansion: 0 } : { layers: 2, bias: false, activation, expansion };
  return Object.freeze({
    kind: 'gradient',
    name: 'titans',
    model: Object.freeze(model),
    target: 'value',
    norm: null,
    miniBatch,
    optimizer: Object.freeze({ kind: 'momentum' }),
    residual: false,
    uniforms: Object.freeze({}),
    tables: modelTables(model),
  });
}
