import { AttentionError, contiguousStrides, elementCount, encodeInto, isContiguous, isHostTensor, restride, toFloat64, zeros, type HostTensor, type Tensor } from '@heed/core';

/** The same memory with other axes, on the host or on the runtime that owns it. */
export function viewOf(source: Tensor, shape: readonly number[], strides: readonly number[], start: number = 0): Tensor {
  if (source.runtime !== null) return source.runtime.view(source, shape, strides, start);
  return restride(hostOf(source), shape, strides, start);
}

/** Axes in another order. */
export function permuted(source: Tensor, order: readonly number[]): Tensor {
  return viewOf(source, order.map((axis) => source.shape[axis] ?? 0), order.map((axis) => source.strides[axis] ?? 0));
}

/** [batch, length, heads · dim] → [batch, heads, length, dim]. */
export function splitHeads(what: string, source: Tensor, heads: number): Tensor {
  const [batch = 0, length = 0, width = 0] = source.shape;
  if (!Number.isSafeInteger(heads) || heads < 1 || width % heads !== 0) {
    throw new AttentionError('invalid-shape', `${what} has rows of ${width} for ${heads} heads.`, 'Expected a whole number of channels for each head.');
  }
  const dim = width / heads;
  const [batchStride = 0, rowStride = 0, stride = 0] = source.strides;
  return viewOf(source, [batch, heads, length, dim], [batchStride, dim * stride, rowStride, stride]);
}

/** [batch, heads, length, dim] → [batch, length, heads · dim], a copy unless there is one head. */
export function joinHeads(source: Tensor): Tensor {
  const [batch = 0, heads = 0, length = 0, dim = 0] = source.shape;
  const shape = [batch, length, heads * dim];
  return viewOf(dense(permuted(source, [0, 2, 1, 3])), shape, contiguousStrides(shape));
}

/** As many axes of 1 in front as `rank` asks for: what broadcasting from the right means. */
export function rankOf(what: string, source: Tensor, rank: number): Tensor {
  const missing = rank - source.shape.length;
  if (missing < 0) throw new AttentionError('invalid-shape', `${what} has shape [${source.shape.join(', ')}].`, `Expected at most ${rank} axes.`);
  const ones = new Array<number>(missing).fill(1);
  return viewOf(source, [...ones, ...source.shape], [...ones.map(() => 0), ...source.strides]);
}

/** The elements one after another; the tensor itself where they are. */
export function dense(source: Tensor): Tensor {
  if (isContiguous(source)) return source;
  if (source.runtime !== null) return source.runtime.operations.copy(source);
  const copy = zeros(source.shape, source.dtype);
  encodeInto(toFloat64(hostOf(source)), copy);
  return copy;
}

/** One after another along an axis; a copy. Both live in one place. */
export function concatenate(first: Tensor, second: Tensor, axis: number): Tensor {
  const { runtime, dtype } = first;
  if (second.runtime !== runtime || second.dtype !== dtype || first.shape.length !== second.shape.length || first.shape.some((size, index) => index !== axis && size !== second.shape[index])) {
    throw new AttentionError('invalid-shape', `Got [${first.shape.join(', ')}] ${dtype} and [${second.shape.join(', ')}] ${second.dtype} to join along axis ${axis}.`, 'Expected tensors of one runtime and dtype that differ along that axis alone.');
  }
  const shape = first.shape.map((size, index) => (index === axis ? size + (second.shape[axis] ?? 0) : size));
  const joined = runtime === null ? zeros(shape, dtype) : runtime.tensor(shape, dtype);
  const strides = contiguousStrides(shape);
  copyInto(first, viewOf(joined, first.shape, strides));
  copyInto(second, viewOf(joined, second.shape, strides, elementCount(second.shape) === 0 ? 0 : (first.shape[axis] ?? 0) * (strides[axis] ?? 0)));
  return joined;
}

function copyInto(source: Tensor, target: Tensor): void {
  if (elementCount(source.shape) === 0) return;
  if (source.runtime === null) encodeInto(toFloat64(hostOf(source)), hostOf(target));
  else source.runtime.operations.copy(source, { into: target });
}

/** What a convention reads itself must stand where it can be seen without waiting. */
export function hostOf(source: Tensor): HostTensor {
  if (!isHostTensor(source)) throw new AttentionError('foreign-tensor', 'Got a tensor whose elements the host cannot see.', 'Read it to the host first.');
  return source;
}
