import type { FastWeightInputs } from '../../src/index.ts';
import type { Table } from './helpers.ts';
import { combine, headOf, identity, multiply, transpose } from './helpers.ts';

/** One chunk of one head: rows of keys, queries, values, log decays (one number or one for each channel) and write strengths. */
export interface Chunk {
  readonly query: Table;
  readonly key: Table;
  readonly value: Table;
  readonly logDecay: Table;
  readonly strength: readonly number[];
}

/** G_out = M · G_in + N. */
export interface SegmentMap {
  readonly m: Table;
  readonly n: Table;
}

/** What a chunk does to any state, and what it reads: the matrix form of the recurrence, with a triangular solve where the rule is a delta rule. */
interface ChunkForm {
  readonly map: SegmentMap;
  /** Output for a state, unscaled. */
  read(memory: Table): Table;
}

export function chunkForm(chunk: Chunk, isDelta: boolean): ChunkForm {
  const { query, key, value, strength } = chunk;
  const width = key[0]?.length ?? 0;
  const decay = chunk.logDecay.map((row) => (row.length === 1 ? Array.from({ length: width }, () => row[0] ?? 0) : row));
  // Γ: inclusive sums of log decays; Γ_i − Γ_j as the sum over j + 1 … i, which −∞ before j does not touch.
  const between = (i: number, j: number, d: number): number => decay.slice(j + 1, i + 1).reduce((sum, row) => sum + (row[d] ?? 0), 0);
  const fromStart = key.map((_, i) => Array.from({ length: width }, (_unused, d) => Math.exp(between(i, -1, d))));
  const last = key.length - 1;
  const toEnd = key.map((_, i) => Array.from({ length: width }, (_unused, d) => Math.exp(between(last, i, d))));
  const pairs = (rows: Table, includeSelf: boolean): Table =>
    rows.map((row, i) => key.map((other, j) => (j > i || (j === i && !includeSelf) ? 0 : row.reduce((sum, element, d) => sum + element * (other[d] ?? 0) * Math.exp(between(i, j, d)), 0))));

  const scaled = (rows: Table): Table => rows.map((row, i) => row.map((element) => (strength[i] ?? 0) * element));
  const lower = scaled(pairs(key, false));
  const solve = (rows: Table): Table => (isDelta ? solveUnitLower(lower, rows) : rows);
  const u = solve(scaled(value));
  const w = isDelta ? solve(scaled(combine(fromStart, key, (a, b) => a * b))) : key.map((row) => row.map(() => 0));
  const endKeys = transpose(combine(toEnd, key, (a, b) => a * b));
  const lastDecay = fromStart[last] ?? [];
  const diagonal = identity(width).map((row, d) => row.map((element) => (element === 0 ? 0 : (lastDecay[d] ?? 1))));
  return {
    map: { m: combine(diagonal, multiply(endKeys, w), (a, b) => a - b), n: multiply(endKeys, u) },
    read: (memory) => {
      const written = combine(u, multiply(w, memory), (a, b) => a - b);
      return combine(multiply(combine(fromStart, query, (a, b) => a * b), memory), multiply(pairs(query, true), written), (a, b) => a + b);
    },
  };
}

/** (I + lower) X = rows, by forward substitution. */
function solveUnitLower(lower: Table, rows: Table): Table {
  const solved: number[][] = [];
  rows.forEach((row, i) => {
    solved.push(row.map((element, column) => element - (lower[i] ?? []).slice(0, i).reduce((sum, factor, j) => sum + factor * (solved[j]?.[column] ?? 0), 0)));
  });
  return solved;
}

export function applyMap({ m, n }: SegmentMap, memory: Table): Table {
  return combine(multiply(m, memory), n, (a, b) => a + b);
}

/** The map of first, then second. */
export function compose(second: SegmentMap, first: SegmentMap): SegmentMap {
  return { m: multiply(second.m, first.m), n: applyMap(second, first.n) };
}

/** Tokens first … last − 1 of value head `head`, with one query and key head for each. Missing log decays are 0, missing strengths 1. */
export function chunkOf(inputs: FastWeightInputs, head: number, first: number, last: number): Chunk {
  const [, , length = 0] = inputs.key.shape;
  const rows = (table: Table): Table => table.slice(first, last);
  const all = (source: FastWeightInputs['logDecay'], otherwise: number): Table => {
    if (source === undefined) return Array.from({ length }, () => [otherwise]);
    const table = headOf(source, 0, source.shape[1] === 1 ? 0 : head);
    return table.length === 1 ? Array.from({ length }, () => table[0] ?? []) : table;
  };
  return {
    query: rows(headOf(inputs.query, 0, head)),
    key: rows(headOf(inputs.key, 0, head)),
    value: rows(headOf(inputs.value, 0, head)),
    logDecay: rows(all(inputs.logDecay, 0)),
    strength: rows(all(inputs.writeStrength, 1)).map((row) => row[0] ?? 1),
  };
}
