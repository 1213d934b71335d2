import type { BoundTable } from '../bind.ts';
import type { Interval } from '../expression/bound.ts';
import { everything } from '../expression/bound.ts';
import { isHostTensor } from '../tensor.ts';
import { largestInteger, smallestInteger } from './integers.ts';

/**
 * Least and greatest element of a table whose indices lie in these intervals. Looked up in integer and boolean tables of the host;
 * what lives on a device or is f32 is bounded by its dtype alone. Parts of an interval outside the table are ignored.
 */
export function tableInterval(table: BoundTable, indices: readonly Interval[]): Interval {
  const { declaration, tensor } = table;
  if (declaration.type === 'f32') return everything;
  if (!isHostTensor(tensor)) return storedRange(table);
  const lows = indices.map(({ low }) => Math.max(0, low));
  const highs = indices.map(({ high }, axis) => Math.min((table.sizes[axis] ?? 0) - 1, high));
  if (lows.some((low, axis) => !(low <= (highs[axis] ?? -1)))) return storedRange(table);
  const view = tensor.view();
  const ends = storedRange(table);
  let least = Infinity;
  let most = -Infinity;
  const scan = (axis: number, base: number): void => {
    const stride = table.strides[axis] ?? 0;
    const low = lows[axis] ?? 0;
    // A repeated axis holds one element, however often it is read.
    const high = stride === 0 ? low : (highs[axis] ?? 0);
    if (axis < indices.length - 1) {
      for (let index = low; index <= high && (least > ends.low || most < ends.high); index++) scan(axis + 1, base + index * stride);
      return;
    }
    for (let index = low; index <= high; index++) {
      const value = view[base + index * stride] ?? 0;
      if (value < least) least = value;
      if (value > most) most = value;
    }
  };
  scan(0, 0);
  return { low: least, high: most };
}

function storedRange({ declaration, tensor }: BoundTable): Interval {
  if (declaration.type === 'bool') return { low: 0, high: 1 };
  if (tensor.dtype === 'i8') return { low: -128, high: 127 };
  if (tensor.dtype === 'u8') return { low: 0, high: 255 };
  return { low: smallestInteger, high: largestInteger };
}
