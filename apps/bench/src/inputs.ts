import { alibiSlopes, encode, type HostTensor, tensor } from '@heed/core';
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
  const normal = normalGenerator(seed);
  const draw = (shape: readonly number[]): HostTensor => tensor(encode(normals(shape, normal), dtype), shape, { dtype });
  const query = draw([batch, layer.heads, queryLength, layer.queryDim]);
  const key = draw([batch, layer.keyHeads, keyLength, layer.queryDim]);
  const value = draw([batch, layer.keyHeads, keyLength, layer.valueDim]);
  return { query, key, value, parameters: randomParameters({ layer }) };
}

const seed = 0x68656564;

/** Parameters as a trained layer might have them; the same for the same layer. */
export function randomParameters({ layer }: Pick<Workload, 'layer'>): Parameters {
  const normal = normalGenerator(seed + 1);
  const { position, scoring, queryDim } = layer;
  const table = (shape: readonly number[], deviation = 1): HostTensor => tensor(Float32Array.from(normals(shape, normal), (draw) => draw * deviation), shape);
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

function normals(shape: readonly number[], normal: () => number): Float64Array {
  const values = new Float64Array(shape.reduce((product, size) => product * size, 1));
  for (let index = 0; index < values.length; index++) values[index] = normal();
  return values;
}

/** Standard normal numbers by Box and Muller from a 32-bit counter hash (splitmix32). */
function normalGenerator(start: number): () => number {
  let counter = start | 0;
  const uniform = (): number => {
    counter = (counter + 0x9e3779b9) | 0;
    let mixed = Math.imul(counter ^ (counter >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
  let spare: number | null = null;
  return () => {
    if (spare !== null) {
      const kept = spare;
      spare = null;
      return kept;
    }
    // 1 − u is never 0.
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}
