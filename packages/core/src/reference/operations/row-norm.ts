import { AttentionError } from '../../errors.ts';
import type { Dense } from './dense.ts';
import { checkShape, rowsOf } from './dense.ts';

/**
 * l2: row / max(‖row‖, ε).  rms: row / √(mean(row²) + ε).  layer: (row − mean) / √(variance + ε), the variance over the whole row.
 * Then times gain [dim] plus shift [dim].
 */
export function rowNorm(x: Dense, norm: 'l2' | 'rms' | 'layer', epsilon: number, gain: Dense | null, shift: Dense | null): Dense {
  if (typeof epsilon !== 'number' || !(epsilon >= 0)) throw new AttentionError('invalid-argument', `rowNorm got epsilon ${epsilon}.`, 'Expected a number of 0 or more.');
  const { count, size } = rowsOf(x);
  if (x.shape.length < 1 || size < 1) throw new AttentionError('invalid-shape', `rowNorm got shape [${x.shape.join(', ')}].`, 'Expected rows of at least one channel.');
  if (gain !== null) checkShape('rowNorm’s gain', gain, [size]);
  if (shift !== null) checkShape('rowNorm’s shift', shift, [size]);
  const result = new Float64Array(x.data.length);
  for (let index = 0; index < count; index++) {
    const row = x.data.subarray(index * size, (index + 1) * size);
    const mean = norm === 'layer' ? sum(row, (value) => value) / size : 0;
    const squares = sum(row, (value) => (value - mean) ** 2);
    const divisor = norm === 'l2' ? Math.max(Math.sqrt(squares), epsilon) : Math.sqrt(squares / size + epsilon);
    for (let channel = 0; channel < size; channel++) {
      result[index * size + channel] = (((row[channel] ?? 0) - mean) / divisor) * (gain?.data[channel] ?? 1) + (shift?.data[channel] ?? 0);
    }
  }
  return { data: result, shape: x.shape };
}

function sum(row: Float64Array, term: (value: number) => number): number {
  return row.reduce((total, value) => total + term(value), 0);
}
