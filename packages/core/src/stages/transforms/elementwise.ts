import type { Term } from '../../expression/build.ts';
import type { Scope } from '../../expression/scope.ts';
import { write } from '../../expression/scope.ts';
import type { Elementwise } from './transform.ts';

/**
 * A row transform of the user's own that changes each channel by itself.
 *
 *     const squared = elementwise('squared', ({ element }) => element.mul(element));
 *
 * @throws AttentionError `invalid-expression`
 */
export function elementwise(name: string, author: (scope: Scope<'transform'>) => Term<'f32'>): Elementwise {
  return Object.freeze({ kind: 'elementwise', name, ...write('transform', name, author) });
}
