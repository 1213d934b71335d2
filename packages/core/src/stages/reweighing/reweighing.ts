import type { Term } from '../../expression/build.ts';
import type { Formula, Scope } from '../../expression/scope.ts';
import { write } from '../../expression/scope.ts';

/**
 * A reweighing of the user's own, for `normalization.reweighBy`: from the normalized weight to the weight used. One that is not linear in the weight makes
 * the variant refuse to merge (L13).
 *
 *     const halved = reweighing('halved', ({ weight }) => weight.mul(0.5));
 *
 * @throws AttentionError `invalid-expression`
 */
export function reweighing(name: string, author: (scope: Scope<'reweigh'>) => Term<'f32'>): Formula {
  return write('reweigh', name, author);
}
