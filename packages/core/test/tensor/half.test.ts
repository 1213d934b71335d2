import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeBfloat16, decodeFloat16, encodeBfloat16, encodeFloat16 } from '../../src/half.ts';

// The oracles are the engine's own Float16Array, and for bfloat16 the upper half of a Float32Array.
const halves = new Float16Array(1);
const halfBits = new Uint16Array(halves.buffer);
const singles = new Float32Array(1);
const singleBits = new Uint32Array(singles.buffer);

function engineHalf(bits: number): number {
  halfBits[0] = bits;
  return halves[0]!;
}

function engineBfloat(bits: number): number {
  singleBits[0] = bits * 2 ** 16;
  return singles[0]!;
}

const codes = Array.from({ length: 2 ** 16 }, (_, code) => code);

/** Nearest of two neighbouring codes, the even one on a tie: rounding by definition. */
function nearest(value: number, below: number, above: number, valueOf: (code: number) => number): number {
  const [down, up] = [value - valueOf(below), valueOf(above) - value];
  return down < up || (down === up && below % 2 === 0) ? below : above;
}

describe('binary16', () => {
  test('decodes every code as the engine does', () => {
    expect(codes.filter((code) => !Object.is(decodeFloat16(code), engineHalf(code)))).toEqual([]);
  });

  test('encodes every code back to itself, and NaN to a NaN', () => {
    const changed = codes.filter((code) => encodeFloat16(engineHalf(code)) !== code);
    expect(changed.every((code) => Number.isNaN(engineHalf(code)))).toBe(true);
    expect(Number.isNaN(engineHalf(encodeFloat16(Number.NaN)))).toBe(true);
  });

  test('rounds the middle between any two codes to even, and just beside it to the nearer', () => {
    const wrong: number[] = [];
    for (let code = 0; code < 0x7c00; code++) {
      const low = engineHalf(code);
      // Past the largest number the next step would be 65536.
      const high = code === 0x7bff ? 65536 : engineHalf(code + 1);
      const middle = (low + high) / 2;
      const step = middle * 2 ** -40 + 2 ** -60;
      for (const value of [middle, middle - step, middle + step]) {
        halves[0] = value;
        for (const sign of [0, 0x8000]) if (encodeFloat16(sign === 0 ? value : -value) !== (halfBits[0]! | sign)) wrong.push(value);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('encodes any number as the engine does', () => {
    fc.assert(
      fc.property(fc.oneof(fc.double(), fc.float(), fc.double({ min: -70000, max: 70000 }), fc.double({ min: -1e-4, max: 1e-4 })), (value) => {
        halves[0] = value;
        expect(encodeFloat16(value)).toBe(Number.isNaN(value) ? 0x7e00 : halfBits[0]);
      }),
      { numRuns: 5000 },
    );
  });
});

describe('bfloat16', () => {
  test('decodes every code as the upper half of a float32', () => {
    expect(codes.filter((code) => !Object.is(decodeBfloat16(code), engineBfloat(code)))).toEqual([]);
  });

  test('encodes every code back to itself, and NaN to a NaN', () => {
    const changed = codes.filter((code) => encodeBfloat16(engineBfloat(code)) !== code);
    expect(changed.every((code) => Number.isNaN(engineBfloat(code)))).toBe(true);
    expect(Number.isNaN(engineBfloat(encodeBfloat16(Number.NaN)))).toBe(true);
  });

  test('rounds the middle between any two codes to even, and just beside it to the nearer', () => {
    const valueOf = (code: number): number => (code === 0x7f80 ? 2 ** 128 : engineBfloat(code));
    const wrong: number[] = [];
    for (let code = 0; code < 0x7f80; code++) {
      const middle = (valueOf(code) + valueOf(code + 1)) / 2;
      for (const value of [middle, middle * (1 - 2 ** -40), middle * (1 + 2 ** -40)]) {
        const expected = nearest(value, code, code + 1, valueOf);
        if (encodeBfloat16(value) !== expected || encodeBfloat16(-value) !== (expected | 0x8000)) wrong.push(value);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('rounds a float32 as adding half of the last place to its bits does', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true }), (value) => {
        singles[0] = value;
        const bits = singleBits[0]!;
        expect(encodeBfloat16(value)).toBe(Number.isFinite(value) ? (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16 : bits >>> 16);
      }),
      { numRuns: 5000 },
    );
  });

  test('L9: overflows to infinity', () => {
    expect([1e39, -1e39, Infinity].map((value) => decodeBfloat16(encodeBfloat16(value)))).toEqual([Infinity, -Infinity, Infinity]);
    expect([65520, -65520, 65519].map((value) => decodeFloat16(encodeFloat16(value)))).toEqual([Infinity, -Infinity, 65504]);
  });
});
