import { AttentionError } from '../errors.ts';
import { show } from '../show.ts';
import type { ScalarType } from './node.ts';

/** Default of a scalar parameter: a number, or 1/√(width of the rows that are combined), known once dims are. */
export type UniformValue = number | 'inverseSqrtDim';

/** A scalar parameter of a variant: bound at run time, never part of the structure. */
export interface UniformDeclaration {
  readonly type: 'f32' | 'i32';
  readonly value: UniformValue;
  /** Values that make sense, ends included; others are refused with `invalid-uniform`. Default: all. */
  readonly range?: UniformRange;
}

export type UniformRange = readonly [least: number, most: number];

/**
 * What an axis of a table is as long as. A known name is checked against the call and may be 1, which repeats; a number is exact;
 * any other name is free, and the same name means the same size throughout a variant.
 */
export type Axis = KnownAxis | number | (string & Record<never, never>);

/** Axes whose size the call knows. `scoreDim` is the width of the rows that are combined, `edge` the number of edges in the call's list. */
export const knownAxes = ['batch', 'head', 'keyHead', 'queryLength', 'keyLength', 'queryDim', 'keyDim', 'valueDim', 'scoreDim', 'edge'] as const;
export type KnownAxis = (typeof knownAxes)[number];

/** A tensor parameter of a variant. f32 is bound to any float tensor, i32 to i32, i8 or u8, bool to u8 (0 or 1). */
export interface TableDeclaration {
  readonly type: ScalarType;
  readonly axes: readonly Axis[];
  /** Values that make sense, ends included: others are refused with `invalid-table` where the host sees the table. No part of the structure. Default: all. */
  readonly range?: TableRange;
}

/** An end that is a known axis is as large as the axis is in the call. */
export type TableRange = readonly [least: number, most: number | KnownAxis];

/** What a piece of a variant needs bound: every stage, transform and modifier carries its own. */
export interface Declarations {
  readonly uniforms: Readonly<Record<string, UniformDeclaration>>;
  readonly tables: Readonly<Record<string, TableDeclaration>>;
}

export const noDeclarations: Declarations = Object.freeze({ uniforms: Object.freeze({}), tables: Object.freeze({}) });

/** What each piece of a variant is known by, what it is called, and where it goes. */
const pieces: readonly (readonly [field: string, what: string, place: string])[] = [
  ['kind', 'a row transform', 'scoring.transform'],
  ['allowed', 'a mask', 'masking'],
  ['combine', 'a scoring', 'scoring'],
  ['rule', 'a normalization', 'normalization'],
  ['reduction', 'an aggregation', 'aggregation'],
  ['expression', 'a modifier or formula', 'scoring.modify'],
];

/** The field by which a kind of piece is known. */
export type PieceField = 'kind' | 'allowed' | 'expression';

/** What a caller without types gave, in the words of {@link pieces}. */
export function showPiece(given: unknown): string {
  return typeof given !== 'object' || given === null ? show(given) : (pieces.find(([field]) => field in given)?.[1] ?? show(given));
}

/**
 * Joins two pieces. A table that both name is one table and must be declared alike. Uniforms are never shared:
 * the second of two that are named alike is renamed `name#2`, whatever the values, so that structure does not depend on values.
 *
 * @param field what the second must have, where only one kind of piece will do
 * @returns the joined declarations, and the second piece under its new names
 * @throws AttentionError `invalid-variant` for one table declared in two ways, or something that declares nothing
 */
export function join<T extends Declarations>(first: Declarations, second: T, field: PieceField | 'tables' = 'tables'): { readonly declarations: Declarations; readonly renamed: T } {
  // A caller without types may hand over a member instead of what it returns.
  const given: unknown = second;
  if (typeof given !== 'object' || given === null || !('tables' in given)) throw new AttentionError('invalid-variant', `Got ${show(given)} for a piece of a variant.`, 'Pass what a member returns: causal(), not causal.');
  if (!(field in given)) {
    const place = pieces.find(([known]) => known in given)?.[2] ?? 'its own stage';
    throw new AttentionError('invalid-variant', `Got ${showPiece(given)} in the place of ${pieces.find(([known]) => known === field)?.[1] ?? field}.`, `Its place is ${place}.`);
  }
  for (const [name, table] of Object.entries(second.tables)) {
    const known = Object.hasOwn(first.tables, name) ? first.tables[name] : undefined;
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(table)) {
      throw new AttentionError(
        'invalid-variant',
        `Table '${name}' is declared as ${printTable(known)} and as ${printTable(table)}.`,
        "Give one of the two another name with the member's `table` option.",
      );
    }
  }
  const names = new Map<string, string>();
  const taken = new Set([...Object.keys(first.uniforms), ...Object.keys(second.uniforms)]);
  for (const name of Object.keys(second.uniforms)) {
    if (!Object.hasOwn(first.uniforms, name)) continue;
    const base = name.replace(/#\d+$/, '');
    let count = 2;
    while (taken.has(`${base}#${count}`)) count++;
    taken.add(`${base}#${count}`);
    names.set(name, `${base}#${count}`);
  }
  const renamed = names.size === 0 ? second : renameUniforms(second, names);
  return {
    renamed,
    declarations: Object.freeze({ uniforms: Object.freeze({ ...first.uniforms, ...renamed.uniforms }), tables: Object.freeze({ ...first.tables, ...second.tables }) }),
  };
}

/** `f32[head, 32]` */
export function printTable(table: TableDeclaration): string {
  return `${table.type}[${table.axes.join(', ')}]`;
}

/** The same plain data with uniforms called by other names: in uniform nodes, as seeds of random nodes, and where they are declared. */
function renameUniforms<T>(data: T, names: ReadonlyMap<string, string>): T {
  if (typeof data !== 'object' || data === null) return data;
  if (Array.isArray(data)) return Object.freeze(data.map((item: unknown) => renameUniforms(item, names))) as T;
  const copy = Object.create(Object.getPrototypeOf(data) as object | null) as Record<string, unknown>;
  for (const [field, value] of Object.entries(data)) {
    if (field === 'uniforms') copy[field] = Object.freeze(Object.fromEntries(Object.entries(value as Record<string, unknown>).map(([name, declared]) => [names.get(name) ?? name, declared])));
    else copy[field] = renameUniforms(value, names);
  }
  if (copy.kind === 'uniform') copy.name = names.get(String(copy.name)) ?? copy.name;
  if (copy.kind === 'random') copy.seed = names.get(String(copy.seed)) ?? copy.seed;
  return Object.freeze(copy) as T;
}
