import type { HostTensor, Tensor } from '@heed/core';
import type { BoundTable } from '@heed/core/compute';
import { AttentionError, isHostTensor, tensor, toFloat64 } from '@heed/core';
import type { WasmRuntime } from '../runtime.ts';

/** An operand in linear memory: address of element 0, strides in elements. */
export interface Placed {
  readonly address: number;
  readonly strides: readonly number[];
  readonly tensor: Tensor;
}

/** Small pieces share blocks: a call writes many records of a few words. */
const pieceBlock = 8192;
const largestPiece = 2048;
const pieceAlignment = 64;

/** The memory that one call holds until it is over: copies of host tensors, records, packed keys. */
export class CallMemory {
  readonly #runtime: WasmRuntime;
  readonly #tensors: Tensor[] = [];
  readonly #blocks: number[] = [];
  #bytes = 0;
  /** What is left of the last block for small pieces. */
  #pieces = { next: 0, left: 0 };

  constructor(runtime: WasmRuntime) {
    this.#runtime = runtime;
  }

  /** Bytes of its blocks, without copies of tensors. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Takes over what another memory holds, to be given back with its own. */
  adopt(other: CallMemory): void {
    this.#tensors.push(...other.#tensors.splice(0));
    this.#blocks.push(...other.#blocks.splice(0));
    this.#bytes += other.#bytes;
  }

  /** A tensor of the runtime where it is; a copy of one of the host. */
  place(given: Tensor): Placed {
    if (given.runtime === this.#runtime) return { address: this.#runtime.addressOf(given), strides: given.strides, tensor: given };
    if (!isHostTensor(given)) throw new AttentionError('foreign-tensor', 'A tensor lives on another runtime.', 'Read it to the host, or upload it to the kernel’s runtime.');
    const copy = this.#runtime.upload(given);
    this.#tensors.push(copy);
    return { address: this.#runtime.addressOf(copy), strides: copy.strides, tensor: copy };
  }

  /** A table as kernels read it: float32, int32, or one byte for a boolean; byte strides, 0 along an axis that repeats. */
  placeTable(name: string, { declaration, tensor: given, sizes }: BoundTable): { readonly address: number; readonly strides: readonly number[] } {
    const stored = declaration.type === 'f32' ? 'f32' : declaration.type === 'i32' ? 'i32' : 'u8';
    const placed = this.place(given.dtype === stored ? given : converted(name, given, stored));
    const bytes = stored === 'u8' ? 1 : 4;
    return { address: placed.address, strides: placed.strides.map((stride, axis) => (given.shape[axis] === 1 && sizes[axis] !== 1 ? 0 : stride * bytes)) };
  }

  allocate(bytes: number): number {
    if (bytes > largestPiece) return this.#block(bytes);
    const size = Math.ceil(bytes / pieceAlignment) * pieceAlignment;
    if (this.#pieces.left < size) this.#pieces = { next: this.#block(pieceBlock), left: pieceBlock };
    const { next, left } = this.#pieces;
    this.#pieces = { next: next + size, left: left - size };
    return next;
  }

  #block(bytes: number): number {
    const address = this.#runtime.heap.allocate(bytes);
    this.#blocks.push(address);
    this.#bytes += bytes;
    return address;
  }

  write(values: Int32Array | Float32Array): number {
    const address = this.allocate(Math.max(4, values.byteLength));
    if (values instanceof Int32Array) this.#runtime.heap.i32(address, values.length).set(values);
    else this.#runtime.heap.f32(address, values.length).set(values);
    return address;
  }

  /** Gives everything back once what was submitted so far is over. */
  release(): void {
    for (const copy of this.#tensors.splice(0)) this.#runtime.release(copy);
    for (const block of this.#blocks.splice(0)) this.#runtime.releaseBlock(block);
  }
}

function converted(name: string, given: Tensor, dtype: 'f32' | 'i32' | 'u8'): HostTensor {
  if (!isHostTensor(given)) throw new AttentionError('foreign-tensor', `Table '${name}' lives where the host cannot see it.`, 'Read it to the host first.');
  const values = toFloat64(given);
  const data = dtype === 'f32' ? Float32Array.from(values) : dtype === 'i32' ? Int32Array.from(values) : Uint8Array.from(values);
  return tensor(data, given.shape);
}
