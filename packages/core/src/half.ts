/** Value of 16 bits of IEEE 754 binary16. */
export function decodeFloat16(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Nearest binary16, ties to even; overflow is ±∞, NaN stays NaN. Rounds once, from float64. */
export function encodeFloat16(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | roundToEven(magnitude * 2 ** 24);
  const exponent = exponentOf(magnitude);
  const scaled = roundToEven(magnitude * 2 ** (10 - exponent));
  return sign | (((exponent + 15) << 10) + scaled - 1024);
}

/** Value of 16 bits of bfloat16, the upper half of a float32. */
export function decodeBfloat16(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 7) & 255;
  const fraction = half & 127;
  if (exponent === 0) return sign * fraction * 2 ** -133;
  if (exponent === 255) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (1 + fraction / 128) * 2 ** (exponent - 127);
}

/** Nearest bfloat16, ties to even; overflow is ±∞, NaN stays NaN. Rounds once, from float64. */
export function encodeBfloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (magnitude < 2 ** -126) return sign | roundToEven(magnitude * 2 ** 133);
  const exponent = exponentOf(magnitude);
  const scaled = roundToEven(magnitude * 2 ** (7 - exponent));
  const encoded = ((exponent + 127) << 7) + scaled - 128;
  return sign | Math.min(encoded, 0x7f80);
}

/** floor(log2(magnitude)) of a positive number that is normal in the target type. */
function exponentOf(magnitude: number): number {
  if (magnitude === Infinity) return 128;
  const guess = Math.floor(Math.log2(magnitude));
  if (2 ** guess > magnitude) return guess - 1;
  return 2 ** (guess + 1) <= magnitude ? guess + 1 : guess;
}

function roundToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest > 0.5 || (rest === 0.5 && below % 2 === 1)) return below + 1;
  return below;
}
