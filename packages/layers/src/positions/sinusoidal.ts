import { AttentionError, tensor, type HostTensor } from '@heed/core';

export interface SinusoidalOptions {
  /** Rows of the table: positions 0 … length − 1. */
  readonly length: number;
  /** Width of a row. */
  readonly dim: number;
  /** Default 10000. */
  readonly base?: number;
  /** interleaved (default): sine and cosine of one frequency side by side (Vaswani 2017); concatenated: all sines, then all cosines (tensor2tensor). Trained weights fit one of them. */
  readonly order?: 'interleaved' | 'concatenated';
}

/**
 * Fixed encodings of absolute positions, [length, dim]: sin(p · base^(−2i/dim)) and cos of the same (Vaswani 2017, section 3.5). An odd dim ends with a sine.
 * @throws AttentionError `invalid-argument`
 */
export function sinusoidalPositions({ length, dim, base = 10000, order = 'interleaved' }: SinusoidalOptions): HostTensor {
  for (const [name, value, least] of [['length', length, 0], ['dim', dim, 1]] as const) {
    if (!Number.isSafeInteger(value) || value < least) throw new AttentionError('invalid-argument', `sinusoidalPositions got ${name} ${value}.`, `Expected an integer of ${least} or more.`);
  }
  const sines = Math.ceil(dim / 2);
  const table = new Float32Array(length * dim);
  for (let position = 0; position < length; position++) {
    for (let channel = 0; channel < dim; channel++) {
      const isSine = order === 'interleaved' ? channel % 2 === 0 : channel < sines;
      const pair = order === 'interleaved' ? Math.floor(channel / 2) : channel % sines;
      const angle = position * base ** ((-2 * pair) / dim);
      table[position * dim + channel] = isSine ? Math.sin(angle) : Math.cos(angle);
    }
  }
  return tensor(table, [length, dim]);
}
