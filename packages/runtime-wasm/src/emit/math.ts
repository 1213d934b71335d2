/**
 * Elementary functions on four float32 lanes, as straight-line code that packs well. NaN in, NaN out; ±0, ±∞ and denormals as IEEE 754 has them.
 * The errors stated are the largest seen against float64 over dense sweeps, in units in the last place, with and without fused multiply-add.
 * Coefficients are least-maximum fits over the reduced range, rounded to float32.
 */
import type { FunctionBuilder } from './function.ts';
import { constantF32x4, constantF64x2, constantI32x4, constantI64x2, instructions, type Local, type Value } from './instruction.ts';
import { multiplyAdd, multiplySubtract, type Arithmetic } from './matmul.ts';

const { f32x4, f64x2, i8x16, i32x4, i64x2, v128 } = instructions;

type Vector = Value<'v128'>;

/** Where a function is written to, and how products are added. */
export interface Lanes extends Arithmetic {
  readonly f: FunctionBuilder;
}

/** c₀ + c₁ x + c₂ x² + …, in float32. */
function polynomial(lanes: Lanes, x: Vector, [first = 0, ...rest]: readonly number[]): Vector {
  const higher = rest.length === 0 ? undefined : polynomial(lanes, x, rest);
  return higher === undefined ? constantF32x4(first) : multiplyAdd(lanes, higher, x, constantF32x4(first));
}

/** low ≤ x ≤ high; NaN stays NaN, since both instructions return their first operand unless the second is beyond it. */
function clamp(x: Vector, low: number, high: number): Vector {
  return f32x4.pmin(f32x4.pmax(x, constantF32x4(low)), constantF32x4(high));
}

/** ln 2 in two parts; the first has so few bits that its product with an exponent is exact. */
const ln2High = 0.693145751953125;
const ln2Low = 1.4286068203094173e-06;

/** Adding and subtracting it rounds to the nearest integer, ties to even; in between, the low bits hold that integer. For |x| < 2²². */
const roundingShift = 1.5 * 2 ** 23;

/** e^x. 1 ULP. 0 below −104, ∞ above 88.73. */
export function exp(lanes: Lanes, x: Vector): Local<'v128'> {
  const { f } = lanes;
  const shift = constantF32x4(roundingShift);
  const bounded = f.let('exp.x', clamp(x, -105, 89));
  const shifted = f.let('exp.shifted', f32x4.add(f32x4.mul(bounded, constantF32x4(Math.LOG2E)), shift));
  const n = f.let('exp.n', f32x4.sub(shifted, shift));
  const rest = f.let('exp.rest', multiplySubtract(lanes, n, constantF32x4(ln2High), bounded));
  f.set(rest, multiplySubtract(lanes, n, constantF32x4(ln2Low), rest));
  const tail = polynomial(lanes, rest, [0.4999999403953552, 0.1666651964187622, 0.04166840761899948, 0.008368921466171741, 0.0013814173871651292]);
  // e^r = 1 + (r + r² · tail): the large terms are added last.
  const square = f.let('exp.square', f32x4.mul(rest, rest));
  const sum = f.let('exp.sum', f32x4.add(multiplyAdd(lanes, tail, square, rest), constantF32x4(1)));
  // 2ⁿ in two factors, so that neither leaves the range where the product does not. Of NaN, `sum` is NaN, whatever the factors are.
  const whole = f.let('exp.whole', i32x4.sub(shifted, shift));
  const half = f.let('exp.half', i32x4.shr_s(whole, 1));
  const power = (exponent: Vector): Vector => i32x4.shl(i32x4.add(exponent, constantI32x4(127)), 23);
  return f.let('exp', f32x4.mul(f32x4.mul(sum, power(half)), power(i32x4.sub(whole, half))));
}

