import { given } from '../arguments.ts';
import { leakyReluOf } from '../modifiers/leaky-relu.ts';
import { projection } from '../transforms/projection.ts';
import type { Scoring } from './stage.ts';
import { scoring } from './stage.ts';

export interface GatV2Options {
  /** Width of the projected rows. */
  readonly width: number;
  /** Slope of the leaky rectifier below 0. Default 0.2. */
  readonly slope?: number;
  /** One set of tables for each head, as a first axis. Default true. */
  readonly perHead?: boolean;
  /** Edges carry rows of their own, which are added to the projected ones: table `edgeRows` [head, edge, width], whose first axis may be 1. Default false. */
  readonly edges?: boolean;
}

/**
 * a · leakyRelu(W_q q + W_k k) (Brody 2022, equation 7): which key a query ranks first depends on the query. Tables `vector` [head, width],
 * `queryProjection` [head, width, queryDim] and `keyProjection` [keyHead, width, keyDim]; without the first axis unless `perHead`.
 *
 * @throws AttentionError `invalid-argument` when width is no positive integer
 */
export function gatV2(options: GatV2Options): Scoring {
  const { width, slope = 0.2, perHead = true, edges = false } = given(options);
  return scoring('gatV2', ({ queryElement, keyElement, channel, head, edgeIndex, table, uniform }) => {
    const factor = perHead ? table('vector', ['head', 'scoreDim']).at(head, channel) : table('vector', ['scoreDim']).at(channel);
    const sum = queryElement.add(keyElement);
    const joined = edges ? sum.add(table('edgeRows', ['head', 'edge', 'scoreDim']).at(head, edgeIndex, channel)) : sum;
    return factor.mul(leakyReluOf(joined, uniform('slope', slope)));
  }, { scale: 1 })
    .transformQuery(projection({ width, table: 'queryProjection', axis: 'queryDim', perHead: perHead ? 'head' : undefined }))
    .transformKey(projection({ width, table: 'keyProjection', axis: 'keyDim', perHead: perHead ? 'keyHead' : undefined }));
}
