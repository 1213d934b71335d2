import { AttentionError } from '../../errors.ts';
import type { Dense } from './dense.ts';

/** Rows `indices` [… , n] of x [… , rows, dim] → [… , n, dim]. */
export function gather(x: Dense, indices: Dense): Dense {
  const lead = x.shape.slice(0, -2);
  const [rows = 0, dim = 0] = x.shape.slice(-2);
  const n = indices.shape.at(-1) ?? 0;
  if (x.shape.length < 2 || indices.shape.length !== x.shape.length - 1 || lead.some((size, axis) => indices.shape[axis] !== size)) {
    throw new AttentionError('invalid-shape', `gather got x [${x.shape.join(', ')}] and indices [${indices.shape.join(', ')}].`, 'Expected x [… , rows, dim] and indices [… , n] with the same leading axes.');
  }
  const result = new Float64Array(indices.data.length * dim);
  for (const [place, index] of indices.data.entries()) {
    if (index < 0 || index >= rows) throw new AttentionError('invalid-argument', `gather got index ${index} for ${rows} rows.`, `Expected 0 … ${rows - 1}.`);
    const start = (Math.floor(place / n) * rows + index) * dim;
    result.set(x.data.subarray(start, start + dim), place * dim);
  }
  return { data: result, shape: [...lead, n, dim] };
}
