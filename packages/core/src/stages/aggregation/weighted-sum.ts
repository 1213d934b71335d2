import { input } from '../../expression/build.ts';
import { noDeclarations } from '../../expression/declarations.ts';
import { Aggregation } from './stage.ts';

/** Σ_j w_ij v_j. */
export function weightedSum(): Aggregation {
  return new Aggregation({ ...noDeclarations, name: 'weightedSum', reduction: 'sum', prepare: input('value').node, finish: input('output').node });
}
