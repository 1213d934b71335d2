import { given } from '../arguments.ts';
import { projection } from '../transforms/projection.ts';
import type { ScaleOptions, Scoring } from './stage.ts';
import { scoring } from './stage.ts';

export interface BilinearOptions extends ScaleOptions {
  /** The rows of the other side have this width: queryDim when the key is projected, keyDim when the query is. */
  readonly width: number;
  /**
   * Which rows are multiplied by the matrix. 'key' (default): `bilinear` is W [queryDim, keyDim], and `transformKeys` caches W k.
   * 'query': `bilinear` is Wᵀ [keyDim, queryDim]; cheaper where there are fewer queries than keys.
   */
  readonly side?: 'key' | 'query';
  /** One matrix for each head, as a first axis [keyHead, …] on the key's side, [head, …] on the query's. Default false. */
  readonly perHead?: boolean;
}

/**
 * scale · qᵀ W k (Luong 2015, section 3.1, "general"), W in the table `bilinear`. `scale` is 1 unless given.
 * @throws AttentionError `invalid-argument` when width is no positive integer
 */
export function bilinear(options: BilinearOptions): Scoring {
  const { width, side = 'key', perHead = false, scale = 1 } = given(options);
  const product = scoring('bilinear', ({ queryElement, keyElement }) => queryElement.mul(keyElement), { scale });
  if (side === 'query') return product.transformQuery(projection({ width, table: 'bilinear', axis: 'queryDim', perHead: perHead ? 'head' : undefined }));
  return product.transformKey(projection({ width, table: 'bilinear', axis: 'keyDim', perHead: perHead ? 'keyHead' : undefined }));
}
