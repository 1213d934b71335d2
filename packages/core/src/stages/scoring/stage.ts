import type { Term } from '../../expression/build.ts';
import type { Declarations, UniformValue } from '../../expression/declarations.ts';
import { join } from '../../expression/declarations.ts';
import type { Expression } from '../../expression/node.ts';
import type { Scope } from '../../expression/scope.ts';
import { write } from '../../expression/scope.ts';
import type { Modifier } from '../modifiers/modifier.ts';
import type { RowTransform } from '../transforms/transform.ts';

/** The fields of a {@link Scoring}. */
export type ScoringData = Omit<Scoring, 'modify' | 'transformQuery' | 'transformKey' | 'transform'>;

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

  constructor(data: ScoringData) {
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
      const { declarations, renamed } = join(scoring, modifier, 'expression');
      return changed(scoring, { ...declarations, modifiers: [...scoring.modifiers, renamed] });
    }, this);
  }

  /** Appends transforms of the query rows. */
  transformQuery(...transforms: readonly RowTransform[]): Scoring {
    return transforms.reduce<Scoring>((scoring, transform) => {
      const { declarations, renamed } = join(scoring, transform, 'kind');
      return changed(scoring, { ...declarations, queryTransforms: [...scoring.queryTransforms, renamed] });
    }, this);
  }

  /** Appends transforms of the key rows. */
  transformKey(...transforms: readonly RowTransform[]): Scoring {
    return transforms.reduce<Scoring>((scoring, transform) => {
      const { declarations, renamed } = join(scoring, transform, 'kind');
      return changed(scoring, { ...declarations, keyTransforms: [...scoring.keyTransforms, renamed] });
    }, this);
  }

  /** Appends the same transforms to both; each side keeps its own uniforms. */
  transform(...transforms: readonly RowTransform[]): Scoring {
    return this.transformQuery(...transforms).transformKey(...transforms);
  }
}

function changed(scoring: Scoring, changes: Partial<ScoringData>): Scoring {
  const { name, queryTransforms, keyTransforms, combine, scale, modifiers, uniforms, tables } = scoring;
  return new Scoring({ name, queryTransforms, keyTransforms, combine, scale, modifiers, uniforms, tables, ...changes });
}

/** What every scoring takes. */
export interface ScaleOptions {
  /** Factor of the sum over channels, the uniform `scale`. */
  readonly scale?: UniformValue;
}

/**
 * A scoring of the user's own: scale · Σ_channel combine(q'_channel, k'_channel). `scale` is 1/√scoreDim unless given.
 *
 *     const manhattan = scoring('manhattan', ({ queryElement, keyElement }) => queryElement.sub(keyElement).abs().neg());
 *
 * @throws AttentionError `invalid-expression`, `invalid-uniform`
 */
export function scoring(name: string, author: (scope: Scope<'combine'>) => Term<'f32'>, options: ScaleOptions = {}): Scoring {
  const combine = write('combine', name, author);
  const scale = write('combine', '', ({ uniform }) => uniform('scale', options.scale ?? 'inverseSqrtDim'));
  const { declarations, renamed } = join(combine, scale);
  return new Scoring({ ...declarations, name, queryTransforms: [], keyTransforms: [], combine: combine.expression, scale: renamed.expression, modifiers: [] });
}
