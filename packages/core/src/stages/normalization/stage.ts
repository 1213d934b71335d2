import type { Term } from '../../expression/build.ts';
import { input } from '../../expression/build.ts';
import type { Declarations } from '../../expression/declarations.ts';
import { join } from '../../expression/declarations.ts';
import type { Expression } from '../../expression/node.ts';
import { rewrite } from '../../expression/node.ts';
import type { Formula, Scope } from '../../expression/scope.ts';
import { write } from '../../expression/scope.ts';

/** How the scores of one row become weights. `score` is in the slot `normalize` and applies to each allowed score first. */
export type NormalizationRule =
  /** e^t / (Σ e^t + e^sink) with t = score. `sink` reads tables and uniforms by head only; null: none (L7). */
  | { readonly kind: 'softmax'; readonly score: Expression; readonly sink: Expression | null }
  /** [(α − 1)·t − τ]₊^(1/(α−1)) with τ such that the row sums to one; α = 2 is sparsemax. */
  | { readonly kind: 'threshold'; readonly score: Expression; readonly alpha: number }
  /** 1 at the largest t, the lower key index on ties. */
  | { readonly kind: 'hardMax'; readonly score: Expression }
  /** The weight is t itself. */
  | { readonly kind: 'elementwise'; readonly score: Expression }
  /** t / (Σ t + ε). */
  | { readonly kind: 'rowSum'; readonly score: Expression; readonly epsilon: Expression };

/** The fields of a {@link Normalization}. */
export type NormalizationData = Omit<Normalization, 'reweighBy'>;

/** Scores become weights, row by row, over the allowed keys; then `reweigh` changes each weight. Frozen plain data. */
export class Normalization implements Declarations {
  readonly name: string;
  readonly rule: NormalizationRule;
  /** In the slot `reweigh`; reads `weight`. The weight itself unless something was added. */
  readonly reweigh: Expression;
  readonly uniforms: Declarations['uniforms'];
  readonly tables: Declarations['tables'];

  constructor(data: NormalizationData) {
    this.name = data.name;
    this.rule = data.rule;
    this.reweigh = data.reweigh;
    this.uniforms = data.uniforms;
    this.tables = data.tables;
    Object.freeze(this);
  }

  /** Appends a reweighing, which reads the weight as changed so far. */
  reweighBy(reweighing: Formula): Normalization {
    const { declarations, renamed } = join(this, reweighing, 'expression');
    const reweigh = rewrite(renamed.expression, (node) => (node.kind === 'input' && node.name === 'weight' ? this.reweigh : node));
    const { name, rule } = this;
    return new Normalization({ ...declarations, name, rule, reweigh });
  }
}

/**
 * A normalization of the user's own, each weight a function of its own score: no row sum is taken.
 *
 *     const squared = normalization('squared', ({ score }) => score.mul(score));
 *
 * @throws AttentionError `invalid-expression`
 */
export function normalization(name: string, author: (scope: Scope<'normalize'>) => Term<'f32'>): Normalization {
  return normalizeBy(name, write('normalize', name, author), (score) => ({ kind: 'elementwise', score }));
}

/** A normalization by one rule over a formula in the slot `normalize`, with no reweighing. */
export function normalizeBy(name: string, formula: Formula, rule: (score: Expression) => NormalizationRule): Normalization {
  const { uniforms, tables } = formula;
  return new Normalization({ name, rule: rule(formula.expression), reweigh: input('weight').node, uniforms, tables });
}