/** ln x. 1 ULP. −∞ at ±0, NaN below. */
export function log(lanes: Lanes, x: Vector): Local<'v128'> {
  const { f } = lanes;
  const given = f.let('log.x', x);
  const denormal = f.let('log.denormal', f32x4.lt(given, constantF32x4(2 ** -126)));
  const normal = f.let('log.normal', v128.bitselect(f32x4.mul(given, constantF32x4(2 ** 23)), given, denormal));
  // x = 2ᵉ · (1 + m) with 1 + m in [√½, √2): the bits of √½ are subtracted, so that the exponent field is e.
  const shifted = f.let('log.shifted', i32x4.sub(normal, constantI32x4(sqrtHalfBits)));
  const exponent = f.let('log.exponent', f32x4.sub(f32x4.convert_i32x4_s(i32x4.shr_s(shifted, 23)), v128.and(denormal, constantF32x4(23))));
  const m = f.let('log.m', f32x4.sub(i32x4.add(v128.and(shifted, constantI32x4(0x007fffff)), constantI32x4(sqrtHalfBits)), constantF32x4(1)));
  const square = f.let('log.square', f32x4.mul(m, m));
  // ln(1 + m) = m − m²/2 + m³ · tail; the large terms are added last.
  const tail = polynomial(lanes, m, [
    0.3333333134651184, -0.250008225440979, 0.20001234114170074, -0.16623298823833466, 0.14201553165912628, -0.1316058188676834, 0.12763327360153198,
    -0.07635655999183655,
  ]);
  const sum = f.let('log.sum', f32x4.mul(f32x4.mul(m, square), tail));
  f.set(sum, multiplyAdd(lanes, exponent, constantF32x4(ln2Low), sum));
  f.set(sum, multiplySubtract(lanes, square, constantF32x4(0.5), sum));
  f.set(sum, f32x4.add(sum, m));
  f.set(sum, multiplyAdd(lanes, exponent, constantF32x4(ln2High), sum));
  f.set(sum, v128.bitselect(given, sum, f32x4.eq(given, constantF32x4(Infinity))));
  f.set(sum, v128.bitselect(constantF32x4(-Infinity), sum, f32x4.eq(given, constantF32x4(0))));
  // NaN and what is below zero are not ≥ 0.
  f.set(sum, v128.bitselect(sum, constantF32x4(Number.NaN), f32x4.ge(given, constantF32x4(0))));
  return sum;
}

const sqrtHalfBits = 0x3f3504f3;

/** tanh x, a quotient of polynomials of degree 9 and 8. 6 ULP; ±1 beyond ±9.02. */
export function tanh(lanes: Lanes, x: Vector): Local<'v128'> {
  const { f } = lanes;
  const bounded = f.let('tanh.x', clamp(x, -9.02, 9.02));
  const square = f.let('tanh.square', f32x4.mul(bounded, bounded));
  const numerator = polynomial(lanes, square, [0.999999979025227, 0.1337972005202577, 0.003494037016763673, 2.05835195623866e-5, 1.331912077477582e-8]);
  const denominator = polynomial(lanes, square, [1, 0.46713035294970423, 0.025871082679569547, 0.0003283096766960469, 7.762040336942855e-7]);
  return f.let('tanh', f32x4.div(f32x4.mul(bounded, numerator), denominator));
}

/** 1 / (1 + e^−x). 3 ULP. */
export function sigmoid(lanes: Lanes, x: Vector): Local<'v128'> {
  const { f } = lanes;
  const given = f.let('sigmoid.x', x);
  // From e^−|x|, which does not overflow: 1 / (1 + e) above zero, e / (1 + e) below.
  const power = exp(lanes, f32x4.neg(f32x4.abs(given)));
  const numerator = v128.bitselect(power, constantF32x4(1), f32x4.lt(given, constantF32x4(0)));
  return f.let('sigmoid', f32x4.div(numerator, f32x4.add(constantF32x4(1), power)));
}

