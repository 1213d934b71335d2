import { dilated, type DilatedOptions } from '@heed/core';
import { patternOf, type Pattern } from './pattern.ts';

/**
 * `keys` keys, `dilation` positions apart, back from the query's own (Beltagy 2020, section 3.1). Tiles are left out where their distances hold no multiple of the dilation, so they have to be
 * smaller than that: positions side by side are of different residues.
 *
 * @throws AttentionError `invalid-argument`
 */
export function dilatedWindow(options: DilatedOptions): Pattern {
  return patternOf(dilated(options), 'dilatedWindow');
}
