import { AttentionError } from './errors.ts';
import { decodeBfloat16, decodeFloat16, encodeBfloat16, encodeFloat16 } from './half.ts';
import type { Runtime } from './backend.ts';
import { show } from './show.ts';

/** Storage types. f16 and bf16 are storage only: sums are float32 or wider (L9). Booleans are u8, 0 or 1. */
export const dtypes = ['f64', 'f32', 'f16', 'bf16', 'i32', 'i8', 'u8'] as const;

/** One of {@link dtypes}. */
export type DType = (typeof dtypes)[number];

/** The array that holds a dtype on the host; f16 and bf16 are held as their 16 bits. */
export type TypedArray = Float64Array | Float32Array | Uint16Array | Int32Array | Int8Array | Uint8Array;

/** Order in memory of a rank-4 tensor whose shape is always written [batch, heads, length, dim]. */
export type Layout = 'bhld' | 'blhd';

/**
 * A strided array of numbers. Element (i, j, …) stands at i · strides[0] + j · strides[1] + … counted in elements.
 * A stride of 0 repeats; strides are never negative.
 */
export interface Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** The runtime that owns the memory; null for an array of the host. */
  readonly runtime: Runtime | null;
}

/** A tensor whose elements the host can see without waiting. */
export interface HostTensor extends Tensor {
  /** The memory as it is now, element 0 of the tensor first. Ask again after every call: memory may grow and move. */
  view(): TypedArray;
}

/** Bytes of one element. */
export const bytesPerElement: Readonly<Record<DType, number>> = { f64: 8, f32: 4, f16: 2, bf16: 2, i32: 4, i8: 1, u8: 1 };

/** Number of elements of a shape; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Strides, in elements, of a dense row-major array of this shape. */
export function contiguousStrides(shape: readonly number[]): readonly number[] {
  const strides = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis--) strides[axis] = (strides[axis + 1] ?? 1) * Math.max(1, shape[axis + 1] ?? 1);
  return strides;
}

/** True when the elements follow one another without gaps or repetition, last axis first. */
export function isContiguous(tensor: Tensor): boolean {
  const dense = contiguousStrides(tensor.shape);
  return tensor.shape.includes(0) || tensor.shape.every((size, axis) => size <= 1 || tensor.strides[axis] === dense[axis]);
}

/** Number of elements that a view must hold: one past the last element, 0 for an empty tensor. */
export function spanOf(shape: readonly number[], strides: readonly number[]): number {
  if (shape.includes(0)) return 0;
  return shape.reduce((last, size, axis) => last + (size - 1) * (strides[axis] ?? 0), 1);
}

/** True when the host can call `view()`. */
export function isHostTensor(tensor: Tensor): tensor is HostTensor {
  return 'view' in tensor;
}

/** What the array of each dtype calls itself. */
export const arrayKinds: Readonly<Record<DType, string>> = { f64: 'Float64Array', f32: 'Float32Array', f16: 'Uint16Array', bf16: 'Uint16Array', i32: 'Int32Array', i8: 'Int8Array', u8: 'Uint8Array' };

/** 'Float32Array' and so on, also for an array of another realm, and for a subclass (a Buffer of Node is a 'Uint8Array'). */
export function arrayKind(array: ArrayBufferView): string {
  return String(Reflect.get(array, Symbol.toStringTag));
}

/** The array class that stores a dtype. */
export function allocateArray(dtype: DType, length: number): TypedArray {
  switch (dtype) {
    case 'f64':
      return new Float64Array(length);
    case 'f32':
      return new Float32Array(length);
    case 'f16':
    case 'bf16':
      return new Uint16Array(length);
    case 'i32':
      return new Int32Array(length);
    case 'i8':
      return new Int8Array(length);
    case 'u8':
      return new Uint8Array(length);
  }
}

export interface TensorOptions {
  /** Default: what the array holds. A Uint16Array must say 'f16' or 'bf16'. */
  readonly dtype?: DType;
  /** In elements; default: dense, in the order of `layout`. */
  readonly strides?: readonly number[];
  /** Order of a dense rank-4 array; the shape stays [batch, heads, length, dim]. Default 'bhld'. */
  readonly layout?: Layout;
}

/**
 * Wraps an array of the host, without a copy. The array may be longer than shape and strides need: what lies past the last element is never read or written.
 *
 * @param data  the elements; plain numbers are stored as f32
 * @param shape sizes, [batch, heads, length, dim] for query, key and value
 * @throws AttentionError `invalid-shape`, `invalid-dtype`, `invalid-layout`, `invalid-tensor` (buffer too short for shape and strides)
 */
