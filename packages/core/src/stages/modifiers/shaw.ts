import type { UniformValue } from '../../expression/declarations.ts';
import { given, requireInteger } from '../arguments.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

export interface ShawOptions {
  /** Offsets beyond ±maxOffset share the vector at the end. */
  readonly maxOffset: number;
  /** Name of the table of key vectors [2 · maxOffset + 1, scoreDim], row maxOffset for the query's own position. Default 'relativeKeys'. */
  readonly table?: string;
  /** One table for each head: [head, 2 · maxOffset + 1, scoreDim]. Default false. */
  readonly perHead?: boolean;
  /** Factor of the added product, the uniform `shaw.scale`; the score that it joins is scaled already. Default 1/√scoreDim. */
  readonly scale?: UniformValue;
}

/**
 * score + scale · q'·a[clip(keyPosition − queryPosition, ±maxOffset)] (Shaw 2018, equation 5). The paper's second table, which is added to the values, is no
 * part of it: aggregation sees no pairs.
 *
 * @throws AttentionError `invalid-argument` when maxOffset is no positive integer
 */
export function shaw(options: ShawOptions): Modifier {
  const { maxOffset, table = 'relativeKeys', perHead = false, scale = 'inverseSqrtDim' } = given(options);
  requireInteger('shaw', 'maxOffset', maxOffset, 1);
  return modifier('shaw', ({ score, queryPosition, keyPosition, queryTable, uniform }) => {
    const offset = keyPosition.sub(queryPosition).max(-maxOffset).min(maxOffset);
    return score.add(uniform('scale', scale).mul(queryTable(table, 2 * maxOffset + 1, { perHead }).at(offset.add(maxOffset))));
  });
}
