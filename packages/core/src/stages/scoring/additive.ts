import { given } from '../arguments.ts';
import { projection } from '../transforms/projection.ts';
import type { ScaleOptions, Scoring } from './stage.ts';
import { scoring } from './stage.ts';

export interface AdditiveOptions extends ScaleOptions {
  /** Width A of the projected rows. */
  readonly width: number;
  /** Adds the table `queryProjectionBias` [width] inside the tanh. Default false. */
  readonly bias?: boolean;
  /** One set of tables for each head, as a first axis: [head, …] for the query's and the vector, [keyHead, …] for the key's. Default false. */
  readonly perHead?: boolean;
}

/**
 * scale · vᵀ tanh(W_q q + W_k k + b) (Bahdanau 2014, appendix A.1.2). Tables `queryProjection` [width, queryDim], `keyProjection` [width, keyDim],
 * `vector` [width], and `queryProjectionBias` [width] with `bias`. `scale` is 1 unless given. `transformKeys` caches W_k k.
 *
 * The "concat" score vᵀ tanh(W [q; k]) (Luong 2015, section 3.1) is this with W = [W_q W_k]. The normalised form (g v/‖v‖, Salimans 2016) is this with
 * v/‖v‖ bound as `vector` and g as `scale`.
 *
 * @throws AttentionError `invalid-argument` when width is no positive integer
 */
export function additive(options: AdditiveOptions): Scoring {
  const { width, bias = false, perHead = false, scale = 1 } = given(options);
  return scoring('additive', ({ queryElement, keyElement, channel, head, table }) => {
    const factor = perHead ? table('vector', ['head', 'scoreDim']).at(head, channel) : table('vector', ['scoreDim']).at(channel);
    return factor.mul(queryElement.add(keyElement).tanh());
  }, { scale })
    .transformQuery(projection({ width, table: 'queryProjection', bias, axis: 'queryDim', perHead: perHead ? 'head' : undefined }))
    .transformKey(projection({ width, table: 'keyProjection', axis: 'keyDim', perHead: perHead ? 'keyHead' : undefined }));
}
