import { AttentionError } from '../../errors.ts';
import type { Dense } from './dense.ts';
import { rowsOf } from './dense.ts';

/** Sum, greatest or mean of each row: [… , n] → […]. Of nothing: 0, −∞ and NaN. NaN in, NaN out. */
export function reduce(x: Dense, reduction: 'sum' | 'max' | 'mean'): Dense {
  if (x.shape.length < 1) throw new AttentionError('invalid-shape', 'reduce got a scalar.', 'Expected at least one axis.');
  const { count, size } = rowsOf(x);
  const result = new Float64Array(count);
  for (let index = 0; index < count; index++) {
    const row = x.data.subarray(index * size, (index + 1) * size);
    const total = reduction === 'max' ? row.reduce((most, value) => Math.max(most, value), -Infinity) : row.reduce((sum, value) => sum + value, 0);
    result[index] = reduction === 'mean' ? total / size : total;
  }
  return { data: result, shape: x.shape.slice(0, -1) };
}
