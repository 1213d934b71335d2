import type { Operations, Runtime } from '../backend.ts';
import { AttentionError } from '../errors.ts';
import type { Expression } from '../expression/node.ts';
import type { DType, HostTensor, Tensor, TypedArray } from '../tensor.ts';
import { bytesPerElement, contiguousStrides, dtypes, elementCount, encode, encodeInto, isHostTensor, restride, tensor as wrap, toFloat64, zeros } from '../tensor.ts';
import { show } from '../show.ts';
import { checkTensor, isDType } from '../validate/tensors.ts';
import { causalConvolution } from './operations/causal-convolution.ts';
import type { Dense } from './operations/dense.ts';
import { checkShape } from './operations/dense.ts';
import { elementwise } from './operations/elementwise.ts';
import { gather } from './operations/gather.ts';
import { matmul } from './operations/matmul.ts';
import { reduce } from './operations/reduce.ts';
import { rowNorm } from './operations/row-norm.ts';
import { topK } from './operations/top-k.ts';

/**
 * A runtime of plain typed arrays. Operations compute in float64 and round once, to the dtype of the result; they are done when they return.
 * Its tensors are host tensors with an owner: their `view()` ends with `release` and with the runtime. Tensors of the host are welcome in every operation.
 */
export function createHostRuntime(): Runtime {
  return new HostRuntime();
}

class HostRuntime implements Runtime {
  readonly name = 'host';
  readonly operations: Operations;
  readonly #live = new Map<Tensor, number>();
  #bytes = 0;
  #peakBytes = 0;
  #disposed = false;

