/** f16 and bf16 ↔ float32, four lanes at a time, exact up and rounded to nearest even down: as core's `encodeFloat16` and `encodeBfloat16` do for float32 numbers. */
import type { FunctionBuilder } from './function.ts';
import { constantF32x4, constantI32x4, instructions, type Local, type Operand, type Value } from './instruction.ts';

const { f32x4, i16x8, i32x4, v128 } = instructions;

type Vector = Value<'v128'>;

/** Storage of floats that kernels read and write. */
export type FloatStorage = 'f32' | 'f16' | 'bf16';

/** Bytes of one stored float. */
export const storageBytes: Readonly<Record<FloatStorage, number>> = { f32: 4, f16: 2, bf16: 2 };

/** The float32 values of four f16 numbers, given as 32-bit lanes 0…65535. */
export function fromFloat16(f: FunctionBuilder, bits: Vector): Local<'v128'> {
  const given = f.let('half.bits', bits);
  const magnitude = f.let('half.magnitude', i32x4.shl(v128.and(given, constantI32x4(0x7fff)), 13));
  // As a float32 the magnitude is 2¹¹² too small, denormals included, which a product corrects exactly. ∞ and NaN keep their exponent of all ones.
  const special = v128.and(i32x4.gt_s(magnitude, constantI32x4((0x7c00 << 13) - 1)), constantI32x4(0x7f800000));
  const value = v128.or(f32x4.mul(magnitude, constantF32x4(2 ** 112)), special);
  return f.let('half', v128.or(value, i32x4.shl(v128.and(given, constantI32x4(0x8000)), 16)));
}

/** The f16 bits of four float32 numbers, as 32-bit lanes 0…65535. Beyond the range: ±∞ (L9). */
export function toFloat16(f: FunctionBuilder, value: Vector): Local<'v128'> {
  const given = f.let('half.value', value);
  const magnitude = f.let('half.magnitude', v128.and(given, constantI32x4(0x7fffffff)));
  // Normal: move the exponent by 15 − 127, and round to even by adding half a step, less one, plus the last kept bit.
  const odd = v128.and(i32x4.shr_u(magnitude, 13), constantI32x4(1));
  const normal = i32x4.shr_u(i32x4.add(i32x4.add(magnitude, constantI32x4(((15 - 127) << 23) + 0xfff)), odd), 13);
  // Denormal: adding ½ makes the adder round at 2⁻²⁴, and leaves the result in the low bits.
  const denormal = i32x4.sub(f32x4.add(magnitude, constantF32x4(0.5)), constantF32x4(0.5));
  const result = f.let('half', v128.bitselect(denormal, normal, i32x4.lt_s(magnitude, constantI32x4(113 << 23))));
  f.set(result, v128.bitselect(constantI32x4(0x7c00), result, i32x4.gt_s(magnitude, constantI32x4((143 << 23) - 1))));
  f.set(result, v128.bitselect(constantI32x4(0x7e00), result, i32x4.gt_s(magnitude, constantI32x4(0x7f800000))));
  f.set(result, v128.or(result, v128.and(i32x4.shr_u(given, 16), constantI32x4(0x8000))));
  return result;
}

/** The float32 values of four bf16 numbers, given as 32-bit lanes 0…65535. */
export function fromBfloat16(bits: Vector): Vector {
  return i32x4.shl(bits, 16);
}

/** The bf16 bits of four float32 numbers, as 32-bit lanes 0…65535. */
export function toBfloat16(f: FunctionBuilder, value: Vector): Local<'v128'> {
  const given = f.let('half.value', value);
  const odd = v128.and(i32x4.shr_u(given, 16), constantI32x4(1));
  const rounded = f.let('half', i32x4.shr_u(i32x4.add(i32x4.add(given, constantI32x4(0x7fff)), odd), 16));
  f.set(rounded, v128.bitselect(rounded, constantI32x4(0x7fc0), f32x4.eq(given, given)));
  return rounded;
}

/** Four numbers from memory as float32. */
export function loadFloats(f: FunctionBuilder, storage: FloatStorage, address: Operand<'i32'>, offset = 0): Vector {
  if (storage === 'f32') return v128.load(address, offset);
  const bits = v128.load16x4_u(address, offset);
  return storage === 'f16' ? fromFloat16(f, bits) : fromBfloat16(bits);
}

/** One number from memory, in all lanes or in lane 0 with zeros behind it. */
export function loadFloat(f: FunctionBuilder, storage: FloatStorage, address: Operand<'i32'>, offset = 0): Vector {
  if (storage === 'f32') return v128.load32_zero(address, offset);
  const bits = i32x4.splat(instructions.i32.load16_u(address, offset));
  return storage === 'f16' ? fromFloat16(f, bits) : fromBfloat16(bits);
}

/** Stores four float32 numbers as `storage`. */
export function storeFloats(f: FunctionBuilder, storage: FloatStorage, address: Operand<'i32'>, value: Vector, offset = 0): void {
  if (storage === 'f32') {
    f.do(v128.store(address, value, offset));
    return;
  }
  f.do(v128.store64_lane(address, narrow(storedBits(f, storage, value)), 0, offset));
}

/** Stores lane 0 as `storage`. */
export function storeFloat(f: FunctionBuilder, storage: FloatStorage, address: Operand<'i32'>, value: Vector, offset = 0): void {
  if (storage === 'f32') f.do(v128.store32_lane(address, value, 0, offset));
  else f.do(v128.store16_lane(address, storedBits(f, storage, value), 0, offset));
}

function storedBits(f: FunctionBuilder, storage: 'f16' | 'bf16', value: Vector): Local<'v128'> {
  return storage === 'f16' ? toFloat16(f, value) : toBfloat16(f, value);
}

/** Lanes 0…65535 as eight 16-bit lanes, twice. */
function narrow(bits: Local<'v128'>): Vector {
  return i16x8.narrow_i32x4_u(bits, bits);
}
