/**
 * Test-time training as matrix products (the dual form of Sun 2024, section 2.5): all tokens of a piece of a mini-batch at once, from gradients that are taken at the same weights.
 *
 *     Wᵢ = αᵢ W + βᵢ A − Σ_{j ≤ i} cᵢⱼ ∇ⱼ          ∇ⱼ = xⱼᵀ uⱼ, xⱼ what the layer read of key j, uⱼ the gradient of what it gave
 *     yᵢ Wᵢ = αᵢ yᵢ W + βᵢ yᵢ A − Σ_{j ≤ i} cᵢⱼ (yᵢ · xⱼ) uⱼ
 *
 * W are the weights before the piece, A what the optimizer carries beside them: the sum of gradients of the mini-batch so far, or the momentum. A bias is a row of its weight that meets a channel of ones.
 */
import type { Expression, FastWeightRequest, GradientRule } from '@heed/core';
import { hiddenDimOf, parametersOf, widthOf } from '@heed/core/compute';
import { activations } from './activation.ts';
import { Layout, type Matrix } from './layout.ts';

/** A number of rows, columns or products: known, or the tokens of the piece. */
export type Count = number | 'tokens';

/**
 * One step over matrices of a lane, in order. `scalars` hold the factors of the piece's last token: α, β, and the product of the momenta.
 *
 *     product    to ← [±] left · right,  left · rightᵀ times `times` elementwise, or leftᵀ · right
 *     scaleRows  to[i] ← by[i] · from[i]
 *     map        to ← f(from), or to ⊙ f(from)
 *     error      to ← gradient of ½‖norm(prediction) − target‖² by the prediction
 *     combine    to ← keep · to + add · from
 *     append     the piece's rows behind those of the batch so far
 *     convolve   to[t][c] ← rate · Σ_n taps[n][c] · from[t + n − centre][c], zeros outside the batch; without taps to ← rate · from
 */
export type TrainingStep =
  | { readonly step: 'product'; readonly form: 'plain' | 'rightTransposed' | 'leftTransposed'; readonly to: Matrix; readonly left: Matrix; readonly right: Matrix; readonly rows: Count; readonly columns: Count; readonly depth: Count; readonly effect: 'set' | 'add' | 'subtract'; readonly times?: Matrix }
  | { readonly step: 'scaleRows'; readonly to: Matrix; readonly from: Matrix; readonly by: Matrix }
  | { readonly step: 'map'; readonly to: Matrix; readonly from: Matrix; readonly expression: Expression; readonly effect: 'set' | 'multiply' }
  | { readonly step: 'error'; readonly to: Matrix; readonly prediction: Matrix; readonly target: Matrix }
  | { readonly step: 'rates' }
  | { readonly step: 'finish'; readonly from: Matrix }
  | { readonly step: 'combine'; readonly to: Matrix; readonly keep: ScalarName | 1; readonly add: ScalarName | 1; readonly from: Matrix }
  | { readonly step: 'scale'; readonly to: Matrix; readonly by: ScalarName }
  | { readonly step: 'append'; readonly to: Matrix; readonly from: Matrix }
  | { readonly step: 'convolve'; readonly to: Matrix; readonly from: Matrix; readonly taps: Matrix | null }
  | { readonly step: 'clear'; readonly to: Matrix }
  | { readonly step: 'copy'; readonly to: Matrix; readonly from: Matrix }
  | { readonly step: 'when'; readonly condition: 'batchBegan' | 'batchEnds'; readonly steps: readonly TrainingStep[] };

export const scalarNames = ['alpha', 'beta', 'momentum'] as const;
export type ScalarName = (typeof scalarNames)[number];

/** Numbers of a table: its axes along the rows and columns of a matrix. */
export interface TableSource {
  readonly table: string;
  /** Axis 0 is the value head. */
  readonly perHead: boolean;
  /** Null: one row. */
  readonly rowAxis: number | null;
  readonly columnAxis: number;
}

/** A table that stands in a lane's memory for the whole call. */
export interface TablePart {
  readonly source: TableSource;
  readonly matrix: Matrix;
}

/** Where a tensor of the state stands in a lane's memory: rows `row` … of a matrix. */
export interface StatePart {
  readonly state: string;
  /** Which head's it is: a value head's own, or of the query and key head that several value heads read. */
  readonly of: 'valueHead' | 'head';
  /** The table that it begins with; null: zeros. */
  readonly source: TableSource | null;
  readonly matrix: Matrix;
  readonly row: number;
  readonly rows: number;
  readonly columns: number;
}