/** sin x. 2 ULP for |x| < 2²⁷; NaN beyond, where float32 steps are longer than a period of any use. */
export function sin(lanes: Lanes, x: Vector): Local<'v128'> {
  return sinCos(lanes, x, 0);
}

/** cos x, as {@link sin}. */
export function cos(lanes: Lanes, x: Vector): Local<'v128'> {
  return sinCos(lanes, x, 1);
}

/** π/2 in three parts; the first two have 26 bits, so that their products with up to 2²⁷ turns are exact in float64. */
const quarterTurn = [1.5707963109016418, 1.5893254712295857e-08, 6.123233995736766e-17] as const;

/** The angle is reduced to [−π/4, π/4] in float64, two lanes at a time. */
function sinCos(lanes: Lanes, x: Vector, quarter: 0 | 1): Local<'v128'> {
  const { f } = lanes;
  const given = f.let('sin.x', x);
  const reduced = [given, highHalf(given)].map((half) => {
    const angle = f.let('sin.wide', f64x2.promote_low_f32x4(half));
    const turns = f.let('sin.turns', f64x2.nearest(f64x2.mul(angle, constantF64x2(2 / Math.PI))));
    for (const part of quarterTurn) f.set(angle, f64x2.sub(angle, f64x2.mul(turns, constantF64x2(part))));
    return { angle: f.let('sin.low', f32x4.demote_f64x2_zero(angle)), turns: f.let('sin.quarter', i32x4.trunc_sat_f64x2_s_zero(turns)) };
  });
  const [low, high] = reduced;
  if (low === undefined || high === undefined) throw new RangeError('a vector has two halves');
  const angle = f.let('sin.angle', joinHalves(low.angle, high.angle));
  const which = f.let('sin.which', i32x4.add(joinHalves(low.turns, high.turns), constantI32x4(quarter)));
  const square = f.let('sin.square', f32x4.mul(angle, angle));
  const cube = f32x4.mul(angle, square);
  const sine = f.let('sin.sine', multiplyAdd(lanes, polynomial(lanes, square, [-0.1666666716337204, 0.008333329111337662, -0.0001983930415008217, 2.718046516747563e-6]), cube, angle));
  const cosine = f.let('sin.cosine', f32x4.mul(polynomial(lanes, square, [0.0416666679084301, -0.0013888883404433727, 2.479945214872714e-5, -2.720504710396199e-7]), f32x4.mul(square, square)));
  f.set(cosine, f32x4.add(multiplySubtract(lanes, square, constantF32x4(0.5), cosine), constantF32x4(1)));
  const odd = i32x4.ne(v128.and(which, constantI32x4(1)), constantI32x4(0));
  f.set(sine, v128.bitselect(cosine, sine, odd));
  f.set(sine, v128.xor(sine, i32x4.shl(v128.and(which, constantI32x4(2)), 30)));
  f.set(sine, v128.bitselect(sine, constantF32x4(Number.NaN), f32x4.lt(f32x4.abs(given), constantF32x4(2 ** 27))));
  return sine;
}

/** base ** exponent for base ≥ 0, computed in float64, two lanes at a time. 1 ULP. 1 where the exponent is 0; NaN for a base below zero. */
export function pow(lanes: Lanes, base: Vector, exponent: Vector): Local<'v128'> {
  const { f } = lanes;
  const bases = f.let('pow.base', base);
  const exponents = f.let('pow.exponent', exponent);
  const [low, high] = [
    [bases, exponents],
    [highHalf(bases), highHalf(exponents)],
  ].map(([b, e]) => {
    if (b === undefined || e === undefined) throw new RangeError('a power has a base and an exponent');
    const product = f.let('pow.product', f64x2.mul(log64(f, f64x2.promote_low_f32x4(b)), f64x2.promote_low_f32x4(e)));
    return f.let('pow.half', f32x4.demote_f64x2_zero(exp64(f, product)));
  });
  if (low === undefined || high === undefined) throw new RangeError('a vector has two halves');
  const result = f.let('pow', joinHalves(low, high));
  f.set(result, v128.bitselect(constantF32x4(1), result, f32x4.eq(exponents, constantF32x4(0))));
  return result;
}

