import { constant, operation } from '../../expression/build.ts';
import type { Term } from '../../expression/build.ts';
import type { Declarations } from '../../expression/declarations.ts';
import { join, noDeclarations } from '../../expression/declarations.ts';
import type { Expression } from '../../expression/node.ts';
import type { Scope } from '../../expression/scope.ts';
import { write } from '../../expression/scope.ts';
import { simplify } from '../../expression/simplify.ts';

/**
 * Which edges of the graph exist: key j → query i, true = may attend (L10, L17). Integers and booleans only, so that every backend decides alike.
 * Frozen plain data with methods that make new ones.
 */
export class Masking implements Declarations {
  readonly name: string;
  /** In the slot `mask`. */
  readonly allowed: Expression;
  readonly uniforms: Declarations['uniforms'];
  readonly tables: Declarations['tables'];

  constructor(data: Omit<Masking, 'and' | 'or' | 'not'>) {
    this.name = data.name;
    this.allowed = data.allowed;
    this.uniforms = data.uniforms;
    this.tables = data.tables;
    Object.freeze(this);
  }

  /** Both must allow. */
  and(other: Masking): Masking {
    return combine('and', this, other);
  }

  /** One must allow. */
  or(other: Masking): Masking {
    return combine('or', this, other);
  }

  /** What this one does not allow. */
  not(): Masking {
    const { uniforms, tables } = this;
    return new Masking({ uniforms, tables, name: `not(${this.name})`, allowed: simplify(operation('not', [this.allowed])) });
  }
}

function combine(operator: 'and' | 'or', left: Masking, right: Masking): Masking {
  const { declarations, renamed } = join(left, right, 'allowed');
  return new Masking({ ...declarations, name: `${operator}(${left.name}, ${right.name})`, allowed: simplify(operation(operator, [left.allowed, renamed.allowed])) });
}

/**
 * A mask of the user's own: true = may attend.
 *
 *     const sameParity = mask('sameParity', ({ queryPosition, keyPosition }) => queryPosition.sub(keyPosition).mod(2).eq(0));
 *
 * @throws AttentionError `invalid-expression`, also when it reads an f32
 */
export function mask(name: string, author: (scope: Scope<'mask'>) => Term<'bool'>): Masking {
  const { expression, uniforms, tables } = write('mask', name, author);
  return new Masking({ name, allowed: expression, uniforms, tables });
}

/** Every query sees every key. */
export function full(): Masking {
  return new Masking({ ...noDeclarations, name: 'full', allowed: constant(true).node });
}
