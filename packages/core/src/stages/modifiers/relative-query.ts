import type { UniformValue } from '../../expression/declarations.ts';
import { given, requireInteger } from '../arguments.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

export interface RelativeQueryOptions {
  /** Distances that have a row, from `first` on. A distance outside takes the row at its end. */
  readonly rows: number;
  /** Distance queryPosition − keyPosition of row 0; negative for keys after the query. Default 0. */
  readonly first?: number;
  /** Name of the table of projected encodings W_r R [head, rows, scoreDim]. Default 'relativeRows'. */
  readonly table?: string;
  /** Default true; false shares one table [rows, scoreDim]. */
  readonly perHead?: boolean;
  /** Adds a number for each head and distance, scaled likewise: the table `<table>Bias` [head, rows]. Default false. */
  readonly bias?: boolean;
  /** Factor of what is added, the uniform `relativeQuery.scale`; the score that it joins is scaled already. Default 1/√scoreDim. */
  readonly scale?: UniformValue;
}

/**
 * score + scale · (q'·r[head, d] + c[head, d]) with d = queryPosition − keyPosition (Dai 2019, section 3.3).
 *
 * Transformer-XL is [(q + u)·k + (q + v)·r_d] / √dim: `scaledDot().transformQuery(addRow({ table: 'u', perHead: 'head' })).modify(relativeQuery({ rows, bias: true }))`. The
 * query row that this reads has u in it already, so c is (v − u)·r_d; without `addRow` it is v·r_d, and u·k_j is left out.
 *
 * @throws AttentionError `invalid-argument`
 */
export function relativeQuery(options: RelativeQueryOptions): Modifier {
  const { rows, first = 0, table: name = 'relativeRows', perHead = true, bias = false, scale = 'inverseSqrtDim' } = given(options);
  requireInteger('relativeQuery', 'rows', rows, 1);
  requireInteger('relativeQuery', 'first', first, -(2 ** 30));
  return modifier('relativeQuery', ({ score, head, queryPosition, keyPosition, queryTable, table, uniform }) => {
    const row = queryPosition.sub(keyPosition).sub(first).max(0).min(rows - 1);
    const product = queryTable(name, rows, { perHead }).at(row);
    return score.add(uniform('scale', scale).mul(bias ? product.add(table(`${name}Bias`, ['head', rows]).at(head, row)) : product));
  });
}
