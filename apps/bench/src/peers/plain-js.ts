import type { HostTensor } from '@heed/core';
import type { Competitor, Prepared } from '../competitor.ts';
import type { Inputs } from '../inputs.ts';
import { javascriptLimit } from '../limits.ts';
import { visibleKeys, type Workload } from '../workloads.ts';
import { float32 } from './float32.ts';

/**
 * Attention as people write it in JavaScript: float32 arrays, one row of scores at a time, one thread.
 *
 * Masks, softcap, sink, ALiBi, relative positions of images, grouped heads and additive scores are in; everything else is refused.
 */
export function plainJs(): Competitor {
  return { name: 'plain-js', role: 'peer', about: 'Plain loops over float32 arrays, one thread.', limit: javascriptLimit, refuses, prepare, dispose: () => Promise.resolve() };
}

function refuses({ layer, dtype }: Workload): string | null {
  if (dtype !== 'f32') return `holds float32 only, not ${dtype}`;
  if (layer.normalization !== 'softmax') return `has no ${layer.normalization}`;
  return null;
}

function prepare(workload: Workload, { query, key, value, parameters }: Inputs): Promise<Prepared> {
  const { layer, batch, queryLength, keyLength } = workload;
  const optional = (parameter: HostTensor | undefined): Float32Array | null => (parameter === undefined ? null : float32(parameter));
  const buffers: Buffers = {
    query: float32(query),
    key: float32(key),
    value: float32(value),
    scores: new Float32Array(keyLength),
    output: new Float32Array(batch * layer.heads * queryLength * layer.valueDim),
    slopes: optional(parameters.slopes),
    sink: optional(parameters.sink),
  };
  const { additive, relative } = parameters;
  const bias = layer.position.kind === 'decomposed' && relative !== undefined ? relativeBias(layer.position.side, layer.queryDim, float32(query), float32(relative.height), float32(relative.width)) : null;
  return Promise.resolve({
    run: () => {
      if (additive === undefined) attend(workload, buffers, dot(buffers.query, buffers.key, layer.queryDim, layer.scale), bias);
      else attend(workload, buffers, additiveScore(buffers, float32(additive.vector), float32(additive.queryProjection), float32(additive.keyProjection)), bias);
    },
    output: () => Float64Array.from(buffers.output),
    dispose: () => undefined,
  });
}

interface Buffers {
  readonly query: Float32Array;
  readonly key: Float32Array;
  readonly value: Float32Array;
  /** One row. */
  readonly scores: Float32Array;
  readonly output: Float32Array;
  readonly slopes: Float32Array | null;
  readonly sink: Float32Array | null;
}

/** The score of a query row and a key row, both counted over all sequences and heads. */
type Score = (queryRow: number, keyRow: number) => number;

function dot(query: Float32Array, key: Float32Array, dim: number, scale: number): Score {
  return (queryRow, keyRow) => {
    const q = queryRow * dim;
    const k = keyRow * dim;
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += (query[q + d] ?? 0) * (key[k + d] ?? 0);
    return sum * scale;
  };
}

function additiveScore({ query, key }: Buffers, vector: Float32Array, queryProjection: Float32Array, keyProjection: Float32Array): Score {
  const width = vector.length;
  const projectedQuery = project(query, queryProjection, width);
  const projectedKey = project(key, keyProjection, width);
  return (queryRow, keyRow) => {
    const q = queryRow * width;
    const k = keyRow * width;
    let sum = 0;
    for (let a = 0; a < width; a++) sum += (vector[a] ?? 0) * tanh((projectedQuery[q + a] ?? 0) + (projectedKey[k + a] ?? 0));
    return sum;
  };
}

/**
 * tanh x as a quotient of polynomials of degree 9 and 8, within 6 units of the last place of a float32: what @heed/runtime-wasm emits, so that
 * both spend the same arithmetic. Several times as quick as Math.tanh.
 */
