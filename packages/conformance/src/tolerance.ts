import type { DType } from '@heed/core';
import type { Bound } from './compare.ts';

/** What a bound depends on. */
export interface Setting {
  /** Keys in a row, or tokens in a sequence. */
  readonly length: number;
  /** Width of the rows that are combined. */
  readonly dim: number;
  /** Storage type of the output. */
  readonly dtype: DType;
  /** Largest |score|: 4 for the N(0, 1) inputs that most cases have. */
  readonly score?: number;
  /** Largest |expected value|: what the error of a sum is measured by when its terms are large. Default 1. */
  readonly magnitude?: number;
}

/** A bound as a formula with its reason. */
export interface Tolerance {
  readonly name: string;
  readonly formula: string;
  readonly reason: string;
  bound(setting: Setting): Bound;
}

/** Half the distance from 1 to the next number: what one rounding costs, relatively. */
export const unitRoundoff: Readonly<Record<DType, number>> = { f64: 2 ** -24, f32: 2 ** -24, f16: 2 ** -11, bf16: 2 ** -8, i32: 0, i8: 0, u8: 0 };

/** Roundings on the way of one float32 result. */
function roundings({ length, dim, score = 4 }: Setting): number {
  return 16 + 2 * Math.sqrt(dim) * Math.max(1, score / 4) + 2 * Math.sqrt(length);
}

/** Attention with float32 sums, in any storage type. */
export const float32Attention: Tolerance = {
  name: 'float32 attention',
  formula: 'absolute = (2⁻²⁴ · (16 + 2√dim · max(1, score/4) + 2√length) + u) · max(1, magnitude), relative = absolute / max(1, magnitude), u = storage roundoff of f16 or bf16 outputs',
  reason:
    'A score is a sum of dim products whose rounding errors add up like a random walk, and exp turns the absolute error of a score into a relative error of a weight; the sum over length weighted values is another walk; ' +
    '16 covers exp, the division and the rescaling of running sums. Sums in plain order, each step rounded to float32, use a quarter of it. Narrow storage adds one rounding of the output; its inputs are rounded before both sides read them.',
  bound(setting) {
    const storage = setting.dtype === 'f16' || setting.dtype === 'bf16' ? unitRoundoff[setting.dtype] : 0;
    const relative = 2 ** -24 * roundings(setting) + 1.05 * storage;
    return { absolute: relative * Math.max(1, setting.magnitude ?? 1), relative };
  },
};

/** The logarithm of the sum of exponentials. */
export const float32LogSumExp: Tolerance = {
  name: 'float32 logSumExp',
  formula: 'absolute = 2⁻²⁴ · (16 + 4√dim · max(1, score/4) + √length), relative = 2⁻²¹',
  reason: 'The absolute error of a score passes into the logarithm unchanged; the sum adds a relative error, which the logarithm makes absolute; the last rounding is relative.',
  bound(setting) {
    const { length, dim, score = 4 } = setting;
    return { absolute: 2 ** -24 * (16 + 4 * Math.sqrt(dim) * Math.max(1, score / 4) + Math.sqrt(length)), relative: 2 ** -21 };
  },
};

/** Threshold normalizations: sparsemax and entmax. */
export const float32Threshold: Tolerance = {
  name: 'float32 threshold',
  formula: 'absolute = (2⁻²⁴ · (64 + 8√dim · max(1, score/4) + 16√length) + u) · max(1, magnitude), relative = absolute / max(1, magnitude)',
  reason: 'As float32 attention, but every weight also carries the error of the threshold, which is a sum over the support, and entmax takes roots of differences of scores.',
  bound(setting) {
    const { length, dim, score = 4 } = setting;
    const storage = setting.dtype === 'f16' || setting.dtype === 'bf16' ? unitRoundoff[setting.dtype] : 0;
    const relative = 2 ** -24 * (64 + 8 * Math.sqrt(dim) * Math.max(1, score / 4) + 16 * Math.sqrt(length)) + 1.05 * storage;
    return { absolute: relative * Math.max(1, setting.magnitude ?? 1), relative };
  },
};

/** Recurrences with float32 state. */
export const float32Recurrence: Tolerance = {
  name: 'float32 recurrence',
  formula: 'absolute = (2⁻²⁴ · (64 + 8√dim + 32√length) + u) · max(1, magnitude), relative = 4 · absolute / max(1, magnitude)',
  reason:
    'The state is rewritten at every token, so errors walk along the sequence; a chunked form solves a triangular system inside each chunk, which multiplies them by a small factor for keys that are close to parallel.',
  bound(setting) {
    const storage = setting.dtype === 'f16' || setting.dtype === 'bf16' ? unitRoundoff[setting.dtype] : 0;
    const relative = 2 ** -24 * (64 + 8 * Math.sqrt(setting.dim) + 32 * Math.sqrt(setting.length)) + 1.05 * storage;
    return { absolute: relative * Math.max(1, setting.magnitude ?? 1), relative: 4 * relative };
  },
};

/** Gradients, in float32. */
export const float32Gradient: Tolerance = {
  name: 'float32 gradient',
  formula: 'absolute = 2⁻²⁴ · 16 · (16 + 2√dim · max(1, score/4) + 2√length) · max(1, magnitude), relative = absolute / max(1, magnitude)',
  reason: 'A gradient is a product of three float32 results, each with the error of float32 attention, and is summed over rows or keys; central differences with step 10⁻⁵ in float64 add less than 10⁻⁸.',
  bound(setting) {
    const relative = 2 ** -24 * 16 * roundings(setting);
    return { absolute: relative * Math.max(1, setting.magnitude ?? 1), relative };
  },
};

/** Printed constants. */
export const sixDecimals: Tolerance = {
  name: 'six decimals',
  formula: 'absolute = 6 · 10⁻⁷ + 2⁻²⁰ · |want|',
  reason: 'The constants are printed with six decimals, so half a unit of the last is 5 · 10⁻⁷; the rest is float32.',
  bound: () => ({ absolute: 6e-7, relative: 2 ** -20 }),
};

/** Equality of every bit, or of facts. */
export const exact: Tolerance = {
  name: 'exact',
  formula: '0',
  reason: 'The law speaks of bits, of zeros, or of errors; nothing is rounded differently on the two sides.',
  bound: () => ({ absolute: 0, relative: 0 }),
};

/** A variance estimated from a sample. */
export const statistical: Tolerance = {
  name: 'statistical',
  formula: '|estimate − 1| ≤ 5 · √((2 + 6/dim) / samples)',
  reason: 'A sum of dim products of normal numbers has the kurtosis 3 + 6/dim, so the variance of n of them has the standard deviation √((2 + 6/dim)/n); five of those are missed about once in a million seeds, and the seed is fixed.',
  bound: ({ length, dim }) => ({ absolute: 5 * Math.sqrt((2 + 6 / dim) / length), relative: 0 }),
};
