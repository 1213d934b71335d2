import type { DType, HostTensor, Tensor } from '../../tensor.ts';
import { elementCount, toFloat64 } from '../../tensor.ts';
import { onHost } from '../../place.ts';
import { denseTensor } from '../../dense-tensor.ts';

/** Rows of a tensor [batch, heads, length, width], or [batch, heads, length] as rows of one number, in float64. Axes of size 1 repeat. */
export class Rows {
  readonly data: Float64Array;
  readonly shape: readonly number[];
  readonly #width: number;

  constructor(shape: readonly number[], data: Float64Array = new Float64Array(elementCount(shape))) {
    this.shape = shape;
    this.data = data;
    this.#width = shape[3] ?? 1;
  }

  /** @throws AttentionError `foreign-tensor` */
  static read(name: string, tensor: Tensor): Rows {
    return new Rows(tensor.shape, toFloat64(onHost(name, tensor)));
  }

  /** The numbers of one row. A view. */
  row(batch: number, head: number, index: number): Float64Array {
    const [batches = 1, heads = 1, length = 1] = this.shape;
    const at = ((batches === 1 ? 0 : batch) * heads + (heads === 1 ? 0 : head)) * length + (length === 1 ? 0 : index);
    return this.data.subarray(at * this.#width, (at + 1) * this.#width);
  }

  toTensor(dtype: DType): HostTensor {
    return denseTensor(this.data, this.shape, dtype);
  }
}