export function tensor(data: TypedArray | readonly number[], shape: readonly number[], options: TensorOptions = {}): HostTensor {
  if (!ArrayBuffer.isView(data) && !Array.isArray(data)) throw new AttentionError('invalid-argument', `Got ${show(data)} for the elements.`, 'Pass a typed array or an array of numbers.');
  if (options.dtype !== undefined && !dtypes.includes(options.dtype)) throw new AttentionError('invalid-dtype', `Got dtype ${show(options.dtype)}.`, `Expected one of ${dtypes.join(', ')}.`);
  const array: TypedArray = ArrayBuffer.isView(data) ? data : encode(data, options.dtype ?? 'f32');
  checkShape(shape);
  const kind = arrayKind(array);
  const [own, other] = dtypes.filter((candidate) => arrayKinds[candidate] === kind);
  const dtype = options.dtype ?? (other === undefined ? own : undefined);
  if (dtype === undefined) {
    throw new AttentionError('invalid-dtype', `A ${kind} does not tell its dtype.`, "Pass { dtype: 'f16' } or { dtype: 'bf16' } for a Uint16Array; other arrays hold f64, f32, i32, i8 or u8.");
  }
  if (arrayKinds[dtype] !== kind) throw new AttentionError('invalid-dtype', `Got a ${kind} for dtype ${dtype}.`, `Pass a ${arrayKinds[dtype]}.`);
  const strides = options.strides ?? layoutStrides(shape, options.layout ?? 'bhld');
  checkStrides(shape, strides);
  const span = spanOf(shape, strides);
  if (span > array.length) {
    throw new AttentionError(
      'invalid-tensor',
      `Shape [${shape.join(', ')}] with strides [${strides.join(', ')}] needs ${span} elements; the array holds ${array.length}.`,
      'Pass a longer array or a smaller shape.',
    );
  }
  return hostTensor(dtype, shape, strides, array);
}

function hostTensor(dtype: DType, shape: readonly number[], strides: readonly number[], array: TypedArray): HostTensor {
  return Object.freeze({ dtype, shape: Object.freeze([...shape]), strides: Object.freeze([...strides]), runtime: null, view: () => array });
}

/** A host tensor of zeros. */
export function zeros(shape: readonly number[], dtype: DType = 'f32'): HostTensor {
  checkShape(shape);
  return hostTensor(dtype, shape, contiguousStrides(shape), allocateArray(dtype, elementCount(shape)));
}

/** Strides, in elements, of a dense array in the given layout; `blhd` needs rank 4. */
export function layoutStrides(shape: readonly number[], layout: Layout): readonly number[] {
  if (layout === 'bhld') return contiguousStrides(shape);
  const [batch, heads, length, dim] = shape;
  if (shape.length !== 4 || batch === undefined || heads === undefined || length === undefined || dim === undefined) {
    throw new AttentionError('invalid-layout', `Layout 'blhd' needs a shape of rank 4; got [${shape.join(', ')}].`, 'Write the shape as [batch, heads, length, dim].');
  }
  return [length * heads * dim, dim, heads * dim, 1];
}

function checkShape(shape: readonly number[]): void {
  if (!Array.isArray(shape) || shape.some((size) => !Number.isSafeInteger(size) || size < 0) || !Number.isSafeInteger(elementCount(shape))) {
    throw new AttentionError('invalid-shape', `Got shape ${show(shape)}.`, 'Sizes are integers of 0 or more whose product is a safe integer.');
  }
}

function checkStrides(shape: readonly number[], strides: readonly number[]): void {
  if (!Array.isArray(strides) || strides.length !== shape.length || strides.some((stride) => !Number.isSafeInteger(stride) || stride < 0)) {
    throw new AttentionError('invalid-tensor', `Got strides ${show(strides)} for shape ${show(shape)}.`, 'One stride of 0 or more for each axis, in elements.');
  }
}

/**
 * The same memory with other axes: permuted, sliced or broadcast. The view follows the original when its memory moves.
 *
 * @param start index of the new element 0, for each axis of the original (default 0), or its distance in elements
 * @throws AttentionError `invalid-tensor` when the new view leaves the memory of the original
 */
