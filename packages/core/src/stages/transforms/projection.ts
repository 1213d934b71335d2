import type { Axis, TableDeclaration } from '../../expression/declarations.ts';
import { given, requireInteger } from '../arguments.ts';
import type { Projection } from './transform.ts';

export interface ProjectionOptions {
  /** Width of the projected rows. */
  readonly width: number;
  /** Name of the matrix [width, dim], or [heads, width, dim] with `perHead`. Default 'projection'. */
  readonly table?: string;
  /** Adds a table `<table>Bias` [width], or [heads, width]. Default false. */
  readonly bias?: boolean;
  /** One matrix for each head of the rows: 'head' for queries, 'keyHead' for keys. Default: one for all. */
  readonly perHead?: 'head' | 'keyHead' | undefined;
  /** Name of the matrix's last axis, for the size check: 'queryDim', 'keyDim' or any name. Default: free. */
  readonly axis?: Axis;
}

/**
 * row ← W · row (+ bias).
 * @throws AttentionError `invalid-argument` when width is no positive integer
 */
export function projection(options: ProjectionOptions): Projection {
  const { width, table = 'projection', perHead } = given(options);
  requireInteger('projection', 'width', width, 1);
  const heads: readonly Axis[] = perHead === undefined ? [] : [perHead];
  const bias = options.bias === true ? `${table}Bias` : null;
  const tables: Record<string, TableDeclaration> = { [table]: { type: 'f32', axes: [...heads, width, options.axis ?? `${table}Input`] } };
  if (bias !== null) tables[bias] = { type: 'f32', axes: [...heads, width] };
  return Object.freeze({ kind: 'projection', name: 'projection', table, bias, perHead: perHead !== undefined, width, uniforms: {}, tables });
}
