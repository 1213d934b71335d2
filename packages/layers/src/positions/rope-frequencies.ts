import { AttentionError, tensor, type HostTensor } from '@heed/core';

export interface RopeFrequencyOptions {
  /** Channels that are turned, even; of two share a frequency. */
  readonly width: number;
  /** Default 10000. */
  readonly base?: number;
  /** How positions beyond the trained ones are brought within them. Default: not at all. */
  readonly scaling?: RopeScaling;
}

export type RopeScaling =
  /** Every frequency divided by `factor`: positions p/factor (Chen 2023). */
  | { readonly kind: 'linear'; readonly factor: number }
  /** base · factor^(width/(width − 2)): the lowest frequency is divided by `factor`, the highest stays (bloc97 2023). */
  | { readonly kind: 'ntk'; readonly factor: number }
  /**
   * Frequencies that turn more than `fastTurns` times over the original context stay, those that turn less than `slowTurns` times are divided by `factor`, with a ramp over the
   * channels in between (Peng 2023). Turned rows grow by `magnitude` = 0.1 ln(factor) + 1, so scores by its square.
   */
  | {
      readonly kind: 'yarn';
      readonly factor: number;
      readonly originalLength: number;
      /** Default 32. */
      readonly fastTurns?: number;
      /** Default 1. */
      readonly slowTurns?: number;
      /** Ends of the ramp at whole channels (DeepSeek); gpt-oss leaves them where they fall. Default true. */
      readonly wholeChannels?: boolean;
      /** Replaces 0.1 ln(factor) + 1; 1 where the softmax scale has it instead (DeepSeek). */
      readonly magnitude?: number;
    }
  /**
   * Wavelengths below originalLength/highFactor stay, those above originalLength/lowFactor are multiplied by `factor`, with a ramp over frequencies in between (Llama 3.1).
   */
  | { readonly kind: 'llama3'; readonly factor: number; readonly originalLength: number; readonly lowFactor?: number; readonly highFactor?: number };

export interface RopeFrequencies {
  /** Radians per position, [width/2]: the table that `rope({ frequencies: 'frequencies' })` reads. */
  readonly frequencies: HostTensor;
  /** What `rope({ magnitude })` takes. */
  readonly magnitude: number;
}

/**
 * Frequencies of rotary positions, base^(−2m/width) (Su 2021, section 3.2.2), scaled for contexts that are longer than the trained ones. Computed in float64.
 *
 *     const { frequencies, magnitude } = ropeFrequencies({ width: 64, scaling: { kind: 'yarn', factor: 32, originalLength: 4096 } });
 *     scaledDot().transform(rope({ pairing: 'half', width: 64, frequencies: 'frequencies', magnitude }))   // and tables: { frequencies }
 *
 * @throws AttentionError `invalid-argument`
 */
export function ropeFrequencies({ width, base = 10000, scaling }: RopeFrequencyOptions): RopeFrequencies {
  if (!Number.isSafeInteger(width) || width < 2 || width % 2 === 1) throw invalid('width', width, 'an even integer of 2 or more');
  if (!(base > 0)) throw invalid('base', base, 'a positive number');
  if (scaling !== undefined && !(scaling.factor >= 1)) throw invalid('scaling.factor', scaling.factor, 'a number of 1 or more');
  const pairs = Array.from({ length: width / 2 }, (_, pair) => pair);
  const plain = pairs.map((pair) => base ** ((-2 * pair) / width));
  const of = (values: readonly number[], magnitude: number = 1): RopeFrequencies => ({ frequencies: tensor(Float32Array.from(values), [width / 2]), magnitude });
  switch (scaling?.kind) {
    case undefined:
      return of(plain);
    case 'linear':
      return of(plain.map((frequency) => frequency / scaling.factor));
    case 'ntk':
      return of(pairs.map((pair) => (base * scaling.factor ** (width / Math.max(2, width - 2))) ** ((-2 * pair) / width)));
    case 'yarn': {
      const { factor, originalLength, fastTurns = 32, slowTurns = 1, wholeChannels = true } = scaling;
      // Pair whose frequency turns so often over the original context.
      const pairTurning = (turns: number): number => (width * Math.log(originalLength / (turns * 2 * Math.PI))) / (2 * Math.log(base));
      const [low, high] = [pairTurning(fastTurns), pairTurning(slowTurns)].map((pair, end) => (wholeChannels ? (end === 0 ? Math.floor(pair) : Math.ceil(pair)) : pair)) as [number, number];
      const [first, last] = [Math.max(low, 0), Math.min(high, width - 1)];
      const blended = plain.map((frequency, pair) => {
        const slow = Math.min(1, Math.max(0, (pair - first) / Math.max(last - first, 0.001)));
        return frequency * (1 - slow) + (frequency / factor) * slow;
      });
      return of(blended, scaling.magnitude ?? 0.1 * Math.log(factor) + 1);
    }
    case 'llama3': {
      const { factor, originalLength, lowFactor = 1, highFactor = 4 } = scaling;
      return of(
        plain.map((frequency) => {
          const turns = (originalLength * frequency) / (2 * Math.PI);
          const fast = Math.min(1, Math.max(0, (turns - lowFactor) / (highFactor - lowFactor)));
          return frequency * fast + (frequency / factor) * (1 - fast);
        }),
      );
    }
  }
}

function invalid(name: string, value: number, expected: string): AttentionError {
  return new AttentionError('invalid-argument', `ropeFrequencies got ${name} ${value}.`, `Expected ${expected}.`);
}
