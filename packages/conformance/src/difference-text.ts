import type { Bound, Difference } from './compare.ts';

/** Shape of a tensor, and the names of its axes where they are known. */
export interface Axes {
  readonly shape: readonly number[];
  /** One for each axis, or none. */
  readonly names: readonly string[];
}

/** Where the flat index of a dense tensor is: `[batch 0, head 1, row 3, channel 2]`, `[0, 3]` without names, `element 7` without a shape. */
export function describePlace(at: number, axes: Axes | undefined): string {
  if (axes === undefined || axes.shape.length === 0) return `element ${at}`;
  const { shape, names } = axes;
  const named = names.length === shape.length;
  let rest = at;
  const place = shape.toReversed().map((size) => {
    const index = rest % size;
    rest = Math.floor(rest / size);
    return index;
  });
  return `[${place.toReversed().map((index, axis) => (named ? `${names[axis] ?? ''} ${index}` : String(index))).join(', ')}]`;
}

/** What was got and expected, how far they are apart in percent, and how often that is the bound. */
export function describeDifference({ got, want, share }: Difference, bound: Bound): string {
  const formula = `${bound.absolute.toExponential(2)} + ${bound.relative.toExponential(2)} · |expected|`;
  const off = want !== 0 && Number.isFinite(got) && Number.isFinite(want) ? `${significant((Math.abs(got - want) / Math.abs(want)) * 100)} % off, ` : '';
  return Number.isFinite(share) ? `${got}, expected ${want}: ${off}${significant(share)} × the bound ${formula}` : `${got}, expected ${want}: ${off}the bound is ${formula}`;
}

/** A share of the bound for a table: `42 %` of it, `3100 ×` it. */
export function shareText(share: number): string {
  if (share === Infinity) return '∞';
  return share > 1 ? `${significant(share)} ×` : `${Math.round(share * 100)} %`;
}

/** Two digits that count, with an exponent only from a million on or below a thousandth. */
function significant(value: number): string {
  if (value !== 0 && (value >= 1e6 || value < 1e-3)) return value.toExponential(1);
  return value >= 10 ? String(Number(value.toPrecision(2))) : value.toPrecision(2);
}
