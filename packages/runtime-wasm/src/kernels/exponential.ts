import type { FunctionBuilder } from '../emit/function.ts';
import { constantF32x4, constantI32x4, instructions, type Local, type Value } from '../emit/instruction.ts';
import { multiplyAdd, type Arithmetic } from '../emit/matmul.ts';

const { f32x4, i32x4 } = instructions;

/** 2^f on [−½, ½], coefficients of f⁰ … f⁵, fitted for the least relative error, 1.1e-7 before rounding. The first is exactly 1, so that e⁰ is. */
const coefficients = [1, 0.6931470036506653, 0.24022242426872253, 0.05550733581185341, 0.009671512991189957, 0.001326472731307149] as const;

/** Adding it rounds to the nearest integer and leaves that integer plus 127 in the low bits. */
const roundingShift = 1.5 * 2 ** 23 + 127;

/**
 * e^x for x ≤ 0: exactly 0 below −88, so −∞ is; NaN stays NaN; about 2 ULP elsewhere. Straight-line code, so that neighbours pack.
 * Its constants are made once, where it is declared: engines make a constant again wherever it is written.
 */
export class Exponential {
  readonly #f: FunctionBuilder;
  readonly #arithmetic: Arithmetic;
  readonly #logE: Local<'v128'>;
  readonly #least: Local<'v128'>;
  readonly #shift: Local<'v128'>;
  readonly #coefficients: readonly Local<'v128'>[];

  constructor(f: FunctionBuilder, arithmetic: Arithmetic) {
    this.#f = f;
    this.#arithmetic = arithmetic;
    this.#logE = f.let('logE', constantF32x4(Math.LOG2E));
    this.#least = f.let('least', constantF32x4(-127));
    this.#shift = f.let('roundingShift', constantF32x4(roundingShift));
    this.#coefficients = coefficients.map((coefficient, index) => f.let(`coefficient${index}`, constantF32x4(coefficient)));
  }

  /** @param target may be what `x` reads; `shifted` is another local of the caller */
  write(target: Local<'v128'>, x: Value<'v128'>, shifted: Local<'v128'>): void {
    const f = this.#f;
    // y = max(x · log2 e, −127); the order of pmax's operands keeps NaN.
    f.set(target, f32x4.pmax(f32x4.mul(x, this.#logE), this.#least));
    f.set(shifted, f32x4.add(target, this.#shift));
    f.set(target, f32x4.sub(target, f32x4.sub(shifted, this.#shift)));
    // The integer moves to the exponent; −127 gives the number 0.
    f.set(shifted, i32x4.shl(shifted, 23));
    const [highest, ...lower] = this.#coefficients.toReversed();
    if (highest === undefined) return;
    f.set(target, f32x4.mul(lower.reduce<Value<'v128'>>((sum, coefficient) => multiplyAdd(this.#arithmetic, sum, target, coefficient), highest), shifted));
  }
}

/** −∞ in four lanes. */
export function minusInfinity(): Value<'v128'> {
  return constantI32x4(0xff800000);
}
