import type { Declarations } from './expression/declarations.ts';
import { join, printTable, showPiece } from './expression/declarations.ts';
import type { Expression } from './expression/node.ts';
import { readsInput } from './expression/node.ts';
import { print } from './expression/print.ts';
import type { Slot } from './expression/scope.ts';
import { checkExpression, slots } from './expression/scope.ts';
import { AttentionError } from './errors.ts';
import { show } from './show.ts';
import type { Aggregation } from './stages/aggregation/stage.ts';
import { weightedSum } from './stages/aggregation/weighted-sum.ts';
import type { Masking } from './stages/masking/stage.ts';
import { full } from './stages/masking/stage.ts';
import { softmax } from './stages/normalization/softmax.ts';
import type { Normalization } from './stages/normalization/stage.ts';
import { scaledDot } from './stages/scoring/scaled-dot.ts';
import type { Scoring } from './stages/scoring/stage.ts';
import type { RowTransform } from './stages/transforms/transform.ts';

/**
 * One variant of attention, described once: frozen plain data that any backend reads.
 *
 *     output_i = finish( ⊕_j reweigh(normalize(modify(scale · Σ combine(q'_i, k'_j)) over allowed j)) · prepare(v_j) )
 */
export interface AttentionVariant extends Declarations {
  readonly kind: 'attention';
  readonly scoring: Scoring;
  readonly masking: Masking;
  readonly normalization: Normalization;
  readonly aggregation: Aggregation;
  /** The variant as text without the values of its uniforms: equal text, equal kernel. */
  readonly structure: string;
}

export interface AttentionStages {
  /** Default `scaledDot()`. */
  readonly scoring?: Scoring;
  /** Default `full()`. */
  readonly masking?: Masking;
  /** Default `softmax()`. */
  readonly normalization?: Normalization;
  /** Default `weightedSum()`. */
  readonly aggregation?: Aggregation;
}

/**
 * Puts four stages together. Uniforms of the same name in different stages become `name#2`, …; tables of the same name are one table.
 *
 * @throws AttentionError `invalid-variant` (something that is no such stage, tables declared in two ways), `invalid-expression`
 */
export function attention(stages: AttentionStages = {}): AttentionVariant {
  checkGiven(stages);
  const scoring = stages.scoring ?? scaledDot();
  const second = join(scoring, stages.masking ?? full());
  const third = join(second.declarations, stages.normalization ?? softmax());
  const fourth = join(third.declarations, stages.aggregation ?? weightedSum());
  const data = { kind: 'attention' as const, scoring, masking: second.renamed, normalization: third.renamed, aggregation: fourth.renamed, ...fourth.declarations };
  checkStages(data);
  return deepFreeze({ ...data, structure: printStructure(data) });
}

type Stages = Omit<AttentionVariant, 'structure'>;

/** The field by which each stage is known, and who makes one. */
const marks: Readonly<Record<string, readonly [field: string, maker: string]>> = {
  scoring: ['combine', 'scaledDot()'],
  masking: ['allowed', 'causal()'],
  normalization: ['rule', 'softmax()'],
  aggregation: ['reduction', 'weightedSum()'],
};

/** A caller without types may give anything, and a mask under another name would be no mask at all (L20). */
function checkGiven(stages: object | null): void {
  if (typeof stages !== 'object' || stages === null) throw new AttentionError('invalid-variant', `attention got ${show(stages)}.`, `Its stages are ${Object.keys(marks).join(', ')}.`);
  for (const [name, stage] of Object.entries(stages) as [string, unknown][]) {
    const mark = Object.hasOwn(marks, name) ? marks[name] : undefined;
    if (mark === undefined) throw new AttentionError('invalid-variant', `attention got ${show(name)}.`, `Its stages are ${Object.keys(marks).join(', ')}.`);
    if (stage !== undefined && (typeof stage !== 'object' || stage === null || !(mark[0] in stage))) {
      throw new AttentionError('invalid-variant', `attention got ${showPiece(stage)} for ${name}.`, `Pass what a member of that stage returns, such as ${mark[1]}.`);
    }
  }
}

function checkStages(variant: Stages): void {
  const { scoring } = variant;
  const { rule } = variant.normalization;
  for (const transform of [...scoring.queryTransforms, ...scoring.keyTransforms]) {
    for (const expression of expressionsOf(transform)) checkExpression(expression, 'transform', 'f32', variant);
  }
  if (scoring.scale.kind !== 'uniform' && scoring.scale.kind !== 'constant') throw new AttentionError('invalid-variant', `The scale is ${print(scoring.scale)}.`, 'Expected a uniform or a constant.');
  for (const [slot, expression] of pairExpressions(variant)) checkExpression(expression, slot, slot === 'mask' ? 'bool' : 'f32', variant);
  if (rule.kind === 'softmax' && rule.sink !== null) checkRowWide('sink', rule.sink);
  if (rule.kind === 'rowSum') checkRowWide('epsilon', rule.epsilon);
}