function tanh(x: number): number {
  const bounded = Math.min(9.02, Math.max(-9.02, x));
  const s = bounded * bounded;
  const numerator = 0.999999979025227 + s * (0.1337972005202577 + s * (0.003494037016763673 + s * (2.05835195623866e-5 + s * 1.331912077477582e-8)));
  const denominator = 1 + s * (0.46713035294970423 + s * (0.025871082679569547 + s * (0.0003283096766960469 + s * 7.762040336942855e-7)));
  return (bounded * numerator) / denominator;
}

/** rows [n, dim] times matrix [width, dim] transposed: [n, width] */
function project(rows: Float32Array, matrix: Float32Array, width: number): Float32Array {
  const dim = matrix.length / width;
  const product = dot(rows, matrix, dim, 1);
  const projected = new Float32Array((rows.length / dim) * width);
  for (let index = 0; index < projected.length; index++) projected[index] = product(Math.floor(index / width), index % width);
  return projected;
}

/** What a query row adds to the score of the key at position j. */
type Bias = (queryRow: number, position: number) => (j: number) => number;

function relativeBias(side: number, dim: number, query: Float32Array, height: Float32Array, width: Float32Array): Bias {
  const alongHeight = dot(query, height, dim, 1);
  const alongWidth = dot(query, width, dim, 1);
  const heights = new Float32Array(side);
  const widths = new Float32Array(side);
  return (queryRow, position) => {
    for (let other = 0; other < side; other++) {
      heights[other] = alongHeight(queryRow, Math.floor(position / side) - other + side - 1);
      widths[other] = alongWidth(queryRow, (position % side) - other + side - 1);
    }
    return (j) => (heights[Math.floor(j / side)] ?? 0) + (widths[j % side] ?? 0);
  };
}

function attend(workload: Workload, buffers: Buffers, score: Score, bias: Bias | null): void {
  const { layer, batch, queryLength, keyLength, queryOffset } = workload;
  const { heads, keyHeads, valueDim, mask } = layer;
  for (let sequence = 0; sequence < batch; sequence++) {
    for (let head = 0; head < heads; head++) {
      const firstKeyRow = (sequence * keyHeads + Math.floor((head * keyHeads) / heads)) * keyLength;
      for (let row = 0; row < queryLength; row++) {
        const queryRow = (sequence * heads + head) * queryLength + row;
        const position = queryOffset + row;
        const { first, last } = visibleKeys(mask, position, keyLength);
        const rowBias = bias?.(queryRow, position) ?? null;
        for (let j = first; j <= last; j++) {
          const scored = modified(layer, score(queryRow, firstKeyRow + j), (buffers.slopes?.[head] ?? 0) * Math.abs(position - j));
          buffers.scores[j] = rowBias === null ? scored : scored + rowBias(j);
        }
        const total = exponentials(buffers.scores, buffers.sink?.[head] ?? null, first, last);
        gather(buffers, firstKeyRow, valueDim, first, last, total, queryRow * valueDim);
      }
    }
  }
}

function modified({ softcap }: Workload['layer'], score: number, penalty: number): number {
  return (softcap === null ? score : softcap * Math.tanh(score / softcap)) - penalty;
}

/** Turns `scores[first … last]` into exponentials and returns their sum, the sink's included. */
function exponentials(scores: Float32Array, sink: number | null, first: number, last: number): number {
  let largest = sink ?? -Infinity;
  for (let j = first; j <= last; j++) largest = Math.max(largest, scores[j] ?? 0);
  let total = sink === null ? 0 : Math.exp(sink - largest);
  for (let j = first; j <= last; j++) {
    const weight = Math.exp((scores[j] ?? 0) - largest);
    scores[j] = weight;
    total += weight;
  }
  return total;
}

function gather({ value, scores, output }: Buffers, firstKeyRow: number, valueDim: number, first: number, last: number, total: number, o: number): void {
  output.fill(0, o, o + valueDim);
  for (let j = first; j <= last; j++) {
    const weight = (scores[j] ?? 0) / total;
    const v = (firstKeyRow + j) * valueDim;
    for (let e = 0; e < valueDim; e++) output[o + e] = (output[o + e] ?? 0) + weight * (value[v + e] ?? 0);
  }
}
