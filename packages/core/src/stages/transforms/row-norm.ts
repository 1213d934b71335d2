import type { Axis, Declarations } from '../../expression/declarations.ts';
import { join, noDeclarations } from '../../expression/declarations.ts';
import type { Formula } from '../../expression/scope.ts';
import { write } from '../../expression/scope.ts';
import { positive, requirePositive } from '../arguments.ts';
import type { RowNorm } from './transform.ts';

/** What every norm of rows takes. */
export interface RowNormOptions {
  /** Keeps the divisor away from 0; the uniform `<norm>.epsilon`. */
  readonly epsilon?: number;
  /** Name of a table of factors, one for each channel, shared by all heads. Default: none. */
  readonly weight?: string;
  /** Size of the last axis of `weight` and `bias`: 'queryDim', 'keyDim', a number or any name. Default 'scoreDim', the width of the rows when nothing after the norm changes it. */
  readonly axis?: Axis;
}

/** The parts that the three norms share. */
export function rowNorm(
  norm: RowNorm['norm'],
  name: string,
  epsilon: number,
  options: RowNormOptions & { readonly onePlusWeight?: boolean; readonly bias?: string },
): RowNorm {
  requirePositive(name, 'epsilon', epsilon);
  const { weight, bias, onePlusWeight = false, axis = 'scoreDim' } = options;
  const least = write('transform', name, ({ uniform }) => uniform('epsilon', epsilon, 'f32', positive));
  const channelTable = (table: string | undefined, plus: boolean): Formula | null => (table === undefined ? null : write('transform', name, (scope) => {
    const read = scope.table(table, [axis]).at(scope.channel);
    return plus ? read.add(1) : read;
  }));
  const gain = channelTable(weight, onePlusWeight);
  const shift = channelTable(bias, false);
  const declared = [gain, shift].reduce<Declarations>((sum, formula) => join(sum, formula ?? noDeclarations).declarations, least);
  const { uniforms, tables } = declared;
  return Object.freeze({ kind: 'norm', name, norm, epsilon: least.expression, gain: gain?.expression ?? null, shift: shift?.expression ?? null, uniforms, tables });
}
