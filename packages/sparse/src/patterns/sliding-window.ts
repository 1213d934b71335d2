import { window, type WindowOptions } from '@heed/core';
import { patternOf, type Pattern } from './pattern.ts';

/**
 * Keys around the query's position, `left` before it and `right` after it, neither counting it (L4). `right: 0` is the causal window; decoding needs the last `left` keys.
 * @throws AttentionError `invalid-argument`
 */
export function slidingWindow(options: WindowOptions): Pattern {
  return patternOf(window(options), 'slidingWindow');
}
