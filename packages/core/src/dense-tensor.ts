import { contiguousStrides, encode, tensor } from './tensor.ts';
import type { DType, HostTensor } from './tensor.ts';

/** Numbers as a dense host tensor of a dtype, rounded once. */
export function denseTensor(data: Float64Array, shape: readonly number[], dtype: DType): HostTensor {
  return tensor(encode(data, dtype), shape, { dtype, strides: contiguousStrides(shape) });
}
