import { AttentionError } from '../../errors.ts';
import type { Dense } from './dense.ts';
import { rowsOf } from './dense.ts';

/** The k largest of each row [… , n] → [… , k], descending, lower index first on ties; NaN counts as less than every number. */
export function topK(x: Dense, k: number): { readonly values: Dense; readonly indices: Dense } {
  const { count, size } = rowsOf(x);
  if (x.shape.length < 1 || !Number.isSafeInteger(k) || k < 0 || k > size) {
    throw new AttentionError('invalid-argument', `topK got k = ${k} for shape [${x.shape.join(', ')}].`, `Expected an integer from 0 to ${size}.`);
  }
  const values = new Float64Array(count * k);
  const indices = new Float64Array(count * k);
  for (let index = 0; index < count; index++) {
    const row = x.data.subarray(index * size, (index + 1) * size);
    const order = Array.from(row.keys()).sort((a, b) => descending(row[a] ?? 0, row[b] ?? 0) || a - b);
    for (const [place, source] of order.slice(0, k).entries()) {
      values[index * k + place] = row[source] ?? 0;
      indices[index * k + place] = source;
    }
  }
  const shape = [...x.shape.slice(0, -1), k];
  return { values: { data: values, shape }, indices: { data: indices, shape } };
}

function descending(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a === b ? 0 : a > b ? -1 : 1;
}
