import { addRow, attention, causal, relativeQuery, scaledDot, tensor, type Backend, type HostTensor, type Tensor } from '@heed/core';
import { reader } from '@heed/core';
import { createRingCache, type RingCache } from '../caches/ring.ts';
import { checkCount, checkWeights } from '../parameters.ts';
import { sinusoidalPositions } from '../positions/sinusoidal.ts';
import { createMultiHeadAttention, type MultiHeadAttention, type MultiHeadWeights } from './multi-head.ts';

export interface TransformerXlWeights extends MultiHeadWeights {
  /** W_r [heads · headDim, dim], which projects the encodings of distances. */
  readonly relative: HostTensor;
  /** u and v [heads, headDim]: what a query is given for contents and for distances. */
  readonly contentBias: HostTensor;
  readonly distanceBias: HostTensor;
}

export interface TransformerXlOptions {
  readonly backend: Backend;
  readonly heads: number;
  readonly weights: TransformerXlWeights;
  /** Tokens of earlier segments that are kept. */
  readonly memoryLength: number;
  /** Tokens of one segment, which are passed together. */
  readonly segmentLength: number;
}

/**
 * Attention over a memory of earlier segments, by distances (Dai 2019, section 3):
 *
 *     score_ij = [(q_i + u)·k_j + (q_i + v)·(W_r R_(i−j))] / √headDim
 *
 * with R the sinusoidal encoding of a distance, its sines before its cosines as the published code has them. The memory holds projected keys and values: with fixed weights that is
 * the same as holding the hidden rows that they come from.
 *
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `unsupported`
 */
export async function createTransformerXlAttention({ backend, heads, weights, memoryLength, segmentLength }: TransformerXlOptions): Promise<TransformerXlAttention> {
  const { relative, contentBias, distanceBias, ...projections } = weights;
  const [rows = 0, dim = 0] = weights.query.shape;
  const headDim = rows / checkCount('heads', heads, 1);
  checkCount('memoryLength', memoryLength, 0);
  checkCount('segmentLength', segmentLength, 1);
  checkWeights('Transformer-XL attention', { relative: [relative, [rows, dim]], contentBias: [contentBias, [heads, headDim]], distanceBias: [distanceBias, [heads, headDim]] });
  const distances = memoryLength + segmentLength;
  const variant = attention({
    scoring: scaledDot().transformQuery(addRow({ table: 'contentBias', perHead: 'head' })).modify(relativeQuery({ rows: distances, bias: true })),
    masking: causal(),
  });
  const tables = { contentBias, ...distanceTables({ relative, contentBias, distanceBias }, { heads, headDim, dim, distances }) };
  const layer = await createMultiHeadAttention({ backend, heads, weights: projections, variant, tables });
  return new TransformerXlAttention(layer, memoryLength, segmentLength);
}

interface DistanceSizes {
  readonly heads: number;
  readonly headDim: number;
  readonly dim: number;
  readonly distances: number;
}

/** W_r R_d for each head and distance, and (v − u)·W_r R_d: the query that meets the first has u in it already. */
function distanceTables({ relative, contentBias, distanceBias }: Pick<TransformerXlWeights, 'relative' | 'contentBias' | 'distanceBias'>, { heads, headDim, dim, distances }: DistanceSizes): Readonly<Record<string, HostTensor>> {
  const encodings = sinusoidalPositions({ length: distances, dim, order: 'concatenated' }).view();
  const numbers = (given: HostTensor): ((row: number, column: number) => number) => {
    const read = reader(given.dtype, given.view());
    const [rowStep = 0, step = 1] = given.strides;
    return (row, column) => read(row * rowStep + column * step);
  };
  const [weight, u, v] = [numbers(relative), numbers(contentBias), numbers(distanceBias)];
  const rows = new Float32Array(heads * distances * headDim);
  const bias = new Float32Array(heads * distances);
  for (let head = 0; head < heads; head++) {
    for (let distance = 0; distance < distances; distance++) {
      let product = 0;
      for (let channel = 0; channel < headDim; channel++) {
        let sum = 0;
        for (let input = 0; input < dim; input++) sum += weight(head * headDim + channel, input) * (encodings[distance * dim + input] ?? 0);
        rows[(head * distances + distance) * headDim + channel] = sum;
        product += (v(head, channel) - u(head, channel)) * sum;
      }
      bias[head * distances + distance] = product;
    }
  }
  return { relativeRows: tensor(rows, [heads, distances, headDim]), relativeRowsBias: tensor(bias, [heads, distances]) };
}

/** See {@link createTransformerXlAttention}. */
export class TransformerXlAttention {
  readonly #layer: MultiHeadAttention;
  readonly #memoryLength: number;
  readonly #segmentLength: number;

  /** @internal use {@link createTransformerXlAttention} */
  constructor(layer: MultiHeadAttention, memoryLength: number, segmentLength: number) {
    this.#layer = layer;
    this.#memoryLength = memoryLength;
    this.#segmentLength = segmentLength;
  }

  /** An empty memory for as many sequences; the caller disposes of it. */
  createMemory(batch: number): RingCache {
    return createRingCache({ ...this.#layer.cacheShape, batch, left: this.#memoryLength, chunk: this.#segmentLength });
  }

  /** A segment [batch, length, dim] after what the memory holds, where x lives; the segment becomes part of the memory. */
  async forward(x: Tensor, memory: RingCache): Promise<Tensor> {
    return this.#layer.forward(x, { cache: memory });
  }

  async dispose(): Promise<void> {
    await this.#layer.dispose();
  }
}
