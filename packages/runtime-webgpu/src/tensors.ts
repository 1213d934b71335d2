import { AttentionError, bytesPerElement, contiguousStrides, elementCount, isContiguous, spanOf, type DType, type HostTensor, type Runtime, type Tensor } from '@heed/core';
import type { BufferPool } from './buffers.ts';

interface View {
  readonly base: Tensor;
  /** In elements. */
  readonly start: number;
}

interface Block {
  readonly buffer: GPUBuffer;
  /** Ours to give back; a wrapped buffer of the user is not. */
  readonly owned: boolean;
  poison?: AttentionError;
}

/** The tensors of one runtime: each is a buffer of its own, elements packed to words of 32 bits, the first in the low bits. */
export class TensorStore {
  readonly #pool: BufferPool;
  readonly #runtime: Runtime;
  readonly #blocks = new Map<Tensor, Block>();
  /** Tensors of devices that were lost. */
  readonly #gone: WeakSet<Tensor>;
  /** Tensors that are other ways to see one of the blocks. */
  readonly #views = new WeakMap<Tensor, View>();

  /** @param before the tensors of a device that was lost: they may be released still, and nothing else */
  constructor(pool: BufferPool, runtime: Runtime, before?: TensorStore) {
    this.#pool = pool;
    this.#runtime = runtime;
    this.#gone = before === undefined ? new WeakSet() : before.#gone;
    if (before !== undefined) for (const tensor of before.#blocks.keys()) this.#gone.add(tensor);
  }

  /** @throws AttentionError `invalid-shape`, `invalid-dtype`, `out-of-memory` */
  create(shape: readonly number[], dtype: DType): Tensor {
    const bytes = bytesOf(shape, dtype);
    return this.#keep(shape, dtype, { buffer: this.#pool.acquire(bytes), owned: true });
  }

  /** @throws AttentionError `invalid-tensor` for a buffer that is too short or may not be bound */
  wrap(buffer: GPUBuffer, shape: readonly number[], dtype: DType): Tensor {
    const bytes = bytesOf(shape, dtype);
    const needed = 0x80 | 0x4 | 0x8;
    if (buffer.size < bytes || (buffer.usage & needed) !== needed) {
      throw new AttentionError('invalid-tensor', `The buffer holds ${buffer.size} bytes with usage ${buffer.usage}; the tensor takes ${bytes}.`, 'Make it long enough, with usage STORAGE, COPY_SRC and COPY_DST.');
    }
    return this.#keep(shape, dtype, { buffer, owned: false });
  }

  /** @throws AttentionError `invalid-tensor` when it would leave the tensor, `foreign-tensor`, `disposed` */
  view(tensor: Tensor, shape: readonly number[], strides: readonly number[], start: number): Tensor {
    this.#blockOf(this.#baseOf(tensor));
    if ([...shape, ...strides, start].some((one) => !Number.isSafeInteger(one) || one < 0) || strides.length !== shape.length || start + spanOf(shape, strides) > spanOf(tensor.shape, tensor.strides)) {
      throw new AttentionError('invalid-tensor', `Shape [${shape.join(', ')}] with strides [${strides.join(', ')}] from ${start} leaves its tensor.`, 'Slice within the original shape.');
    }
    const view: Tensor = Object.freeze({ dtype: tensor.dtype, shape: Object.freeze([...shape]), strides: Object.freeze([...strides]), runtime: this.#runtime });
    this.#views.set(view, { base: this.#baseOf(tensor), start: start + (this.#views.get(tensor)?.start ?? 0) });
    return view;
  }

  /** True when the buffer's first elements are those of the tensor, in order. */
  isDense(tensor: Tensor): boolean {
    const view = this.#views.get(tensor);
    return view === undefined || (view.start === 0 && isContiguous(tensor));
  }

  /** The buffer of a tensor or of what it is a view of, and where it begins there, in elements. @throws AttentionError `foreign-tensor`, `disposed` */
  placeOf(tensor: Tensor): { readonly buffer: GPUBuffer; readonly start: number } {
    return { buffer: this.#blockOf(this.#baseOf(tensor)).buffer, start: this.#views.get(tensor)?.start ?? 0 };
  }

  /** @throws AttentionError `invalid-tensor` for a view that is not dense from the start, `foreign-tensor`, `disposed` */
  bufferOf(tensor: Tensor): GPUBuffer {
    if (!this.isDense(tensor)) throw new AttentionError('invalid-tensor', `A view [${tensor.shape.join(', ')}] with strides [${tensor.strides.join(', ')}] has no buffer of its own.`, 'Copy it first.');
    return this.#blockOf(this.#baseOf(tensor)).buffer;
  }

  /** @throws AttentionError `foreign-tensor`, `disposed` */
  release(tensor: Tensor): void {
    if (this.#gone.delete(tensor)) return;
    const { buffer, owned } = this.#blockOf(tensor);
    this.#blocks.delete(tensor);
    if (owned) this.#pool.release(buffer);
  }

  clear(): void {
    this.#blocks.clear();
  }

  poison(tensors: readonly Tensor[], error: AttentionError): void {
    for (const tensor of tensors) {
      const block = this.#blocks.get(this.#baseOf(tensor));
      if (block !== undefined) block.poison = error;
    }
  }

  /** Marks the tensors in these buffers. */
  poisonBuffers(buffers: ReadonlySet<GPUBuffer>, error: AttentionError): void {
    for (const block of this.#blocks.values()) if (buffers.has(block.buffer)) block.poison = error;
  }

  poisonOf(tensors: readonly Tensor[]): AttentionError | undefined {
    for (const tensor of tensors) {
      const poison = this.#blocks.get(this.#baseOf(tensor))?.poison;
      if (poison !== undefined) return poison;
    }
    return undefined;
  }

  #keep(shape: readonly number[], dtype: DType, block: Block): Tensor {
    const tensor: Tensor = Object.freeze({ dtype, shape: Object.freeze([...shape]), strides: Object.freeze([...contiguousStrides(shape)]), runtime: this.#runtime });
    this.#blocks.set(tensor, block);
    return tensor;
  }

  #baseOf(tensor: Tensor): Tensor {
    return this.#views.get(tensor)?.base ?? tensor;
  }

  #blockOf(tensor: Tensor): Block {
    const block = this.#blocks.get(tensor);
    if (block !== undefined) return block;
    if (tensor.runtime !== this.#runtime) throw new AttentionError('foreign-tensor', 'The tensor lives on another runtime or on the host.', 'Upload it to this runtime first.');
    if (this.#gone.has(tensor)) throw new AttentionError('disposed', 'This tensor was on a device that was lost.', 'Upload it again.');
    throw new AttentionError('disposed', 'This tensor was released, or its runtime disposed.', 'Keep it until its last use, and release it once.');
  }
}

/** Bytes of a dense tensor, in whole words. @throws AttentionError `invalid-shape`, `invalid-dtype`, `out-of-memory` */
export function bytesOf(shape: readonly number[], dtype: DType): number {
  if (shape.some((size) => !Number.isSafeInteger(size) || size < 0)) throw new AttentionError('invalid-shape', `Got shape [${shape.join(', ')}].`, 'Sizes are integers of 0 or more.');
  const width = (bytesPerElement as Readonly<Record<string, number>>)[dtype];
  if (width === undefined) throw new AttentionError('invalid-dtype', `Got dtype '${dtype}'.`, `Expected one of ${Object.keys(bytesPerElement).join(', ')}.`);
  const bytes = elementCount(shape) * width;
  if (!Number.isSafeInteger(bytes)) throw new AttentionError('out-of-memory', `A tensor [${shape.join(', ')}] of ${dtype} passes 2⁵³ bytes.`, 'Split the work.');
  return Math.ceil(bytes / 4) * 4;
}

/** The elements of a strided host tensor, row-major, as the bytes of whole words. */
export function packedBytes(source: HostTensor): Uint8Array<ArrayBuffer> {
  const { shape, strides, dtype } = source;
  const view = source.view();
  const total = elementCount(shape);
  const bytes = new Uint8Array(Math.ceil((total * bytesPerElement[dtype]) / 4) * 4);
  const target = arrayOver(dtype, bytes.buffer, total);
  if (total === 0) return bytes;
  let run = 1;
  let axes = shape.length;
  while (axes > 0 && (shape[axes - 1] === 1 || strides[axes - 1] === run)) {
    run *= shape[axes - 1] ?? 1;
    axes -= 1;
  }
  const index = shape.slice(0, axes).map(() => 0);
  let from = 0;
  for (let to = 0; to < total; to += run) {
    if (run === 1) target[to] = view[from] ?? 0;
    else target.set(view.subarray(from, from + run), to);
    for (let axis = axes - 1; axis >= 0; axis -= 1) {
      const next = (index[axis] ?? 0) + 1;
      from += strides[axis] ?? 0;
      if (next < (shape[axis] ?? 0)) {
        index[axis] = next;
        break;
      }
      from -= next * (strides[axis] ?? 0);
      index[axis] = 0;
    }
  }
  return bytes;
}

/** Elements of a dtype over bytes that begin at 0. */
export function arrayOver(dtype: DType, bytes: ArrayBuffer, length: number): ReturnType<HostTensor['view']> {
  switch (dtype) {
    case 'f64':
      return new Float64Array(bytes, 0, length);
    case 'f32':
      return new Float32Array(bytes, 0, length);
    case 'f16':
    case 'bf16':
      return new Uint16Array(bytes, 0, length);
    case 'i32':
      return new Int32Array(bytes, 0, length);
    case 'i8':
      return new Int8Array(bytes, 0, length);
    case 'u8':
      return new Uint8Array(bytes, 0, length);
  }
}