/** Every expression of a variant outside of transforms, with the slot where it stands, in the order of the pipeline. */
export function pairExpressions({ scoring, masking, normalization, aggregation }: Pick<AttentionVariant, 'scoring' | 'masking' | 'normalization' | 'aggregation'>): readonly (readonly [Slot, Expression])[] {
  const { rule, reweigh } = normalization;
  return [
    ['combine', scoring.combine],
    ...scoring.modifiers.map(({ expression }) => ['modify', expression] as const),
    ['mask', masking.allowed],
    ['normalize', rule.score],
    ...(rule.kind === 'softmax' && rule.sink !== null ? [['normalize', rule.sink] as const] : []),
    ...(rule.kind === 'rowSum' ? [['normalize', rule.epsilon] as const] : []),
    ['reweigh', reweigh],
    ['prepare', aggregation.prepare],
    ['finish', aggregation.finish],
  ];
}

/** One number for a whole row, which shards apply once at the end: it may follow the head and nothing else. */
function checkRowWide(name: string, expression: Expression): void {
  if (readsInput(expression, ...slots.normalize.filter((input) => input !== 'head'))) throw new AttentionError('invalid-variant', `The ${name} is ${print(expression)}.`, 'It may read the head, tables and uniforms only (L7).');
}

/** The expressions inside a transform. */
export function expressionsOf(transform: RowTransform): readonly Expression[] {
  switch (transform.kind) {
    case 'projection':
      return [];
    case 'norm':
      return [transform.epsilon, transform.gain, transform.shift].filter((expression) => expression !== null);
    case 'rope':
      return [transform.base, transform.magnitude];
    case 'elementwise':
      return [transform.expression];
    case 'featureMap':
      return transform.map.rule === 'cosformer' ? [transform.map.horizon] : [];
  }
}

function printStructure(variant: Stages): string {
  const { scoring, masking, normalization, aggregation } = variant;
  const { rule } = normalization;
  return [
    ...scoring.queryTransforms.map((transform) => `query ← ${printTransform(transform)}`),
    ...scoring.keyTransforms.map((transform) => `key ← ${printTransform(transform)}`),
    `score = ${print(scoring.scale)} · Σ ${print(scoring.combine)}`,
    ...scoring.modifiers.map((modifier) => `score ← ${print(modifier.expression)}`),
    `allowed = ${print(masking.allowed)}`,
    `weight = ${printRule(rule)}`,
    `weight ← ${print(normalization.reweigh)}`,
    `value ← ${print(aggregation.prepare)}`,
    `output = ${aggregation.reduction}`,
    `output ← ${print(aggregation.finish)}`,
    ...Object.entries(variant.uniforms).map(([name, uniform]) => `$${name}: ${uniform.type}`),
    ...Object.entries(variant.tables).map(([name, table]) => `${name}: ${printTable(table)}`),
  ].join('\n');
}

/** A row transform as the structure writes it. */
export function printTransform(transform: RowTransform): string {
  switch (transform.kind) {
    case 'projection':
      return `projection(${transform.table}${transform.perHead ? '[head]' : ''}, bias ${transform.bias ?? 'none'}, width ${transform.width})`;
    case 'norm':
      return `${transform.norm}Norm(${[transform.epsilon, transform.gain, transform.shift].map((part) => (part === null ? 'none' : print(part))).join(', ')})`;
    case 'rope':
      return `rope(${transform.pairing}, width ${transform.width ?? 'all'}, ${transform.frequencies ?? print(transform.base)}, ${print(transform.magnitude)})`;
    case 'elementwise':
      return print(transform.expression);
    case 'featureMap':
      return JSON.stringify(transform.map);
  }
}

function printRule(rule: Normalization['rule']): string {
  switch (rule.kind) {
    case 'softmax':
      return `softmax(${print(rule.score)}, sink ${rule.sink === null ? 'none' : print(rule.sink)})`;
    case 'threshold':
      return `entmax(${print(rule.score)}, ${rule.alpha})`;
    case 'hardMax':
      return `hardMax(${print(rule.score)})`;
    case 'elementwise':
      return print(rule.score);
    case 'rowSum':
      return `rowSum(${print(rule.score)}, ${print(rule.epsilon)})`;
  }
}

function deepFreeze<T extends object>(data: T): T {
  for (const value of Object.values(data)) if (typeof value === 'object' && value !== null) deepFreeze(value as object);
  return Object.freeze(data);
}

/** True when scores are plain products of rows, so that a backend may use a matrix multiply. */
export function isProduct(combine: Expression): boolean {
  if (combine.kind !== 'operation' || combine.operator !== 'mul') return false;
  const names = combine.operands.map((operand) => (operand.kind === 'input' ? operand.name : ''));
  return names.includes('queryElement') && names.includes('keyElement');
}
