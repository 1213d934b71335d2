import { join } from '../../expression/declarations.ts';
import { write } from '../../expression/scope.ts';
import { projection } from '../transforms/projection.ts';
import { Scoring } from './stage.ts';

export interface AdditiveOptions {
  /** Width A of the projected rows. */
  readonly width: number;
  /** Adds the table `queryProjectionBias` [width] inside the tanh. Default false. */
  readonly bias?: boolean;
}

/**
 * vᵀ tanh(W_q q + W_k k + b) (Bahdanau 2014, appendix A.1.2). Tables `queryProjection` [width, queryDim], `keyProjection` [width, keyDim],
 * `vector` [width], and `queryProjectionBias` [width] with `bias`. Not scaled. `transformKeys` caches W_k k.
 *
 * @throws AttentionError `invalid-argument` when width is no positive integer
 */
export function additive(options: AdditiveOptions): Scoring {
  const combine = write('combine', 'additive', ({ queryElement, keyElement, channel, table }) =>
    table('vector', ['scoreDim']).at(channel).mul(queryElement.add(keyElement).tanh()));
  const scale = write('combine', '', ({ uniform }) => uniform('scale', 1));
  return new Scoring({
    ...join(combine, scale).declarations,
    name: 'additive',
    queryTransforms: [],
    keyTransforms: [],
    combine: combine.expression,
    scale: scale.expression,
    modifiers: [],
  })
    .transformQuery(projection({ width: options.width, table: 'queryProjection', bias: options.bias ?? false, axis: 'queryDim' }))
    .transformKey(projection({ width: options.width, table: 'keyProjection', axis: 'keyDim' }));
}
