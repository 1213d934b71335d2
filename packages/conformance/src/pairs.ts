import type { RandomSource } from './random.ts';

/** Names of axes with the values of each. */
export type PairAxes = Readonly<Record<string, readonly (string | number)[]>>;

/** One value for each axis. */
export type Row = Readonly<Record<string, string | number>>;

/** How many rows are drawn for each that is kept: more make fewer rows. */
const candidates = 4;

/**
 * Rows that between them hold every pair of values of two axes at least once, except pairs that no row can hold (Cohen 1997, "The AETG system", with the order of axes drawn
 * at random): each row starts from a pair that is still missing and takes, axis by axis, the value that adds most pairs.
 *
 * @param fits whether a row, or a part of one, is possible; called with the axes chosen so far
 */
export function coverPairs(axes: PairAxes, fits: (row: Row) => boolean, random: RandomSource): readonly Row[] {
  const names = Object.keys(axes);
  const missing = missingPairs(axes, names, fits);
  const rows: Row[] = [];
  while (missing.size > 0) {
    const start = missing.keys().next().value ?? '';
    let best: Row | null = null;
    let most = 0;
    for (let count = 0; count < candidates; count++) {
      const row = grow(axes, names, missing, start, fits, random);
      const added = row === null ? 0 : pairsOf(row, names).filter((pair) => missing.has(pair)).length;
      if (added > most) [best, most] = [row, added];
    }
    // A pair that fits by itself may fit no whole row.
    missing.delete(start);
    if (best === null) continue;
    for (const pair of pairsOf(best, names)) missing.delete(pair);
    rows.push(best);
  }
  return rows;
}

type Pair = string;

function pairKey(first: string, a: string | number, second: string, b: string | number): Pair {
  return `${first}\u0000${a}\u0001${second}\u0000${b}`;
}

function missingPairs(axes: PairAxes, names: readonly string[], fits: (row: Row) => boolean): Map<Pair, Row> {
  const missing = new Map<Pair, Row>();
  for (const [index, first] of names.entries()) {
    for (const second of names.slice(index + 1)) {
      for (const a of axes[first] ?? []) {
        for (const b of axes[second] ?? []) {
          const row = { [first]: a, [second]: b };
          if (fits(row)) missing.set(pairKey(first, a, second, b), row);
        }
      }
    }
  }
  return missing;
}

function pairsOf(row: Row, names: readonly string[]): readonly Pair[] {
  const pairs: Pair[] = [];
  for (const [index, first] of names.entries()) for (const second of names.slice(index + 1)) pairs.push(pairKey(first, row[first] ?? '', second, row[second] ?? ''));
  return pairs;
}

function grow(axes: PairAxes, names: readonly string[], missing: ReadonlyMap<Pair, Row>, start: Pair, fits: (row: Row) => boolean, random: RandomSource): Row | null {
  let row: Row = missing.get(start) ?? {};
  const rest = names.filter((name) => !(name in row));
  for (const place of random.permutation(rest.length)) {
    const name = rest[place] ?? '';
    const values = axes[name] ?? [];
    let chosen: Row | null = null;
    let most = -1;
    for (const index of random.permutation(values.length)) {
      const grown: Row = { ...row, [name]: values[index] ?? '' };
      if (!fits(grown)) continue;
      const added = names.filter((other) => other !== name && other in row && missing.has(orderedKey(names, grown, other, name))).length;
      if (added > most) [chosen, most] = [grown, added];
    }
    if (chosen === null) return null;
    row = chosen;
  }
  return row;
}

function orderedKey(names: readonly string[], row: Row, one: string, other: string): Pair {
  const [first, second] = names.indexOf(one) < names.indexOf(other) ? [one, other] : [other, one];
  return pairKey(first, row[first] ?? '', second, row[second] ?? '');
}
