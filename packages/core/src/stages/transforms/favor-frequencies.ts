import { threefry2x32, unitInterval } from '../../expression/random.ts';
import { given, requireInteger, requireSeed } from '../arguments.ts';

export interface FavorFrequenciesOptions {
  readonly features: number;
  /** Width of the rows before the map. */
  readonly dim: number;
  /** A 32-bit integer; the same seed gives the same numbers. */
  readonly seed: number;
}

/**
 * The table of `favor`: [features, dim], row-major. Rows come in blocks of `dim` that are orthogonal to each other; each has the norm of an independent
 * Gaussian vector (chi-distributed), so that every single row is distributed as N(0, I) (Yu 2016; Choromanski 2021).
 *
 * @throws AttentionError `invalid-argument`
 */
export function favorFrequencies(options: FavorFrequenciesOptions): Float32Array {
  const { features, dim, seed } = given(options);
  requireInteger('favorFrequencies', 'features', features, 1);
  requireInteger('favorFrequencies', 'dim', dim, 1);
  requireSeed('favorFrequencies', seed);
  const table = new Float32Array(features * dim);
  let block: Float64Array[] = [];
  for (let feature = 0; feature < features; feature++) {
    if (feature % dim === 0) block = [];
    const direction = orthogonalTo(block, gaussianRow(seed, directionStream, feature, dim));
    block.push(direction);
    const independent = gaussianRow(seed, lengthStream, feature, dim);
    const length = Math.sqrt(dotProduct(independent, independent));
    for (let channel = 0; channel < dim; channel++) table[feature * dim + channel] = (direction[channel] ?? 0) * length;
  }
  return table;
}

const directionStream = 0;
const lengthStream = 1;

/** Independent N(0, 1), two by two (Box & Muller 1958). */
function gaussianRow(seed: number, stream: number, row: number, dim: number): Float64Array {
  const [key0, key1] = threefry2x32(seed, stream, 0, 0);
  const result = new Float64Array(dim);
  for (let channel = 0; channel < dim; channel += 2) {
    const [word0, word1] = threefry2x32(key0, key1, row, channel);
    const radius = Math.sqrt(-2 * Math.log(unitInterval(word0)));
    const angle = 2 * Math.PI * unitInterval(word1);
    result[channel] = radius * Math.cos(angle);
    if (channel + 1 < dim) result[channel + 1] = radius * Math.sin(angle);
  }
  return result;
}

/** The unit vector along what is left of `row` off the span of `units`. Taken off twice: once is not orthogonal to rounding when little is left. */
function orthogonalTo(units: readonly Float64Array[], row: Float64Array): Float64Array {
  let rest = row;
  for (const unit of [...units, ...units]) {
    const along = dotProduct(unit, rest);
    rest = rest.map((value, channel) => value - along * (unit[channel] ?? 0));
  }
  const norm = Math.sqrt(dotProduct(rest, rest));
  return rest.map((value) => value / norm);
}

function dotProduct(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let index = 0; index < a.length; index++) sum += (a[index] ?? 0) * (b[index] ?? 0);
  return sum;
}