/** Rates of the tokens of a piece: αᵢ, βᵢ; factors of gradients in the weights and in what is carried after the piece, [1, block] each; cᵢⱼ, [block, block]. */
export interface RateMatrices {
  readonly optimizer: 'accumulate' | 'momentum';
  readonly alpha: Matrix;
  readonly beta: Matrix;
  readonly last: Matrix;
  readonly next: Matrix;
  readonly coefficients: Matrix;
  readonly scalars: Matrix;
  readonly tokenRate: Matrix | null;
}

/** Everything that code for a rule depends on. Plain data. */
export interface TrainingPlan {
  readonly name: string;
  /** In sentences. */
  readonly description: readonly string[];
  readonly width: number;
  readonly valueDim: number;
  /** Tokens of a mini-batch, or of a chunk: no piece crosses its end. */
  readonly batch: number;
  /** Tokens of one piece at most. */
  readonly block: number;
  /** Rows of the piece, [block, width (+ 1)] and [block, valueDim]. */
  readonly key: Matrix;
  readonly query: Matrix;
  readonly target: Matrix;
  readonly output: Matrix;
  /** Targets are value − key. */
  readonly subtractsKey: boolean;
  /** The query is added to what was read. */
  readonly residual: boolean;
  /** Null where weights change by whole chunks. */
  readonly rates: RateMatrices | null;
  readonly gain: Matrix | null;
  readonly shift: Matrix | null;
  /** Step size, divided by `rateDivisor`; ε of the norm. Uniforms or constants. */
  readonly rate: Expression | null;
  readonly rateDivisor: number;
  readonly epsilon: Expression | null;
  readonly tables: readonly TablePart[];
  readonly state: readonly StatePart[];
  readonly steps: readonly TrainingStep[];
  /** Numbers of a lane's memory. */
  readonly size: number;
}

/** Tokens of a piece at most. */
export const largestBlock = 32;

/** The plan of a gradient rule. */
export function trainingPlan(request: FastWeightRequest, rule: GradientRule): TrainingPlan {
  const width = widthOf(request);
  const { valueDim } = request;
  const { model, optimizer, miniBatch } = rule;
  const block = Math.min(miniBatch, largestBlock);
  const ones = model.bias ? 1 : 0;
  const layout = new Layout();
  const tokens = (name: string, columns: number): Matrix => layout.matrix(name, block, columns);
  const [key, query, target, output] = [tokens('key', width + ones), tokens('query', width + ones), tokens('target', valueDim), tokens('output', valueDim)];
  const [alpha, beta, last, next] = [layout.matrix('alpha', 1, block), layout.matrix('beta', 1, block), layout.matrix('last', 1, block), layout.matrix('next', 1, block)];
  const coefficients = tokens('coefficients', block);
  const scores = tokens('scores', block);
  const scalars = layout.matrix('scalars', 1, scalarNames.length);
  const dims = model.layers === 1 ? [width, valueDim] : [width, hiddenDimOf(request), valueDim];
  const layers = dims.slice(1).map((columns, index) => layerOf(layout, rule, { suffix: model.layers === 1 ? '' : String(index + 1), rows: (dims[index] ?? 0) + ones, columns, block }));
  const scaled = layout.shared('scaled', block, layers.flatMap(({ weight }) => [weight.rows, weight.columns]));
  const parts: Parts = { layers, key, query, target, output, alpha, beta, last, next, coefficients, scores, scaled };
  const [gain, shift] = rule.norm === null ? [null, null] : [layout.matrix('gain', 1, valueDim), layout.matrix('shift', 1, valueDim)];
  const tokenRate = optimizer.kind === 'accumulate' && optimizer.tokenRate !== null ? { table: optimizer.tokenRate, matrix: layout.matrix('tokenRate', 1, miniBatch) } : null;
  const row = (table: string, perHead: boolean): TableSource => ({ table, perHead, rowAxis: null, columnAxis: perHead ? 1 : 0 });
  return {
    name: rule.name,
    description: [
      `the rule '${rule.name}' trains a ${model.layers === 1 ? 'linear' : 'two-layer'} model from ${width} to ${valueDim} channels while the sequence passes`,
      `in its dual form: pieces of at most ${block} tokens of each mini-batch of ${miniBatch} as matrix products, ${optimizer.kind === 'momentum' ? 'momentum and decay' : 'the sum of gradients'} carried beside the weights`,
    ],
    width, valueDim, batch: miniBatch, block, key, query, target, output,
    subtractsKey: rule.target === 'valueMinusKey',
    residual: rule.residual,
    rates: { optimizer: optimizer.kind, alpha, beta, last, next, coefficients, scalars, tokenRate: tokenRate?.matrix ?? null },
    gain, shift,
    rate: optimizer.kind === 'accumulate' ? optimizer.rate : null,
    rateDivisor: width,
    epsilon: rule.norm?.epsilon ?? null,
    tables: [
      ...(gain === null ? [] : [{ source: row('normGain', true), matrix: gain }, { source: row('normShift', true), matrix: shift }]),
      ...(tokenRate === null ? [] : [{ source: row(tokenRate.table, false), matrix: tokenRate.matrix }]),
    ],
    state: layers.flatMap((layer) => statePartsOf(rule, layer)),
    steps: stepsOf(rule, parts),
    size: layout.size,
  };
}

