import { given, positive } from '../arguments.ts';
import { AttentionError } from '../../errors.ts';
import type { TableDeclaration } from '../../expression/declarations.ts';
import { join } from '../../expression/declarations.ts';
import { write } from '../../expression/scope.ts';
import type { Rope } from './transform.ts';

export interface RopeOptions {
  /** half: channel m turns with m + width/2 (Llama, NeoX); interleaved: 2m with 2m + 1 (GPT-J, DeepSeek's MLA). No default: mistaking one for the other fails silently. */
  readonly pairing: 'half' | 'interleaved';
  /** Channels that are turned, even; the rest is left alone. Default: the whole row. */
  readonly width?: number;
  /** Default 10000. */
  readonly base?: number;
  /** Name of a table [width/2] of frequencies, radians per position, instead of base^(−2m/width). */
  readonly frequencies?: string;
  /** Factor of the turned channels (YaRN). Default 1. */
  readonly magnitude?: number;
}

/**
 * Rotary positions (Su 2021, equation 34): (a, b) → (a cos pθ − b sin pθ, a sin pθ + b cos pθ).
 * @throws AttentionError `invalid-argument`
 */
export function rope(options: RopeOptions): Rope {
  const { pairing, width, base = 10000, frequencies, magnitude = 1 } = given(options);
  // A caller without types may leave it out.
  const turned: unknown = pairing;
  if (turned !== 'half' && turned !== 'interleaved') throw new AttentionError('invalid-argument', `rope got pairing ${String(turned)}.`, "Expected 'half' or 'interleaved'.");
  if (width !== undefined && (!Number.isSafeInteger(width) || width < 2 || width % 2 === 1)) {
    throw new AttentionError('invalid-argument', `rope got width ${width}.`, 'Expected an even integer of 2 or more.');
  }
  const baseFormula = write('transform', 'rope', ({ uniform }) => uniform('base', base, 'f32', positive));
  const magnitudeFormula = write('transform', 'rope', ({ uniform }) => uniform('magnitude', magnitude));
  const tables: Record<string, TableDeclaration> = frequencies === undefined ? {} : { [frequencies]: { type: 'f32', axes: [width === undefined ? `${frequencies}Pairs` : width / 2] } };
  return Object.freeze({
    kind: 'rope',
    name: 'rope',
    pairing,
    width: width ?? null,
    base: baseFormula.expression,
    frequencies: frequencies ?? null,
    magnitude: magnitudeFormula.expression,
    uniforms: join(baseFormula, magnitudeFormula).declarations.uniforms,
    tables,
  });
}
