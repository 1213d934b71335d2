import type { Declarations } from '../../expression/declarations.ts';
import { join } from '../../expression/declarations.ts';
import type { Expression } from '../../expression/node.ts';
import type { Modifier } from '../modifiers/modifier.ts';
import type { RowTransform } from '../transforms/transform.ts';

/**
 * How relevant key j is to query i:
 *
 *     score_ij = modify( scale · Σ_channel combine(q'_i, k'_j) )
 *
 * q' and k' are the rows after their transforms; both have the width `scoreDim`. Frozen plain data with methods that make new ones (L2 gives the order).
 */
export class Scoring implements Declarations {
  readonly name: string;
  /** Applied to each query row, first to last. */
  readonly queryTransforms: readonly RowTransform[];
  /** Applied to each key row, first to last. */
  readonly keyTransforms: readonly RowTransform[];
  /** One term of the sum over channels, in the slot `combine`. A product of both elements is a matrix multiply. */
  readonly combine: Expression;
  /** Factor of the sum; a uniform or a constant. */
  readonly scale: Expression;
  /** From the scaled score to the final score, first to last, in the slot `modify`. */
  readonly modifiers: readonly Modifier[];
  readonly uniforms: Declarations['uniforms'];
  readonly tables: Declarations['tables'];

  constructor(data: Omit<Scoring, 'modify' | 'transformQuery' | 'transformKey' | 'transform'>) {
    this.name = data.name;
    this.queryTransforms = Object.freeze([...data.queryTransforms]);
    this.keyTransforms = Object.freeze([...data.keyTransforms]);
    this.combine = data.combine;
    this.scale = data.scale;
    this.modifiers = Object.freeze([...data.modifiers]);
    this.uniforms = data.uniforms;
    this.tables = data.tables;
    Object.freeze(this);
  }

  /** Appends modifiers, first to last. */
  modify(...modifiers: readonly Modifier[]): Scoring {
    return modifiers.reduce<Scoring>((scoring, modifier) => {
      const { declarations, renamed } = join(scoring, modifier);
      return new Scoring({ ...scoring, ...declarations, modifiers: [...scoring.modifiers, renamed] });
    }, this);
  }

  /** Appends transforms of the query rows. */
  transformQuery(...transforms: readonly RowTransform[]): Scoring {
    return transforms.reduce<Scoring>((scoring, transform) => {
      const { declarations, renamed } = join(scoring, transform);
      return new Scoring({ ...scoring, ...declarations, queryTransforms: [...scoring.queryTransforms, renamed] });
    }, this);
  }

  /** Appends transforms of the key rows. */
  transformKey(...transforms: readonly RowTransform[]): Scoring {
    return transforms.reduce<Scoring>((scoring, transform) => {
      const { declarations, renamed } = join(scoring, transform);
      return new Scoring({ ...scoring, ...declarations, keyTransforms: [...scoring.keyTransforms, renamed] });
    }, this);
  }

  /** Appends the same transforms to both; each side keeps its own uniforms. */
  transform(...transforms: readonly RowTransform[]): Scoring {
    return this.transformQuery(...transforms).transformKey(...transforms);
  }
}
