import type { Term } from '../../expression/build.ts';
import type { Declarations } from '../../expression/declarations.ts';
import type { Expression } from '../../expression/node.ts';
import type { Scope } from '../../expression/scope.ts';
import { write } from '../../expression/scope.ts';

/** A step from one score to the next. */
export interface Modifier extends Declarations {
  readonly name: string;
  /** In the slot `modify`: reads `score`. */
  readonly expression: Expression;
}

/**
 * A modifier of the user's own.
 *
 *     const distance = modifier('distance', ({ score, head, queryPosition, keyPosition, table }) =>
 *       score.sub(table('slopes', ['head']).at(head).mul(queryPosition.sub(keyPosition).toF32())));
 *
 * @throws AttentionError `invalid-expression`
 */
export function modifier(name: string, author: (scope: Scope<'modify'>) => Term<'f32'>): Modifier {
  return Object.freeze({ name, ...write('modify', name, author) });
}
