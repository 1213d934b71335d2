import type { Declarations, UniformValue } from './expression/declarations.ts';
import { join, noDeclarations, printTable } from './expression/declarations.ts';
import type { Expression } from './expression/node.ts';
import { print } from './expression/print.ts';
import { checkExpression, write } from './expression/scope.ts';
import { AttentionError } from './errors.ts';
import type { FastWeightRule, FastWeightStep, GradientRule } from './fast-weights/rule.ts';
import { show } from './show.ts';
import { given } from './stages/arguments.ts';
import type { RowTransform } from './stages/transforms/transform.ts';
import { expressionsOf, printTransform } from './variant.ts';

/**
 * A variant whose memory is a state that the sequence rewrites, not rows of weights. Frozen plain data.
 * Query and key rows pass their transforms first; what happens to each token then is the rule.
 */
export interface FastWeightVariant extends Declarations {
  readonly kind: 'fastWeights';
  readonly rule: FastWeightRule;
  /** Applied to each query row and to each key row, first to last. */
  readonly queryTransforms: readonly RowTransform[];
  readonly keyTransforms: readonly RowTransform[];
  /** Positions that transforms read are taken modulo this; null: as they are. */
  readonly positionPeriod: number | null;
  /** Factor of what a recurrent rule reads: a uniform. Null for other rules. */
  readonly scale: Expression | null;
  /** Row sum of linear attention: what is read is divided by scale · zᵀ query + ε, with z written and decayed as G is, for values of 1. Null: no division. */
  readonly rowSum: { readonly epsilon: Expression } | null;
  /** The variant as text without names and without the values of its uniforms: equal text, equal kernel. */
  readonly structure: string;
}

export interface FastWeightOptions {
  readonly rule: FastWeightRule;
  /** Row transforms of queries and of keys: feature maps, norms, rotary positions. They must make rows of one width. Default: none. */
  readonly transformQuery?: readonly RowTransform[];
  readonly transformKey?: readonly RowTransform[];
  /** Of recurrent rules: the factor of what is read. Default 1/√(width of the rows after their transforms). */
  readonly scale?: UniformValue;
  /** Of recurrent rules that remove nothing: divides by the row sum (Katharopoulos 2020, equation 16), as the normalization `rowSum` does for pairs. `true` is ε = 1e-6, as there. Default false. */
  readonly rowSum?: boolean | { readonly epsilon: number };
  /** Positions that row transforms read are taken modulo this. Default: the mini-batch for TTT-Linear and TTT-MLP, whose rotary positions start again with it; none for the rest. */
  readonly positionPeriod?: number;
}

/**
 * A variant of fast weights from its rule: `fastWeights({ rule: gatedDeltaRule() })`.
 *
 * Linear attention is `fastWeights({ rule: additiveRule(), transformQuery: [map], transformKey: [map], rowSum: { epsilon: 1e-6 } })`; the pairwise variant with the same map, the mask causal() and the
 * normalization rowSum is the other reading of the same function.
 *
 * @throws AttentionError `invalid-variant`, `invalid-argument`, `invalid-uniform`
 */
export function fastWeights(options: FastWeightOptions): FastWeightVariant {
  const { rule, transformQuery = [], transformKey = [], rowSum = false } = given(options);
  const named: unknown = rule;
  if (typeof named !== 'object' || named === null || !('kind' in named)) throw new AttentionError('invalid-variant', `fastWeights got the rule ${show(rule)}.`, 'Pass what a rule returns, such as deltaRule().');
  if (rule.kind !== 'recurrent') refuseOptions(rule.name, { scale: options.scale !== undefined, rowSum: rowSum !== false });
  else if (rowSum !== false && rule.steps.some(({ step }) => step === 'remove')) {
    throw new AttentionError('invalid-variant', `The rule '${rule.name}' removes what it recalls, so its weights have no row sum.`, 'Leave rowSum out.');
  }
  if (typeof rowSum === 'object' && !(rowSum.epsilon >= 0)) throw new AttentionError('invalid-argument', `rowSum got epsilon ${rowSum.epsilon}.`, 'Expected 0 or more.');
  const positionPeriod = options.positionPeriod ?? (rule.kind === 'gradient' && rule.optimizer.kind === 'accumulate' ? rule.miniBatch : null);
  if (positionPeriod !== null && (!Number.isSafeInteger(positionPeriod) || positionPeriod < 1)) {
    throw new AttentionError('invalid-argument', `fastWeights got positionPeriod ${positionPeriod}.`, 'Expected an integer of 1 or more.');
  }
  const scale = rule.kind === 'recurrent' ? write('transform', '', ({ uniform }) => uniform('scale', options.scale ?? 'inverseSqrtDim')) : null;
  const epsilon = rowSum === false ? null : write('transform', 'rowSum', ({ uniform }) => uniform('epsilon', rowSum === true ? 1e-6 : rowSum.epsilon));
  // Each piece keeps its own uniforms; tables of one name are one table.
  let declarations: Declarations = join(join(rule, scale ?? noDeclarations).declarations, epsilon ?? noDeclarations).declarations;
  const add = (transform: RowTransform): RowTransform => {
    const joined = join(declarations, transform);
    declarations = joined.declarations;
    for (const expression of expressionsOf(joined.renamed)) checkExpression(expression, 'transform', 'f32', declarations);
    return joined.renamed;
  };
  const data = {
    kind: 'fastWeights' as const,
    rule,
    queryTransforms: Object.freeze(transformQuery.map(add)),
    keyTransforms: Object.freeze(transformKey.map(add)),
    positionPeriod,
    scale: scale?.expression ?? null,
    rowSum: epsilon === null ? null : Object.freeze({ epsilon: epsilon.expression }),
  };
  const { uniforms, tables } = declarations;
  return Object.freeze({ ...data, uniforms, tables, structure: printStructure({ ...data, uniforms, tables }) });
}

