/** Tensors that live in linear memory: blocks of the allocator, seen through fresh views. */
import { AttentionError, bytesPerElement, contiguousStrides, elementCount, isHostTensor, spanOf, type DType, type HostTensor, type Runtime, type Tensor, type TypedArray } from '@heed/core';
import type { LinearMemory } from './memory.ts';

/** Typed array over memory, for a dtype. */
export function viewMemory(memory: LinearMemory, dtype: DType, address: number, length: number): TypedArray {
  switch (dtype) {
    case 'f64':
      return memory.f64(address, length);
    case 'f32':
      return memory.f32(address, length);
    case 'f16':
    case 'bf16':
      return memory.u16(address, length);
    case 'i32':
      return memory.i32(address, length);
    case 'i8':
      return memory.i8(address, length);
    case 'u8':
      return memory.u8(address, length);
  }
}

interface Block {
  readonly bytes: number;
  /** Why its content is of no use: the call that was to write it went wrong. */
  poison?: AttentionError;
}

/** The tensors of one runtime. */
export class TensorStore {
  readonly #memory: LinearMemory;
  readonly #runtime: Runtime;
  /** Live blocks by address. */
  readonly #blocks = new Map<number, Block>();
  readonly #addresses = new Map<Tensor, number>();
  #poisoned = 0;

  constructor(memory: LinearMemory, runtime: Runtime) {
    this.#memory = memory;
    this.#runtime = runtime;
  }

  /** @throws AttentionError `invalid-shape`, `invalid-dtype`, `out-of-memory` */
  create(shape: readonly number[], dtype: DType): HostTensor {
    if (shape.some((size) => !Number.isSafeInteger(size) || size < 0)) {
      throw new AttentionError('invalid-shape', `Got shape [${shape.join(', ')}].`, 'Sizes are integers of 0 or more.');
    }
    const width = (bytesPerElement as Readonly<Record<string, number>>)[dtype];
    if (width === undefined) throw new AttentionError('invalid-dtype', `Got dtype '${dtype}'.`, `Expected one of ${Object.keys(bytesPerElement).join(', ')}.`);
    const length = elementCount(shape);
    if (!Number.isSafeInteger(length * width)) {
      throw new AttentionError('out-of-memory', `A tensor [${shape.join(', ')}] of ${dtype} passes 2⁵³ bytes.`, 'Split the work.');
    }
    const address = this.#memory.allocate(length * width);
    this.#blocks.set(address, { bytes: length * width });
    const tensor: HostTensor = Object.freeze({
      dtype,
      shape: Object.freeze([...shape]),
      strides: Object.freeze([...contiguousStrides(shape)]),
      runtime: this.#runtime,
      view: (): TypedArray => {
        if (!this.#addresses.has(tensor)) {
          throw new AttentionError('disposed', 'This tensor was released, or its runtime disposed.', 'Keep it until its last use.');
        }
        return viewMemory(this.#memory, dtype, address, length);
      },
    });
    this.#addresses.set(tensor, address);
    return tensor;
  }

  /**
   * Address of element 0 of a tensor of this runtime, or of a view of one.
   * @throws AttentionError `foreign-tensor`, `disposed`
   */
  addressOf(tensor: Tensor): number {
    const known = this.#addresses.get(tensor);
    if (known !== undefined) return known;
    if (tensor.runtime !== this.#runtime || !isHostTensor(tensor)) {
      throw new AttentionError('foreign-tensor', 'The tensor lives on another runtime or on the host.', 'Upload it to this runtime first.');
    }
    return tensor.view().byteOffset;
  }

  /** Forgets a tensor; the caller gives the block back to the allocator once nothing pending uses it. */
  remove(tensor: Tensor): number {
    if (tensor.runtime !== this.#runtime) throw new AttentionError('foreign-tensor', 'The tensor lives on another runtime or on the host.', 'Release it where it was made.');
    const address = this.#addresses.get(tensor);
    if (address === undefined) {
      throw new AttentionError('disposed', 'release got a tensor that is no longer live, or a view of one.', 'Release each tensor once, and the tensor itself, not a view of it.');
    }
    this.#addresses.delete(tensor);
    if (this.#blocks.get(address)?.poison !== undefined) this.#poisoned -= 1;
    this.#blocks.delete(address);
    return address;
  }

  clear(): void {
    this.#addresses.clear();
    this.#blocks.clear();
  }

  /** Marks what a failed call was to write. */
  poison(tensors: readonly Tensor[], error: AttentionError): void {
    for (const tensor of tensors) {
      const block = this.#blockOf(tensor);
      if (block === undefined) continue;
      if (block.poison === undefined) this.#poisoned += 1;
      block.poison = error;
    }
  }

  /** A call that writes the whole tensor anew cures it. */
  cure(tensors: readonly Tensor[]): void {
    if (this.#poisoned === 0) return;
    for (const tensor of tensors) {
      const block = this.#blockOf(tensor);
      if (block?.poison === undefined) continue;
      delete block.poison;
      this.#poisoned -= 1;
    }
  }

  /** Why one of the tensors is of no use. */
  poisonOf(tensors: readonly Tensor[]): AttentionError | undefined {
    if (this.#poisoned === 0) return undefined;
    for (const tensor of tensors) {
      const poison = this.#blockOf(tensor)?.poison;
      if (poison !== undefined) return poison;
    }
    return undefined;
  }

  #blockOf(tensor: Tensor): Block | undefined {
    const own = this.#addresses.get(tensor);
    if (own !== undefined) return this.#blocks.get(own);
    if (tensor.runtime !== this.#runtime || !isHostTensor(tensor)) return undefined;
    let address: number;
    try {
      address = tensor.view().byteOffset;
    } catch {
      // A view of a tensor that was released: nobody reads it any more.
      return undefined;
    }
    for (const [start, block] of this.#blocks) if (address >= start && address < start + Math.max(1, block.bytes)) return block;
    return undefined;
  }
}

/** Copies the elements of a strided array, row-major, to a dense one of the same class. */
export function packDense(source: HostTensor, target: TypedArray): void {
  const { shape, strides } = source;
  const view = source.view();
  const total = elementCount(shape);
  if (total === 0) return;
  // The longest dense tail is copied at once.
  let run = 1;
  let axes = shape.length;
  while (axes > 0 && (shape[axes - 1] === 1 || strides[axes - 1] === run)) {
    run *= shape[axes - 1] ?? 1;
    axes -= 1;
  }
  if (spanOf(shape, strides) > view.length) throw new AttentionError('invalid-tensor', 'The array is shorter than its shape and strides say.', 'Pass a longer array.');
  const outer = shape.slice(0, axes);
  const index = outer.map(() => 0);
  let from = 0;
  for (let to = 0; to < total; to += run) {
    if (run === 1) target[to] = view[from] ?? 0;
    else target.set(view.subarray(from, from + run), to);
    for (let axis = axes - 1; axis >= 0; axis -= 1) {
      const next = (index[axis] ?? 0) + 1;
      from += strides[axis] ?? 0;
      if (next < (outer[axis] ?? 0)) {
        index[axis] = next;
        break;
      }
      from -= next * (strides[axis] ?? 0);
      index[axis] = 0;
    }
  }
}
