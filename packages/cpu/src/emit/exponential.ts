import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { constantF32x4, constantI32x4, instructions } from '@heed/runtime-wasm';
import { multiplyAdd } from './product.ts';

const { f32x4, i32x4 } = instructions;

/**
 * 2^f on [−½, ½], coefficients of f⁰ … f⁵, fitted for the least relative error, 1.1e-7 before rounding. The first is exactly 1, so that e⁰ is.
 */
const coefficients = [1, 0.6931470036506653, 0.24022242426872253, 0.05550733581185341, 0.009671512991189957, 0.001326472731307149] as const;

/** Adding it rounds to the nearest integer and leaves that integer plus 127 in the low bits. */
const roundingShift = 1.5 * 2 ** 23 + 127;

/**
 * e^x for x ≤ 0, into `target`. Below −88 it is exactly 0, so −∞ is; NaN stays NaN; about 2 ULP elsewhere. Straight-line code, so that neighbours pack.
 * @param target may be what `x` reads
 */
export function exponential(f: FunctionBuilder, fused: boolean, target: Local<'v128'>, x: Value<'v128'>, shifted: Local<'v128'>): void {
  // y = max(x · log2 e, −127); the order of pmax's operands keeps NaN.
  f.set(target, f32x4.pmax(f32x4.mul(x, constantF32x4(Math.LOG2E)), constantF32x4(-127)));
  f.set(shifted, f32x4.add(target, constantF32x4(roundingShift)));
  f.set(target, f32x4.sub(target, f32x4.sub(shifted, constantF32x4(roundingShift))));
  // The integer moves to the exponent; −127 gives the number 0.
  f.set(shifted, i32x4.shl(shifted, 23));
  const [c0, c1, c2, c3, c4, c5] = coefficients;
  let sum: Value<'v128'> = constantF32x4(c5);
  for (const coefficient of [c4, c3, c2, c1, c0]) sum = multiplyAdd(fused, sum, target, constantF32x4(coefficient));
  f.set(target, f32x4.mul(sum, shifted));
}

/** −∞ in four lanes. */
export function minusInfinity(): Value<'v128'> {
  return constantI32x4(0xff800000);
}
