import { AttentionError } from '../../errors.ts';
import type { TableDeclaration } from '../../expression/declarations.ts';
import { write } from '../../expression/scope.ts';
import type { ChunkRule } from '../rule.ts';

export interface InPlaceOptions {
  /** Tokens of one update. Default 1024. */
  readonly chunk?: number;
  /** Step size η. Default 0.3. */
  readonly learningRate?: number;
  /** Width of the depthwise convolution of the targets, odd; null: none. Default 5. */
  readonly taps?: number | null;
  /** Whether targets are multiplied by the table `projection` [valueHead, valueDim, valueDim], as x̂·P. Default false. */
  readonly projection?: boolean;
}

/**
 * In-Place test-time training (Feng 2026): the down-projection of a gated MLP is the fast weight; a chunk reads it, then updates it.
 *
 * query = key = the hidden activations H (after gate ⊙ up), value = the targets X; output = H·Wᵀ. Usually one head.
 * Tables: `weight` [valueHead, width, valueDim], the transpose of a down-projection stored [valueDim, width]; `convolution` [valueDim, taps], correlated (tap n meets token t + n − (taps − 1)/2);
 * `projection`. State: `weight`, and the tokens of an unfinished chunk (see `stateShapes`). Pass documents as packed sequences: each begins with the table.
 *
 * @throws AttentionError `invalid-argument`
 */
export function inPlaceRule(options: InPlaceOptions = {}): ChunkRule {
  const { chunk = 1024, learningRate = 0.3, taps = 5, projection = false } = options;
  if (!Number.isSafeInteger(chunk) || chunk < 1) throw new AttentionError('invalid-argument', `inPlaceRule got a chunk of ${chunk} tokens.`, 'Expected an integer of 1 or more.');
  if (taps !== null && (!Number.isSafeInteger(taps) || taps < 1 || taps % 2 === 0)) throw new AttentionError('invalid-argument', `inPlaceRule got ${taps} taps.`, 'Expected an odd integer of 1 or more, or null.');
  const rate = write('transform', 'inPlace', ({ uniform }) => uniform('learningRate', learningRate));
  const tables: Record<string, TableDeclaration> = { weight: { type: 'f32', axes: ['valueHead', 'scoreDim', 'valueDim'] } };
  if (taps !== null) tables.convolution = { type: 'f32', axes: ['valueDim', taps] };
  if (projection) tables.projection = { type: 'f32', axes: ['valueHead', 'valueDim', 'valueDim'] };
  return Object.freeze({ kind: 'chunk', name: 'inPlace', steps: Object.freeze(['read', 'write'] as const), chunk, taps, projection, rate: rate.expression, uniforms: rate.uniforms, tables: Object.freeze(tables) });
}
