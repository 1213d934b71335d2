import { constant, print, readsInput, rewrite, type AttentionVariant, type Expression, type InputName } from '@heed/core';
import type { HeadTables } from './heads.ts';
import type { Result } from './call.ts';

/** One line of what a pair went through: the stage, its formula, the same with the numbers put in, and what came out. */
export interface Step {
  readonly stage: string;
  readonly formula: string;
  readonly filled: string;
  readonly result: string;
}

/** A pair of one head. */
export interface Pair {
  readonly head: number;
  readonly query: number;
  readonly key: number;
}

/** What happened between a query and a key, from their rows to the weight. */
export function stepsOf(variant: AttentionVariant, tables: HeadTables, result: Result, { head, query, key }: Pair, uniforms: Readonly<Record<string, number>>): readonly Step[] {
  const at = (stage: keyof Result['stages']): number => result.stages[stage][(head * result.queryLength + query) * result.keyLength + key] ?? Number.NaN;
  const { scoring, masking, normalization } = variant;
  const queryDim = tables.query.shape[3] ?? 0;
  const values: Partial<Record<InputName, number>> = { head, keyHead: head, batch: 0, queryIndex: query, keyIndex: key, queryPosition: query, keyPosition: key, queryLength: result.queryLength, keyLength: result.keyLength };
  const numbers = (name: string): number => uniforms[name] ?? (variant.uniforms[name]?.value === 'inverseSqrtDim' ? 1 / Math.sqrt(queryDim) : (variant.uniforms[name]?.value ?? Number.NaN));
  const filled = (expression: Expression, more: Partial<Record<InputName, number>> = {}): string => print(fill(expression, { ...values, ...more }, numbers));
  const modified = scoring.modifiers.map(({ name, expression }) => ({
    stage: name,
    formula: print(expression),
    filled: filled(expression, scoring.modifiers.length === 1 ? { score: at('scores') } : {}),
    result: scoring.modifiers.length === 1 ? shown(at('modified')) : '',
  }));
  return [
    {
      stage: scoring.name,
      formula: `${print(scoring.scale)} · Σ ${print(scoring.combine)}`,
      filled: scoring.queryTransforms.length === 0 ? `${shown(Number(filled(scoring.scale)))} · (${productsOf(tables, head, query, key)})` : `rows are transformed first: ${scoring.queryTransforms.map(({ kind }) => kind).join(', ')}`,
      result: shown(at('scores')),
    },
    ...modified,
    ...(scoring.modifiers.length > 1 ? [{ stage: 'all modifiers', formula: 'one after another', filled: '', result: shown(at('modified')) }] : []),
    { stage: masking.name, formula: print(masking.allowed), filled: filled(masking.allowed), result: at('masked') === -Infinity ? 'not seen' : 'seen' },
    { stage: normalization.name, formula: normalizationText(variant), filled: normalizationFilled(variant, result, { head, query, key }), result: shown(at('weights')) },
  ];
}

/** The expression with inputs and uniforms as numbers. */
function fill(expression: Expression, inputs: Partial<Record<InputName, number>>, uniform: (name: string) => number): Expression {
  return rewrite(expression, (node) => {
    if (node.kind === 'uniform') return constant(rounded(uniform(node.name)), node.type).node;
    const value = node.kind === 'input' ? inputs[node.name] : undefined;
    return value === undefined || !Number.isFinite(value) ? node : constant(node.type === 'i32' ? Math.trunc(value) : rounded(value), node.type).node;
  });
}

function productsOf({ query, key }: HeadTables, head: number, queryRow: number, keyRow: number): string {
  const dim = query.shape[3] ?? 0;
  const read = (source: HeadTables['query'], row: number, channel: number): number => source.view()[(head * (source.shape[2] ?? 0) + row) * (source.shape[3] ?? 0) + channel] ?? 0;
  const terms = Array.from({ length: dim }, (_, channel) => [read(query, queryRow, channel), read(key, keyRow, channel)] as const).filter(([q, k]) => q !== 0 && k !== 0);
  const most = terms.slice(0, 6).map(([q, k]) => `${shown(q)}·${shown(k)}`);
  return terms.length === 0 ? '0' : `${most.join(' + ')}${terms.length > 6 ? ` + ${terms.length - 6} more` : ''}`;
}

function normalizationText({ normalization: { rule } }: AttentionVariant): string {
  switch (rule.kind) {
    case 'softmax':
      return rule.sink === null ? 'eˢ / Σ eˢ over the row' : 'eˢ / (e^sink + Σ eˢ)';
    case 'rowSum':
      return 's / (Σ s + ε)';
    case 'elementwise':
      return readsInput(rule.score, 'score') ? print(rule.score) : 'a constant';
    case 'threshold':
      return `[(α − 1) s − τ]₊ ^ (1 / (α − 1)), τ so that the row sums to one`;
    case 'hardMax':
      return '1 for the largest score, 0 for the rest';
  }
}

function normalizationFilled({ normalization: { rule } }: AttentionVariant, result: Result, { head, query, key }: Pair): string {
  const row = (head * result.queryLength + query) * result.keyLength;
  const masked = result.stages.masked.subarray(row, row + result.keyLength);
  const score = masked[key] ?? Number.NaN;
  if (rule.kind !== 'softmax' || rule.sink !== null) return `s = ${shown(score)}`;
  const sum = masked.reduce((total, each) => total + Math.exp(each), 0);
  return `e^${shown(score)} / ${shown(sum)}`;
}

/** A number with as many digits as help. */
export function shown(value: number): string {
  if (value === -Infinity) return '−∞';
  if (value === Infinity) return '∞';
  if (Number.isNaN(value)) return 'NaN';
  const text = value === 0 ? '0' : Math.abs(value) >= 1000 || Math.abs(value) < 0.001 ? value.toExponential(1) : value.toFixed(3).replace(/\.?0+$/, '');
  return text.replace('-', '−');
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
