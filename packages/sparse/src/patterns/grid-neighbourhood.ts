import { neighbourhood, type NeighbourhoodOptions } from '@heed/core';
import { patternOf, type Pattern } from './pattern.ts';

/**
 * Cells around the query's on a grid of one, two or three axes (Hassani 2022): at an edge the window is shifted, not cut. Positions count cells row by row.
 * @throws AttentionError `invalid-argument`
 */
export function gridNeighbourhood(options: NeighbourhoodOptions): Pattern {
  return patternOf(neighbourhood(options), 'gridNeighbourhood');
}
