import { tensor, type HostTensor } from '@heed/core';
import type { HeadTables } from './heads.ts';

/** Three small tables as a person types them: a row a line, numbers between spaces or commas. */
export interface TypedTables {
  readonly query: string;
  readonly key: string;
  readonly value: string;
}

/** What is wrong, and where. */
export interface TableProblem {
  readonly table: keyof TypedTables;
  readonly message: string;
}

const maxRows = 128;
const maxWidth = 64;

/** Rows of numbers, or the first thing that is wrong. */
export function parseTable(text: string): { readonly rows: readonly (readonly number[])[] } | { readonly message: string } {
  const lines = text.split('\n').map((line) => line.trim()).filter((line) => line !== '');
  const [first] = lines;
  if (first === undefined) return { message: 'The table is empty: type a row of numbers.' };
  if (lines.length > maxRows) return { message: `${lines.length} rows are more than the ${maxRows} that are drawn.` };
  const rows: (readonly number[])[] = [];
  for (const [index, line] of lines.entries()) {
    const words = line.split(/[\s,;]+/).filter((word) => word !== '');
    const numbers = words.map(Number);
    const bad = words.find((_, at) => !Number.isFinite(numbers[at]));
    if (bad !== undefined) return { message: `Row ${index + 1}: '${bad.slice(0, 20)}' is no finite number.` };
    if (numbers.length > maxWidth) return { message: `Row ${index + 1} has ${numbers.length} numbers; at most ${maxWidth} are read.` };
    if (rows[0] !== undefined && numbers.length !== rows[0].length) return { message: `Row ${index + 1} has ${numbers.length} numbers, row 1 has ${rows[0].length}.` };
    rows.push(numbers);
  }
  return { rows };
}

/** One head from three tables, or everything that is wrong with them. */
export function headFromTables(typed: TypedTables): { readonly heads: HeadTables } | { readonly problems: readonly TableProblem[] } {
  const parsed = { query: parseTable(typed.query), key: parseTable(typed.key), value: parseTable(typed.value) };
  const problems: TableProblem[] = [];
  for (const table of ['query', 'key', 'value'] as const) {
    const one = parsed[table];
    if ('message' in one) problems.push({ table, message: one.message });
  }
  const { query, key, value } = parsed;
  if ('message' in query || 'message' in key || 'message' in value) return { problems };
  if (key.rows[0]?.length !== query.rows[0]?.length) problems.push({ table: 'key', message: `Keys are ${key.rows[0]?.length ?? 0} wide, queries ${query.rows[0]?.length ?? 0}.` });
  if (value.rows.length !== key.rows.length) problems.push({ table: 'value', message: `There are ${value.rows.length} values for ${key.rows.length} keys.` });
  if (problems.length > 0) return { problems };
  return { heads: { names: ['your tables'], query: planeOf(query.rows), key: planeOf(key.rows), value: planeOf(value.rows) } };
}

function planeOf(rows: readonly (readonly number[])[]): HostTensor {
  return tensor(Float32Array.from(rows.flat()), [1, 1, rows.length, rows[0]?.length ?? 0]);
}

/** Tables to begin with: three rows of two numbers. */
export const firstTables: TypedTables = { query: '1 0\n0.5 1\n-1 2', key: '1 0\n0.6 0.8\n0 1', value: '1 -2\n3 0.5\n-1 4' };
