import { write } from '../../expression/scope.ts';
import type { Normalization } from './stage.ts';
import { normalizeBy } from './stage.ts';

/** 1 at the largest score, the lower key index on ties, and 0 elsewhere; the limit of softmax as the temperature falls to 0. Scores get no gradient. */
export function hardMax(): Normalization {
  return normalizeBy('hardMax', write('normalize', 'hardMax', ({ score }) => score), (score) => ({ kind: 'hardMax', score }));
}
