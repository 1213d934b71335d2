import { isAttentionError, toFloat64, type Backend } from '@heed/core';
import { describe, expect, test } from 'vitest';
import { addPositions, leftPaddedPositions, ropeFrequencies, sinusoidalPositions } from '../src/index.ts';
import { backends, close, elements, expectClose, Random } from './support.ts';

const code = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return isAttentionError(error) ? error.code : String(error);
  }
  return 'none';
};

describe('sinusoidal positions', () => {
  // Vaswani 2017, section 3.5.
  test('are sin and cos of p · 10000^(−2i/dim), side by side or all sines first', () => {
    const side = toFloat64(sinusoidalPositions({ length: 5, dim: 6 }));
    const halves = toFloat64(sinusoidalPositions({ length: 5, dim: 6, order: 'concatenated' }));
    for (let p = 0; p < 5; p++) {
      for (let i = 0; i < 3; i++) {
        const angle = p / 10000 ** (i / 3);
        expect(side[p * 6 + 2 * i]).toBeCloseTo(Math.sin(angle), 6);
        expect(side[p * 6 + 2 * i + 1]).toBeCloseTo(Math.cos(angle), 6);
        expect(halves[p * 6 + i]).toBeCloseTo(Math.sin(angle), 6);
        expect(halves[p * 6 + 3 + i]).toBeCloseTo(Math.cos(angle), 6);
      }
    }
  });

  // PE[p + Δ] is a rotation of PE[p] that does not depend on p.
  test('move by rotations', () => {
    const rows = toFloat64(sinusoidalPositions({ length: 40, dim: 8 }));
    for (let pair = 0; pair < 4; pair++) {
      const angle = 7 / 10000 ** (pair / 4);
      for (const p of [0, 5, 30]) {
        const [sine, cosine] = [rows[p * 8 + 2 * pair]!, rows[p * 8 + 2 * pair + 1]!];
        expect(rows[(p + 7) * 8 + 2 * pair]).toBeCloseTo(sine * Math.cos(angle) + cosine * Math.sin(angle), 5);
      }
    }
  });

  test('refuse sizes that are none', () => {
    expect([code(() => sinusoidalPositions({ length: -1, dim: 4 })), code(() => sinusoidalPositions({ length: 3, dim: 0.5 }))]).toEqual(['invalid-argument', 'invalid-argument']);
  });
});

describe('frequencies of rotary positions', () => {
  const of = (options: Parameters<typeof ropeFrequencies>[0]): number[] => Array.from(toFloat64(ropeFrequencies(options).frequencies));

  test('are base^(−2m/width), divided by the factor under linear scaling', () => {
    expectClose(of({ width: 8 }), [1, 0.1, 0.01, 0.001], 1e-6);
    expectClose(of({ width: 8, scaling: { kind: 'linear', factor: 4 } }), [0.25, 0.025, 0.0025, 0.00025], 1e-6);
  });

  test('NTK leaves the highest and divides the lowest by the factor', () => {
    const scaled = of({ width: 64, scaling: { kind: 'ntk', factor: 8 } });
    const plain = of({ width: 64 });
    expect(scaled[0]).toBe(1);
    expect(plain[31]! / scaled[31]!).toBeCloseTo(8, 4);
  });

  // Peng 2023, section 3: turns over 4096 positions below 1 are interpolated, above 32 left; the magnitude at 32 is 1.3466.
  test('YaRN leaves fast channels, divides slow ones, and grows the rows', () => {
    const { magnitude } = ropeFrequencies({ width: 128, scaling: { kind: 'yarn', factor: 32, originalLength: 4096 } });
    expect(magnitude).toBeCloseTo(1.3466, 4);
    const [scaled, plain] = [of({ width: 128, scaling: { kind: 'yarn', factor: 32, originalLength: 4096 } }), of({ width: 128 })];
    for (const [pair, frequency] of plain.entries()) {
      const turns = (4096 * frequency) / (2 * Math.PI);
      const ratio = frequency / scaled[pair]!;
      // The ends of the ramp are at whole channels, so only what is past the next one is surely beyond.
      if (turns > 32 * 10000 ** (1 / 64)) expect(ratio).toBeCloseTo(1, 5);
      else if (turns < 10000 ** (-1 / 64)) expect(ratio).toBeCloseTo(32, 3);
      else expect(ratio >= 0.99999 && ratio <= 32.001).toBe(true);
    }
  });

  // Llama 3.1: wavelengths below 8192/4 stay, above 8192/1 are eight times as long.
  test('Llama 3 scales by wavelength', () => {
    const [scaled, plain] = [of({ width: 128, base: 500000, scaling: { kind: 'llama3', factor: 8, originalLength: 8192 } }), of({ width: 128, base: 500000 })];
    for (const [pair, frequency] of plain.entries()) {
      const wavelength = (2 * Math.PI) / frequency;
      const ratio = frequency / scaled[pair]!;
      if (wavelength < 2048) expect(ratio).toBeCloseTo(1, 5);
      else if (wavelength > 8192) expect(ratio).toBeCloseTo(8, 4);
      else expect(ratio > 1 && ratio < 8).toBe(true);
    }
  });

  test('refuse odd widths and factors below 1', () => {
    expect([code(() => of({ width: 3 })), code(() => of({ width: 4, base: 0 })), code(() => of({ width: 4, scaling: { kind: 'linear', factor: 0.5 } }))]).toEqual(['invalid-argument', 'invalid-argument', 'invalid-argument']);
  });
});

describe('learned positions', () => {
  test.each(['reference', 'cpu'] as const)('are added by position, on %s', async (name) => {
    const backend: Backend = await backends[name]();
    const random = new Random(100);
    const [x, table] = [random.tensor([2, 3, 4]), random.tensor([9, 4])];
    const want = (first: readonly number[], offset: number): Float64Array => Float64Array.from(toFloat64(x), (value, index) => value + toFloat64(table)[(Math.max(0, first[Math.floor(index / 12)]! + (Math.floor(index / 4) % 3)) + offset) * 4 + (index % 4)]!);
    expectClose(await elements(await addPositions(backend.runtime, x, table)), want([0, 0], 0));
    expectClose(await elements(await addPositions(backend.runtime, x, table, { position: [-2, 4], offset: 2 })), want([-2, 4], 2));
    await expect(addPositions(backend.runtime, x, table, { position: 7 })).rejects.toMatchObject({ code: 'invalid-positions' });
    await close(backend);
  });

  test('padding on the left is before position 0', () => {
    expect(leftPaddedPositions([3, 5, 0], 5)).toEqual([-2, 0, -5]);
    expect(code(() => leftPaddedPositions([6], 5))).toBe('invalid-lengths');
  });
});
