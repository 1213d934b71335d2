import type { Runtime, Tensor } from '@heed/core';
import { AttentionError, write } from '@heed/core';
import { compressedLength, nsaSizes, type NsaOptions } from './nsa-options.ts';

/** A multilayer perceptron over the rows of a block, one after another, with a vector added to each for its place (Yuan 2025, equation 7). Tensors of the runtime. */
export interface CompressionWeights {
  /** [compressBlock, dim] */
  readonly positions: Tensor;
  /** [compressBlock · dim, hidden] */
  readonly first: Tensor;
  /** [hidden, dim] */
  readonly second: Tensor;
  /** [hidden] and [dim]. Default none. */
  readonly firstBias?: Tensor;
  readonly secondBias?: Tensor;
}

const sum = write('transform', 'sum', ({ table }) => table('rows', []).at().add(table('positions', []).at())).expression;
const rectified = write('transform', 'rectified', ({ table }) => table('x', []).at().max(0)).expression;

/**
 * One row for each compression block of keys, or of values: φ of its rows, a perceptron with a hidden layer of ReLU (the paper leaves the layer open). Blocks overlap where the stride is smaller
 * than the block; one counts once its last row is there.
 *
 * @param rows [batch, heads, length, dim] of the runtime, dense
 * @returns [batch, heads, ⌊(length − compressBlock) / stride⌋ + 1, dim], for the caller to release
 * @throws AttentionError `invalid-argument`, `invalid-shape`
 */
export function compressBlocks(runtime: Runtime, rows: Tensor, weights: CompressionWeights, options: NsaOptions = {}): Tensor {
  const sizes = nsaSizes(options);
  const [batch = 0, heads = 0, length = 0, dim = 0] = rows.shape;
  const width = sizes.compressBlock * dim;
  const hidden = weights.first.shape[1] ?? 0;
  if (weights.positions.shape.join() !== [sizes.compressBlock, dim].join() || weights.first.shape.join() !== [width, hidden].join() || weights.second.shape.join() !== [hidden, dim].join()) {
    throw new AttentionError('invalid-shape', `Got positions [${weights.positions.shape.join(', ')}], first [${weights.first.shape.join(', ')}] and second [${weights.second.shape.join(', ')}].`, `Expected [${sizes.compressBlock}, ${dim}], [${width}, hidden] and [hidden, ${dim}].`);
  }
  const blocks = compressedLength(length, sizes);
  if (batch * heads * blocks === 0) return runtime.tensor([batch, heads, blocks, dim], 'f32');
  const { operations } = runtime;
  const [stepB = 0, stepH = 0, stepL = 0, step = 0] = rows.strides;
  if (step !== 1 || stepL !== dim) throw new AttentionError('invalid-argument', `Rows have strides [${rows.strides.join(', ')}].`, 'Expected rows one after another: copy them first.');
  const blocked = runtime.view(rows, [batch, heads, blocks, width], [stepB, stepH, stepL * sizes.stride, 1]);
  const placed = operations.elementwise(sum, { rows: blocked, positions: runtime.view(weights.positions, blocked.shape, [0, 0, 0, 1]) }, { dtype: 'f32' });
  const layer = operations.matmul(placed, runtime.view(weights.first, [1, 1, width, hidden]), weights.firstBias === undefined ? {} : { bias: weights.firstBias });
  const bent = operations.elementwise(rectified, { x: layer });
  const compressed = operations.matmul(bent, runtime.view(weights.second, [1, 1, hidden, dim]), weights.secondBias === undefined ? {} : { bias: weights.secondBias });
  for (const made of [placed, layer, bent]) runtime.release(made);
  return compressed;
}