function polynomial64(x: Vector, [first = 0, ...rest]: readonly number[]): Vector {
  return rest.length === 0 ? constantF64x2(first) : f64x2.add(f64x2.mul(polynomial64(x, rest), x), constantF64x2(first));
}

/** An integer below 2⁵¹ added to it stands in its low bits. */
const integerShift = 1.5 * 2 ** 52;

/** ln of a float64 that was a float32 ≥ 0: 4e-14 relative; −∞ at 0, NaN below. */
function log64(f: FunctionBuilder, x: Vector): Local<'v128'> {
  const given = f.let('ln.x', x);
  const shifted = f.let('ln.shifted', i64x2.sub(given, constantI64x2(0x3fe6a09e667f3bcdn)));
  const exponent = f.let('ln.exponent', i64x2.shr_s(shifted, 52));
  const m = f.let('ln.m', i64x2.sub(given, i64x2.shl(exponent, 52)));
  // ln m = 2 artanh((m − 1) / (m + 1))
  const s = f.let('ln.s', f64x2.div(f64x2.sub(m, constantF64x2(1)), f64x2.add(m, constantF64x2(1))));
  const square = f.let('ln.square', f64x2.mul(s, s));
  const tail = polynomial64(square, [0.6666666667586145, 0.3999999559712669, 0.28572112180154174, 0.2217604682985635, 0.195864031457107]);
  const sum = f.let('ln.sum', f64x2.mul(s, f64x2.add(f64x2.mul(tail, square), constantF64x2(2))));
  const count = f64x2.sub(i64x2.add(exponent, constantF64x2(integerShift)), constantF64x2(integerShift));
  f.set(sum, f64x2.add(f64x2.mul(count, constantF64x2(Math.LN2)), sum));
  f.set(sum, v128.bitselect(given, sum, f64x2.eq(given, constantF64x2(Infinity))));
  f.set(sum, v128.bitselect(constantF64x2(-Infinity), sum, f64x2.eq(given, constantF64x2(0))));
  f.set(sum, v128.bitselect(sum, constantF64x2(Number.NaN), f64x2.ge(given, constantF64x2(0))));
  return sum;
}

/** e^x to 2e-12 relative, for a result that becomes a float32: bounds are beyond what float32 holds. */
function exp64(f: FunctionBuilder, x: Vector): Local<'v128'> {
  const bounded = f.let('e.x', f64x2.pmin(f64x2.pmax(x, constantF64x2(-120)), constantF64x2(100)));
  const moved = f.let('e.moved', f64x2.add(f64x2.mul(bounded, constantF64x2(Math.LOG2E)), constantF64x2(integerShift)));
  const n = f.let('e.n', f64x2.sub(moved, constantF64x2(integerShift)));
  const rest = f.let('e.rest', f64x2.sub(bounded, f64x2.mul(n, constantF64x2(Math.LN2))));
  const tail = polynomial64(rest, [0.5000000000430231, 0.16666666785146872, 0.04166666439148919, 0.008333281602436215, 0.0013889198364481206, 0.00019909073999371525, 2.4708101751689808e-5]);
  const sum = f64x2.add(f64x2.add(f64x2.mul(tail, f64x2.mul(rest, rest)), rest), constantF64x2(1));
  return f.let('e', f64x2.mul(sum, i64x2.shl(i64x2.add(moved, constantI64x2(1023n)), 52)));
}

/** Lanes 2 and 3 in the place of 0 and 1. */
function highHalf(x: Vector): Vector {
  return i8x16.shuffle(x, x, [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15]);
}

/** The low halves of two vectors. */
function joinHalves(low: Vector, high: Vector): Vector {
  return i8x16.shuffle(low, high, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
}
