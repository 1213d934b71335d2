import { given, requireInteger } from '../arguments.ts';
import { projection } from '../transforms/projection.ts';
import type { ScaleOptions, Scoring } from './stage.ts';
import { scoring } from './stage.ts';

export interface LowRankOptions extends ScaleOptions {
  /** Width r of the projected rows. */
  readonly rank: number;
  /** One pair of factors for each head, as a first axis: [head, …] for the query's, [keyHead, …] for the key's. Default false. */
  readonly perHead?: boolean;
}

/**
 * scale · (A q)·(B k): the bilinear score with W = AᵀB of rank r, never formed. Tables `queryFactor` A [rank, queryDim] and `keyFactor` B [rank, keyDim].
 * `scale` is 1/√rank unless given. With one pair per head this is the projected product of multi-head attention (Vaswani 2017, section 3.2.2).
 *
 * @throws AttentionError `invalid-argument` when rank is no positive integer
 */
export function lowRank(options: LowRankOptions): Scoring {
  const { rank, perHead = false, scale = 'inverseSqrtDim' } = given(options);
  requireInteger('lowRank', 'rank', rank, 1);
  return scoring('lowRank', ({ queryElement, keyElement }) => queryElement.mul(keyElement), { scale })
    .transformQuery(projection({ width: rank, table: 'queryFactor', axis: 'queryDim', perHead: perHead ? 'head' : undefined }))
    .transformKey(projection({ width: rank, table: 'keyFactor', axis: 'keyDim', perHead: perHead ? 'keyHead' : undefined }));
}
