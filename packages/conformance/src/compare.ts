import type { DType } from '@heed/core';
import { encode } from '@heed/core';

/** A bound on the difference of one element: |got − want| ≤ absolute + relative · |want|. */
export interface Bound {
  readonly absolute: number;
  readonly relative: number;
}

/** How far one tensor is from another, at worst. */
export interface Difference {
  readonly absolute: number;
  /** |got − want| / |want| where want is not 0. */
  readonly relative: number;
  /** In units in the last place of the dtype; only where both are finite. */
  readonly ulp: number;
  /** Largest |got − want| / (absolute + relative · |want|); above 1 is too far. Infinity where one is NaN or infinite and the other is not the same. */
  readonly share: number;
  /** Where `share` is largest, as an index into the flat array, and both values there. */
  readonly at: number;
  readonly got: number;
  readonly want: number;
}

/** No difference at all: what a comparison of nothing gives. */
export const noDifference: Difference = { absolute: 0, relative: 0, ulp: 0, share: 0, at: -1, got: 0, want: 0 };

/**
 * Compares element by element. NaN equals NaN only, an infinity only itself.
 *
 * @param dtype storage type of `got`, for ULP; f64 is counted as f32, since nothing promises more
 */
export function compare(got: ArrayLike<number>, want: ArrayLike<number>, bound: Bound, dtype: DType = 'f32'): Difference {
  if (got.length !== want.length) return { ...noDifference, share: Infinity, got: got.length, want: want.length };
  let worst = noDifference;
  for (let index = 0; index < want.length; index++) {
    const a = got[index] ?? Number.NaN;
    const b = want[index] ?? Number.NaN;
    if (Object.is(a, b) || a === b) continue;
    const absolute = Math.abs(a - b);
    const comparable = Number.isFinite(a) && Number.isFinite(b);
    const allowed = bound.absolute + bound.relative * Math.abs(b);
    const share = comparable ? (allowed > 0 ? absolute / allowed : Infinity) : Infinity;
    const ahead = share > worst.share;
    worst = {
      absolute: comparable ? Math.max(worst.absolute, absolute) : worst.absolute,
      relative: comparable && b !== 0 ? Math.max(worst.relative, absolute / Math.abs(b)) : worst.relative,
      ulp: comparable ? Math.max(worst.ulp, ulpDistance(a, b, dtype)) : worst.ulp,
      share: ahead ? share : worst.share,
      at: ahead ? index : worst.at,
      got: ahead ? a : worst.got,
      want: ahead ? b : worst.want,
    };
  }
  return worst;
}

/** The worse of two, field by field; the place is that of the larger share. */
export function worse(a: Difference, b: Difference): Difference {
  const ahead = b.share > a.share ? b : a;
  return { ...ahead, absolute: Math.max(a.absolute, b.absolute), relative: Math.max(a.relative, b.relative), ulp: Math.max(a.ulp, b.ulp) };
}

/**
 * The factor by which all elements are off: got = factor · want within the bound, by least squares.
 *
 * @returns null where the elements have no such factor, or nothing but zeros was expected
 */
export function commonFactor(got: ArrayLike<number>, want: ArrayLike<number>, bound: Bound): number | null {
  let product = 0;
  let square = 0;
  for (let index = 0; index < want.length; index++) {
    const a = got[index] ?? Number.NaN;
    const b = want[index] ?? Number.NaN;
    if (Object.is(a, b) || !Number.isFinite(b)) continue;
    product += a * b;
    square += b * b;
  }
  const factor = product / square;
  if (!Number.isFinite(factor)) return null;
  const scaled = Array.from(want, (value) => (Number.isFinite(value) ? factor * value : value));
  return compare(got, scaled, bound).share <= 1 ? factor : null;
}

/** Representable values of the dtype between two numbers, once both are rounded to it. */
export function ulpDistance(a: number, b: number, dtype: DType): number {
  return Math.abs(ordinal(a, dtype) - ordinal(b, dtype));
}

/** Place of a number among all of its dtype, 0 for zero. */
function ordinal(value: number, dtype: DType): number {
  switch (dtype) {
    case 'f16':
    case 'bf16': {
      const bits = encode([Math.abs(value)], dtype)[0] ?? 0;
      return value < 0 ? -bits : bits;
    }
    case 'f64':
    case 'f32': {
      const bits = new Int32Array(Float32Array.of(Math.abs(value)).buffer)[0] ?? 0;
      return value < 0 ? -bits : bits;
    }
    case 'i32':
    case 'i8':
    case 'u8':
      return value;
  }
}

/** Index of the first element whose bits differ, −1 when there is none. NaN equals NaN; +0 and −0 differ. */
export function firstDifferentBit(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Math.min(a.length, b.length);
  for (let index = 0; index < a.length; index++) if (!Object.is(a[index], b[index])) return index;
  return -1;
}
