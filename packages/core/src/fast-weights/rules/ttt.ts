import { AttentionError } from '../../errors.ts';
import type { TableDeclaration } from '../../expression/declarations.ts';
import { join, noDeclarations } from '../../expression/declarations.ts';
import { write } from '../../expression/scope.ts';
import type { GradientRule, InnerModel } from '../rule.ts';
import { modelTables } from '../inner-model.ts';

export interface TttOptions {
  /** Tokens whose gradients are taken at the same weights. Default 16, the paper's. */
  readonly miniBatch?: number;
  /** Inner learning rate before the division by the width. Default 1 (linear), 0.1 (mlp). */
  readonly learningRate?: number;
  /** Adds the table `tokenRate` [miniBatch] to 1/i, the rate of the i-th token of a mini-batch. Default false. */
  readonly tokenRate?: boolean;
  /** ε of the layer norm. Default 1e-6. */
  readonly epsilon?: number;
}

/**
 * TTT-Linear (Sun 2024, section 2.7): a linear model with bias learns norm(k·W + b) = v − k by one gradient step for each mini-batch; output = q + norm(q·Wᵢ + bᵢ).
 *
 * Needs valueDim = width. Input `writeStrength` [batch, valueHeads, length]: σ(x·w + c), the gate of each token's learning rate.
 * Tables `weight`, `bias` (the weights before the first token), `normGain`, `normShift`: see InnerModel and InnerNorm. State: see `stateShapes`.
 *
 * @throws AttentionError `invalid-argument`
 */
export function tttLinearRule(options: TttOptions = {}): GradientRule {
  return tttRule('tttLinear', { layers: 1, bias: true, activation: null, expansion: 0 }, 1, options);
}

/** TTT-MLP (Sun 2024, section 2.7): as {@link tttLinearRule} with two layers, four times as wide inside, and tanh-GELU. Tables `weight1`, `bias1`, `weight2`, `bias2`, `normGain`, `normShift`. */
export function tttMlpRule(options: TttOptions = {}): GradientRule {
  return tttRule('tttMlp', { layers: 2, bias: true, activation: 'geluTanh', expansion: 4 }, 0.1, options);
}

function tttRule(name: string, model: InnerModel, defaultRate: number, options: TttOptions): GradientRule {
  const { miniBatch = 16, learningRate = defaultRate, tokenRate = false, epsilon = 1e-6 } = options;
  checkMiniBatch(name, miniBatch);
  const rate = write('transform', name, ({ uniform }) => uniform('learningRate', learningRate));
  const norm = write('transform', name, ({ uniform }) => uniform('epsilon', epsilon));
  const tables: Record<string, TableDeclaration> = {
    ...modelTables(model),
    normGain: { type: 'f32', axes: ['valueHead', 'valueDim'] },
    normShift: { type: 'f32', axes: ['valueHead', 'valueDim'] },
  };
  if (tokenRate) tables.tokenRate = { type: 'f32', axes: [miniBatch] };
  return Object.freeze({
    kind: 'gradient',
    name,
    model: Object.freeze(model),
    target: 'valueMinusKey',
    norm: Object.freeze({ epsilon: norm.expression }),
    miniBatch,
    optimizer: Object.freeze({ kind: 'accumulate', rate: rate.expression, tokenRate: tokenRate ? 'tokenRate' : null }),
    residual: true,
    ...join(join(rate, norm).declarations, { ...noDeclarations, tables }).declarations,
  });
}

/** @throws AttentionError `invalid-argument` */
export function checkMiniBatch(name: string, miniBatch: number): void {
  if (!Number.isSafeInteger(miniBatch) || miniBatch < 1) throw new AttentionError('invalid-argument', `${name} got a mini-batch of ${miniBatch} tokens.`, 'Expected an integer of 1 or more.');
}
