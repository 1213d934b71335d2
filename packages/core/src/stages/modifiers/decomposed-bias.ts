import type { UniformValue } from '../../expression/declarations.ts';
import { given, requireInteger } from '../arguments.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

export interface DecomposedBiasOptions {
  /** Size of the image in tokens; position p is at row ⌊p / width⌋ and column p mod width. */
  readonly height: number;
  readonly width: number;
  /** Names of the tables [2 · height − 1, scoreDim] and [2 · width − 1, scoreDim]; the middle row is the query's own row or column. Default 'relativeHeight', 'relativeWidth'. */
  readonly heightTable?: string;
  readonly widthTable?: string;
  /** Factor of both products, the uniform `decomposedBias.scale`. Default 1: the query is not scaled in them. */
  readonly scale?: UniformValue;
}

/**
 * score + scale · (q'·h[rowOf(query) − rowOf(key) + height − 1] + q'·w[columnOf(query) − columnOf(key) + width − 1]) (Li 2022, MViTv2, section 4.1; SAM 2023).
 * Positions are those of tokens in the image, 0 … height · width − 1; others read outside the tables.
 *
 * @throws AttentionError `invalid-argument`
 */
export function decomposedBias(options: DecomposedBiasOptions): Modifier {
  const { height, width, heightTable = 'relativeHeight', widthTable = 'relativeWidth', scale = 1 } = given(options);
  requireInteger('decomposedBias', 'height', height, 1);
  requireInteger('decomposedBias', 'width', width, 1);
  return modifier('decomposedBias', ({ score, queryPosition, keyPosition, queryTable, uniform }) => {
    const rows = queryPosition.floorDiv(width).sub(keyPosition.floorDiv(width)).add(height - 1);
    const columns = queryPosition.mod(width).sub(keyPosition.mod(width)).add(width - 1);
    const products = queryTable(heightTable, 2 * height - 1).at(rows).add(queryTable(widthTable, 2 * width - 1).at(columns));
    return score.add(uniform('scale', scale).mul(products));
  });
}