export function restride(original: HostTensor, shape: readonly number[], strides: readonly number[], start: readonly number[] | number = []): HostTensor {
  checkShape(shape);
  checkStrides(shape, strides);
  const indices = typeof start === 'number' ? [start] : start;
  const offset = typeof start === 'number' ? start : start.reduce((sum, index, axis) => sum + index * (original.strides[axis] ?? 0), 0);
  if (indices.some((index) => !Number.isSafeInteger(index) || index < 0) || offset + spanOf(shape, strides) > spanOf(original.shape, original.strides)) {
    throw new AttentionError('invalid-tensor', `Shape [${shape.join(', ')}] with strides [${strides.join(', ')}] from ${indices.join(', ')} leaves its tensor.`, 'Slice within the original shape.');
  }
  const { dtype, runtime } = original;
  return Object.freeze({ dtype, shape: Object.freeze([...shape]), strides: Object.freeze([...strides]), runtime, view: () => original.view().subarray(offset) });
}

/** Axes in another order, as in `permute(x, [0, 2, 1, 3])`. No copy. */
export function permute(original: HostTensor, order: readonly number[]): HostTensor {
  if ([...order].sort((a, b) => a - b).some((axis, index) => axis !== index) || order.length !== original.shape.length) {
    throw new AttentionError('invalid-argument', `Got order [${order.join(', ')}] for rank ${original.shape.length}.`, 'Name every axis once.');
  }
  return restride(original, order.map((axis) => original.shape[axis] ?? 0), order.map((axis) => original.strides[axis] ?? 0));
}

/** The elements start … end − 1 along one axis. No copy. */
export function slice(original: HostTensor, axis: number, start: number, end: number): HostTensor {
  const size = original.shape[axis];
  if (size === undefined || !Number.isInteger(start) || !Number.isInteger(end) || start < 0 || end < start || end > size) {
    throw new AttentionError('invalid-argument', `Got slice ${start}…${end} of axis ${axis} of shape [${original.shape.join(', ')}].`, 'Expected 0 ≤ start ≤ end ≤ size.');
  }
  const starts = original.shape.map((_, index) => (index === axis && end > start ? start : 0));
  return restride(original, original.shape.map((old, index) => (index === axis ? end - start : old)), original.strides, starts);
}

/** The elements as float64, dense, row-major: what the reference reads and what comparisons read. */
export function toFloat64(source: HostTensor): Float64Array {
  const result = new Float64Array(elementCount(source.shape));
  const read = reader(source.dtype, source.view());
  visit(source, (flat, offset) => (result[flat] = read(offset)));
  return result;
}

/** Writes dense, row-major numbers through the strides of a tensor, encoded as {@link encode} does. */
export function encodeInto(values: ArrayLike<number>, target: HostTensor): void {
  const view = target.view();
  const convert = encoder(target.dtype);
  visit(target, (flat, offset) => (view[offset] = convert(values[flat] ?? 0)));
}

/** Every element in row-major order: its place in that order, and its offset in memory. */
function visit({ shape, strides }: Tensor, use: (flat: number, offset: number) => void): void {
  const count = elementCount(shape);
  const index = shape.map(() => 0);
  let offset = 0;
  for (let flat = 0; flat < count; flat++) {
    use(flat, offset);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const stride = strides[axis] ?? 0;
      const next = (index[axis] ?? 0) + 1;
      offset += stride;
      if (next < (shape[axis] ?? 0)) {
        index[axis] = next;
        break;
      }
      offset -= next * stride;
      index[axis] = 0;
    }
  }
}

/** Reads element `index` of an array as a number, decoding f16 and bf16. */
export function reader(dtype: DType, view: TypedArray): (index: number) => number {
  if (dtype === 'f16') return (index) => decodeFloat16(view[index] ?? 0);
  if (dtype === 'bf16') return (index) => decodeBfloat16(view[index] ?? 0);
  return (index) => view[index] ?? Number.NaN;
}

/** Numbers stored as `dtype`, dense: floats rounded to nearest even, overflow to ±∞ (L9); integers truncated by the array. */
export function encode(values: ArrayLike<number>, dtype: DType): TypedArray {
  const result = allocateArray(dtype, values.length);
  const convert = encoder(dtype);
  for (let index = 0; index < result.length; index++) result[index] = convert(values[index] ?? 0);
  return result;
}

/** What an array of this dtype is given for a number. */
function encoder(dtype: DType): (value: number) => number {
  if (dtype === 'f16') return encodeFloat16;
  if (dtype === 'bf16') return encodeBfloat16;
  return (value) => value;
}