/** One layer: its weights (a bias as the last row), and what its keys and queries gave. */
interface Layer {
  readonly suffix: string;
  readonly weight: Matrix;
  /** Sum of gradients of the mini-batch so far, or momentum. */
  readonly carried: Matrix;
  /** Weights that the mini-batch began with; `weight` itself where they are the same. */
  readonly start: Matrix;
  /** What the layer gave for keys, and the gradient by it. */
  readonly given: Matrix;
  readonly gradient: Matrix;
  /** What it gave for queries. */
  readonly read: Matrix;
  /** What it gave, activated, as the next layer reads it: keys, and queries. */
  readonly keyInput: Matrix;
  readonly queryInput: Matrix;
}

function layerOf(layout: Layout, rule: GradientRule, { suffix, rows, columns, block }: { readonly suffix: string; readonly rows: number; readonly columns: number; readonly block: number }): Layer {
  const weight = layout.matrix(`weight${suffix}`, rows, columns);
  const ones = rule.model.bias ? 1 : 0;
  return {
    suffix,
    weight,
    carried: layout.matrix(`carried${suffix}`, rows, columns),
    start: rule.optimizer.kind === 'momentum' && rule.miniBatch > 1 ? layout.matrix(`start${suffix}`, rows, columns) : weight,
    given: layout.matrix(`given${suffix}`, block, columns),
    gradient: layout.matrix(`gradient${suffix}`, block, columns),
    read: layout.matrix(`read${suffix}`, block, columns),
    keyInput: layout.matrix(`activeKey${suffix}`, block, columns + ones),
    queryInput: layout.matrix(`activeQuery${suffix}`, block, columns + ones),
  };
}

function statePartsOf(rule: GradientRule, { suffix, weight, carried, start }: Layer): readonly StatePart[] {
  const kinds: readonly (readonly [suffix: string, matrix: Matrix, begins: boolean])[] =
    rule.optimizer.kind === 'momentum'
      ? [['', weight, true], ['Momentum', carried, false], ...(rule.miniBatch > 1 ? [['Start', start, true] as const] : [])]
      : [['', weight, true], ...(rule.miniBatch > 1 ? [['Gradient', carried, false] as const] : [])];
  const named = parametersOf(rule.model).filter(({ name }) => name === `weight${suffix}` || name === `bias${suffix}`);
  return named.flatMap(({ name }) => {
    const isBias = name.startsWith('bias');
    const rows = weight.rows - (rule.model.bias ? 1 : 0);
    const source: TableSource = { table: name, perHead: true, rowAxis: isBias ? null : 1, columnAxis: isBias ? 1 : 2 };
    return kinds.map(([kind, matrix, begins]) => ({ state: name + kind, of: 'valueHead' as const, source: begins ? source : null, matrix, row: isBias ? rows : 0, rows: isBias ? 1 : rows, columns: matrix.columns }));
  });
}

interface Parts extends Pick<TrainingPlan, 'key' | 'query' | 'target' | 'output'>, Pick<RateMatrices, 'alpha' | 'beta' | 'last' | 'next' | 'coefficients'> {
  readonly layers: readonly Layer[];
  readonly scores: Matrix;
  /** Memory for rows of any layer, times a factor each. */
  readonly scaled: (columns: number) => Matrix;
}

function stepsOf(rule: GradientRule, parts: Parts): readonly TrainingStep[] {
  return [...gradientSteps(rule, parts), { step: 'rates' }, ...readSteps(rule, parts), ...updateSteps(rule, parts)];
}

