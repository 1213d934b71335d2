import { edgeFeatures } from '../modifiers/edge-features.ts';
import { leakyRelu } from '../modifiers/leaky-relu.ts';
import { projection } from '../transforms/projection.ts';
import type { Scoring } from './stage.ts';
import { scoring } from './stage.ts';

export interface GatOptions {
  /** Slope of the leaky rectifier below 0. Default 0.2. */
  readonly slope?: number;
  /** One pair of vectors for each head, as a first axis. Default true. */
  readonly perHead?: boolean;
  /** Width of features that edges carry: a_e·f is added before the rectifier, with the tables of `edgeFeatures`. Default: none. */
  readonly edges?: number;
}

/**
 * leakyRelu(a_q·q + a_k·k) (Velickovic 2018, equation 3): query i is the node that receives, key j the node that sends, and rows are node features after
 * the layer's own projection W. Tables `queryVector` [head, 1, queryDim] and `keyVector` [keyHead, 1, keyDim], the two halves of the paper's a;
 * [1, queryDim] and [1, keyDim] without `perHead`.
 */
export function gat(options: GatOptions = {}): Scoring {
  const { slope = 0.2, perHead = true, edges } = options;
  const sum = scoring('gat', ({ queryElement, keyElement }) => queryElement.add(keyElement), { scale: 1 })
    .transformQuery(projection({ width: 1, table: 'queryVector', axis: 'queryDim', perHead: perHead ? 'head' : undefined }))
    .transformKey(projection({ width: 1, table: 'keyVector', axis: 'keyDim', perHead: perHead ? 'keyHead' : undefined }));
  return (edges === undefined ? sum : sum.modify(edgeFeatures({ width: edges }))).modify(leakyRelu({ slope }));
}