function refuseOptions(rule: string, given: Readonly<Record<string, boolean>>): void {
  for (const [option, isGiven] of Object.entries(given)) {
    if (isGiven) throw new AttentionError('invalid-variant', `The rule '${rule}' has no ${option}.`, `Leave ${option} out; only recurrent rules take it.`);
  }
}

function printStructure(variant: Omit<FastWeightVariant, 'structure'>): string {
  const { rule, scale, rowSum, positionPeriod } = variant;
  return [
    ...variant.queryTransforms.map((transform) => `query ← ${printTransform(transform)}`),
    ...variant.keyTransforms.map((transform) => `key ← ${printTransform(transform)}`),
    ...(positionPeriod === null ? [] : [`position ← position mod ${positionPeriod}`]),
    ...printRule(rule),
    ...(scale === null ? [] : [`scale = ${print(scale)}`]),
    ...(rowSum === null ? [] : [`output ← output / (scale · zᵀ query + ${print(rowSum.epsilon)})`]),
    ...Object.entries(variant.uniforms).map(([name, uniform]) => `$${name}: ${uniform.type}`),
    ...Object.entries(variant.tables).map(([name, table]) => `${name}: ${printTable(table)}`),
  ].join('\n');
}

function printRule(rule: FastWeightRule): readonly string[] {
  switch (rule.kind) {
    case 'recurrent':
      return rule.steps.map(printStep);
    case 'gradient':
      return printGradientRule(rule);
    case 'chunk': {
      const target = `${rule.taps === null ? 'value' : `convolution(value, ${rule.taps} taps)`}${rule.projection ? ' · projection' : ''}`;
      return [`in chunks of ${rule.chunk}: output = Gᵀ query`, `then G ← G + ${print(rule.rate)} · Σ key (${target})ᵀ`];
    }
  }
}

function printStep(step: FastWeightStep): string {
  switch (step.step) {
    case 'decay':
      return `G ← exp(logDecay by ${step.by}) ⊙ G`;
    case 'recall':
      return `r ← Gᵀ ${step.by}`;
    case 'remove':
      return `G ← G − (${step.strength === null ? '' : `${step.strength} ⊙ `}${step.along}) rᵀ`;
    case 'write':
      return `G ← G + ${step.strength === null ? '' : `${step.strength} · `}key valueᵀ`;
    case 'read':
      return 'output = scale · Gᵀ query';
  }
}

function printGradientRule(rule: GradientRule): readonly string[] {
  const { model, norm, optimizer } = rule;
  const bias = model.bias ? ' + b' : '';
  const f = model.layers === 1 ? `x·W${bias}` : `${model.activation ?? ''}(x·W1${bias})·W2${bias}, ${model.expansion} times as wide inside`;
  const normed = norm === null ? 'f' : `layerNorm(f, ${print(norm.epsilon)})`;
  return [
    `f(x) = ${f}`,
    `loss = ½‖${normed}(key) − ${rule.target === 'value' ? 'value' : '(value − key)'}‖², gradients at the start of mini-batches of ${rule.miniBatch}`,
    optimizer.kind === 'momentum'
      ? 'S ← momentum · S − writeStrength · ∇; W ← exp(logDecay) · W + S'
      : `W = start − ${print(optimizer.rate)} / width · max(1/i${optimizer.tokenRate === null ? '' : ` + ${optimizer.tokenRate}`}, 0) · Σ writeStrength · ∇`,
    `output = ${rule.residual ? 'query + ' : ''}${normed}(query)`,
  ];
}