/** Forward over the keys at the weights of the mini-batch's start, and back to each layer's u. */
function gradientSteps({ model }: GradientRule, { layers, key, target }: Parts): readonly TrainingStep[] {
  const steps: TrainingStep[] = [];
  let input = key;
  layers.forEach((layer, index) => {
    steps.push({ step: 'product', form: 'plain', to: layer.given, left: input, right: layer.start, rows: 'tokens', columns: layer.start.columns, depth: layer.start.rows, effect: 'set' });
    if (index === layers.length - 1) steps.push({ step: 'error', to: layer.gradient, prediction: layer.given, target });
    else steps.push({ step: 'map', to: layer.keyInput, from: layer.given, expression: activations[model.activation ?? 'silu'].value, effect: 'set' });
    input = layer.keyInput;
  });
  const [first, second] = layers;
  if (first !== undefined && second !== undefined) {
    steps.push({ step: 'product', form: 'rightTransposed', to: first.gradient, left: second.gradient, right: second.start, rows: 'tokens', columns: first.gradient.columns, depth: second.gradient.columns, effect: 'set' });
    steps.push({ step: 'map', to: first.gradient, from: first.given, expression: activations[model.activation ?? 'silu'].slope, effect: 'multiply' });
  }
  return steps;
}

/** Forward over the queries, each at its own weights. */
function readSteps({ model, optimizer }: GradientRule, { layers, key, query, alpha, beta, coefficients, scores, scaled }: Parts): readonly TrainingStep[] {
  const steps: TrainingStep[] = [];
  let [keys, queries] = [key, query];
  for (const layer of layers) {
    const { rows, columns } = layer.weight;
    const weighted = scaled(rows);
    const throughWeights = (left: Matrix, right: Matrix, effect: 'set' | 'add'): TrainingStep => ({ step: 'product', form: 'plain', to: layer.read, left, right, rows: 'tokens', columns, depth: rows, effect });
    if (optimizer.kind === 'momentum') steps.push({ step: 'scaleRows', to: weighted, from: queries, by: alpha });
    steps.push(throughWeights(optimizer.kind === 'momentum' ? weighted : queries, layer.weight, 'set'));
    const throughCarried: readonly TrainingStep[] = [{ step: 'scaleRows', to: weighted, from: queries, by: beta }, throughWeights(weighted, layer.carried, 'add')];
    // A sum of gradients that is still empty adds nothing.
    steps.push(...(optimizer.kind === 'momentum' ? throughCarried : [{ step: 'when', condition: 'batchBegan', steps: throughCarried } as const]));
    steps.push({ step: 'product', form: 'rightTransposed', to: scores, left: queries, right: keys, rows: 'tokens', columns: 'tokens', depth: rows, effect: 'set', times: coefficients });
    steps.push({ step: 'product', form: 'plain', to: layer.read, left: scores, right: layer.gradient, rows: 'tokens', columns, depth: 'tokens', effect: 'subtract' });
    const isLast = layer === layers.at(-1);
    steps.push(isLast ? { step: 'finish', from: layer.read } : { step: 'map', to: layer.queryInput, from: layer.read, expression: activations[model.activation ?? 'silu'].value, effect: 'set' });
    [keys, queries] = [layer.keyInput, layer.queryInput];
  }
  return steps;
}

/** The weights after the piece, and what is carried beside them. */
function updateSteps({ optimizer, miniBatch }: GradientRule, { layers, key, last, next, scaled }: Parts): readonly TrainingStep[] {
  let keys = key;
  return layers.flatMap((layer): readonly TrainingStep[] => {
    const { weight, carried, start, gradient } = layer;
    const weighted = scaled(gradient.columns);
    const left = keys;
    keys = layer.keyInput;
    const gather = (to: Matrix, by: Matrix, effect: 'add' | 'subtract'): readonly TrainingStep[] => [
      { step: 'scaleRows', to: weighted, from: gradient, by },
      { step: 'product', form: 'leftTransposed', to, left, right: weighted, rows: weight.rows, columns: weight.columns, depth: 'tokens', effect },
    ];
    if (optimizer.kind === 'accumulate') {
      return [
        ...gather(carried, next, 'add'),
        { step: 'when', condition: 'batchEnds', steps: [{ step: 'combine', to: weight, keep: 1, add: 'beta', from: carried }, { step: 'clear', to: carried }] },
      ];
    }
    return [
      { step: 'combine', to: weight, keep: 'alpha', add: 'beta', from: carried },
      ...gather(weight, last, 'subtract'),
      { step: 'scale', to: carried, by: 'momentum' },
      ...gather(carried, next, 'subtract'),
      ...(miniBatch > 1 ? [{ step: 'when', condition: 'batchEnds', steps: [{ step: 'copy', to: start, from: weight }] } as const] : []),
    ];
  });
}

/** Multiplications of one token. */
export function productsOf({ steps, block }: Pick<TrainingPlan, 'steps' | 'block'>): number {
  const of = (count: Count): number => (count === 'tokens' ? block : count);
  return steps.reduce((sum, step) => sum + (step.step === 'product' ? of(step.rows) * of(step.columns) * of(step.depth) : step.step === 'when' ? productsOf({ steps: step.steps, block }) * block : 0), 0) / block;
}
