import { AttentionError } from '../errors.ts';
import { show } from '../show.ts';

/** Every name that a type has, as data: the compiler sees that none is missing and none invented. */
export type Names<T> = Readonly<Record<keyof T, true>>;

/**
 * Refuses what nothing reads: a misspelt name would be the same as none (L20).
 *
 * @param what  how messages call the object: 'the request', 'observe'
 * @param known every name that it may have
 * @throws AttentionError `invalid-argument`, naming the nearest of those known, and all of them
 */
export function checkNames(what: string, given: object, known: Readonly<Record<string, true>>): void {
  // Inherited names too: an AbortSignal in the place of options is told by them.
  for (const name in given) {
    if (Object.hasOwn(known, name)) continue;
    const names = Object.keys(known);
    throw new AttentionError('invalid-argument', `Got ${show(name)} in ${what}, which nothing reads.`, `${didYouMean(name, names)}It takes ${names.join(', ')}.`);
  }
}

/** A question that names the nearest of the names known, with a space after it; nothing where none is near. */
export function didYouMean(name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  return near === null ? '' : `Did you mean ${show(near)}? `;
}

/** The name that takes the fewest edits, at most one for every three letters, two for short names; null when there is none. */
function nearest(name: string, known: readonly string[]): string | null {
  let least = Math.max(2, Math.floor(name.length / 3)) + 1;
  let near: string | null = null;
  for (const candidate of known) {
    const edits = editsBetween(name, candidate);
    if (edits >= least || edits >= candidate.length) continue;
    least = edits;
    near = candidate;
  }
  return near;
}

/** Letters to insert, remove or replace, whatever their case (Levenshtein 1966). */
function editsBetween(from: string, to: string): number {
  // row[j]: edits from the letters of `from` so far to the first j of `to`.
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const letter of from.toLowerCase()) {
    const next = [(row[0] ?? 0) + 1];
    for (let index = 1; index < row.length; index++) {
      const replaced = (row[index - 1] ?? 0) + Number(to.charAt(index - 1).toLowerCase() !== letter);
      next.push(Math.min(replaced, (row[index] ?? 0) + 1, (next[index - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