  constructor() {
    this.operations = Object.freeze({
      matmul: (a, b, options = {}) => this.#keep(matmul(this.#dense(a), this.#dense(b), options.transposed ?? false, this.#maybe(options.bias)), options.dtype ?? a.dtype),
      rowNorm: (x, options) => this.#keep(rowNorm(this.#dense(x), options.norm, options.epsilon, this.#maybe(options.gain), this.#maybe(options.shift)), x.dtype),
      elementwise: (expression, tensors, options = {}) => this.#elementwise(expression, tensors, options.uniforms ?? {}, options.dtype),
      gather: (x, indices) => {
        checkInteger('gather’s indices', indices);
        return this.#keep(gather(this.#dense(x), this.#dense(indices)), x.dtype);
      },
      reduce: (x, reduction) => this.#keep(reduce(this.#dense(x), reduction), x.dtype),
      topK: (x, k) => {
        const { values, indices } = topK(this.#dense(x), k);
        return { values: this.#keep(values, x.dtype), indices: this.#keep(indices, 'i32') };
      },
      causalConvolution: (x, weight, options = {}) => {
        const { output, tail } = causalConvolution(this.#dense(x), this.#dense(weight), this.#maybe(options.tail), this.#maybe(options.bias));
        return { output: this.#keep(output, x.dtype), tail: this.#keep(tail, x.dtype) };
      },
      copy: (x, options = {}) => this.#copy(this.#dense(x), options.dtype ?? options.into?.dtype ?? x.dtype, options.into),
    } satisfies Operations);
  }

  tensor(shape: readonly number[], dtype: DType): HostTensor {
    this.#checkOpen();
    return this.#own(allocate(shape, dtype, this.#bytes), shape, dtype);
  }

  upload(source: HostTensor): HostTensor {
    this.#checkOpen();
    return this.#keep(this.#dense(source), source.dtype);
  }

  read(source: Tensor): Promise<HostTensor> {
    return promised(() => {
      const { data, shape } = this.#dense(source);
      return wrap(encode(data, source.dtype), shape, { dtype: source.dtype });
    });
  }

  view(source: Tensor, shape: readonly number[], strides: readonly number[] = contiguousStrides(shape), start: number = 0): HostTensor {
    this.#checkOpen();
    const checked = checkTensor('the tensor', source, this);
    if (!isHostTensor(checked)) throw foreign();
    return restride(checked, shape, strides, start);
  }

  release(tensor: Tensor): void {
    this.#checkOpen();
    if (tensor.runtime !== this) throw foreign();
    const bytes = this.#live.get(tensor);
    if (bytes === undefined) throw new AttentionError('disposed', 'release got a tensor that is no longer live, or a view of one.', 'Release each tensor once, and the tensor itself, not a view of it.');
    this.#live.delete(tensor);
    this.#bytes -= bytes;
  }

  idle(): Promise<void> {
    return promised(() => this.#checkOpen());
  }

  memory(): { readonly bytes: number; readonly peakBytes: number } {
    return { bytes: this.#bytes, peakBytes: this.#peakBytes };
  }

  dispose(): Promise<void> {
    this.#disposed = true;
    this.#live.clear();
    this.#bytes = 0;
    return Promise.resolve();
  }

  #checkOpen(): void {
    if (this.#disposed) throw new AttentionError('disposed', 'This runtime is disposed.', 'Make another with createHostRuntime().');
  }

  /** A tensor of this runtime over an array that nobody else holds. */
  #own(array: TypedArray, shape: readonly number[], dtype: DType): HostTensor {
    const owned: HostTensor = Object.freeze({
      dtype,
      shape: Object.freeze([...shape]),
      strides: Object.freeze([...contiguousStrides(shape)]),
      runtime: this,
      view: () => {
        if (!this.#live.has(owned)) throw new AttentionError('disposed', 'This tensor was released, or its runtime disposed.', 'Keep it until its last use.');
        return array;
      },
    });
    this.#live.set(owned, array.byteLength);
    this.#bytes += array.byteLength;
    this.#peakBytes = Math.max(this.#peakBytes, this.#bytes);
    return owned;
  }

  #keep({ data, shape }: Dense, dtype: DType): HostTensor {
    return this.#own(encode(data, dtype), shape, dtype);
  }

  #dense(source: Tensor): Dense {
    this.#checkOpen();
    const checked = checkTensor('the tensor', source, this);
    if (!isHostTensor(checked)) throw foreign();
    return { data: toFloat64(checked), shape: checked.shape };
  }

  #maybe(source: Tensor | undefined): Dense | null {
    return source === undefined ? null : this.#dense(source);
  }

  #elementwise(expression: Expression, tensors: Readonly<Record<string, Tensor>>, uniforms: Readonly<Record<string, number>>, dtype: DType | undefined): HostTensor {
    const dense = new Map(Object.entries(tensors).map(([name, source]) => [name, this.#dense(source)]));
    const natural: DType = expression.type === 'bool' ? 'u8' : expression.type === 'i32' ? 'i32' : (Object.values(tensors).find((source) => isFloat(source.dtype))?.dtype ?? 'f32');
    return this.#keep(elementwise(expression, dense, uniforms), dtype ?? natural);
  }

  #copy(x: Dense, dtype: DType, into: Tensor | undefined): HostTensor {
    if (into === undefined) return this.#keep(x, dtype);
    const target = checkTensor('into', into, this);
    if (!isHostTensor(target)) throw foreign();
    checkShape('into', { data: x.data, shape: target.shape }, x.shape);
    if (target.dtype !== dtype) throw new AttentionError('invalid-dtype', `into is ${target.dtype}.`, `Expected ${dtype}.`);
    encodeInto(x.data, target);
    return target;
  }
}

function isFloat(dtype: DType): boolean {
  return dtype === 'f64' || dtype === 'f32' || dtype === 'f16' || dtype === 'bf16';
}

function checkInteger(what: string, tensor: Tensor): void {
  if (tensor.dtype !== 'i32') throw new AttentionError('invalid-dtype', `${what} are ${tensor.dtype}.`, 'Expected i32.');
}

function foreign(): AttentionError {
  return new AttentionError('foreign-tensor', 'The tensor lives on another runtime.', 'Read it there and upload it here.');
}

function allocate(shape: readonly number[], dtype: DType, held: number): TypedArray {
  if (!isDType(dtype)) throw new AttentionError('invalid-dtype', `Got dtype ${show(dtype)}.`, `Expected one of ${dtypes.join(', ')}.`);
  try {
    return zeros(shape, dtype).view();
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new AttentionError('out-of-memory', `A tensor [${shape.join(', ')}] needs ${elementCount(shape) * bytesPerElement[dtype]} bytes, beside ${held} held.`, 'Release tensors, or split the work.', { cause });
  }
}

/** What is done at once, as a promise: it rejects where the work throws. */
function promised<T>(work: () => T): Promise<T> {
  return new Promise((resolve) => resolve(work()));
}
