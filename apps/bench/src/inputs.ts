import { RandomSource } from '@heed/conformance';
import { alibiSlopes, elementCount, encode, type HostTensor, tensor } from '@heed/core';
import type { Workload } from './workloads.ts';

/** The tensors of one workload, dense, on the host. */
export interface Inputs {
  /** [batch, heads, queryLength, queryDim] */
  readonly query: HostTensor;
  /** [batch, keyHeads, keyLength, queryDim] */
  readonly key: HostTensor;
  /** [batch, keyHeads, keyLength, valueDim] */
  readonly value: HostTensor;
  /** Parameters of the layer, float32, those that it has. */
  readonly parameters: Parameters;
}

/** What a layer has learned, besides its projections. */
export interface Parameters {
  /** [heads]: one logit per query head. */
  readonly sink?: HostTensor;
  /** [heads]: ALiBi. */
  readonly slopes?: HostTensor;
  /** [2 · side − 1, queryDim] each. */
  readonly relative?: { readonly height: HostTensor; readonly width: HostTensor };
  /** The vector [width] and the projections [width, queryDim] of additive scoring. */
  readonly additive?: { readonly vector: HostTensor; readonly queryProjection: HostTensor; readonly keyProjection: HostTensor };
}

/** Inputs N(0, 1), rounded to the workload's dtype; the same for the same workload shape. */
export function randomInputs({ layer, dtype, batch, queryLength, keyLength }: Workload): Inputs {
  const random = new RandomSource(seed);
  const draw = (shape: readonly number[]): HostTensor => tensor(encode(normals(shape, random), dtype), shape, { dtype });
  const query = draw([batch, layer.heads, queryLength, layer.queryDim]);
  const key = draw([batch, layer.keyHeads, keyLength, layer.queryDim]);
  const value = draw([batch, layer.keyHeads, keyLength, layer.valueDim]);
  return { query, key, value, parameters: randomParameters({ layer }) };
}

const seed = 0x68656564;

/** Parameters as a trained layer might have them; the same for the same layer. */
export function randomParameters({ layer }: Pick<Workload, 'layer'>): Parameters {
  const random = new RandomSource(seed + 1);
  const { position, scoring, queryDim } = layer;
  const table = (shape: readonly number[], deviation = 1): HostTensor => tensor(Float32Array.from(normals(shape, random), (draw) => draw * deviation), shape);
  return {
    ...(layer.sink ? { sink: table([layer.heads]) } : {}),
    ...(position.kind === 'alibi' ? { slopes: tensor(alibiSlopes(layer.heads), [layer.heads]) } : {}),
    ...(position.kind === 'decomposed' ? { relative: { height: table([2 * position.side - 1, queryDim], queryDim ** -0.5), width: table([2 * position.side - 1, queryDim], queryDim ** -0.5) } } : {}),
    ...(scoring.kind === 'additive' ? { additive: additiveParameters(scoring.width, queryDim, table) } : {}),
  };
}

function additiveParameters(width: number, queryDim: number, table: (shape: readonly number[], deviation: number) => HostTensor): NonNullable<Parameters['additive']> {
  return {
    vector: table([width], width ** -0.5),
    queryProjection: table([width, queryDim], queryDim ** -0.5),
    keyProjection: table([width, queryDim], queryDim ** -0.5),
  };
}

function normals(shape: readonly number[], random: RandomSource): Float64Array {
  return new Float64Array(elementCount(shape)).map(() => random.normal());
}
