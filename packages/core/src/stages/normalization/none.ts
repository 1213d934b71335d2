import type { Normalization } from './stage.ts';
import { normalization } from './stage.ts';

/** The weight is the score itself: linear attention without a denominator. */
export function none(): Normalization {
  return normalization('none', ({ score }) => score);
}
