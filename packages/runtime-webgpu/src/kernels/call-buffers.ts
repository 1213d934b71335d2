import { bytesPerElement, contiguousStrides, elementCount, isHostTensor, reader, type Tensor } from '@heed/core';
import type { BoundTable } from '@heed/core/compute';
import type { OperationCall } from '../operations/context.ts';
import type { WebGpuRuntime } from '../runtime.ts';
import { identifier } from '../wgsl/writer.ts';

/** The part of a call that programs read beside rows. */
export interface SharedCall {
  readonly tables: Readonly<Record<string, BoundTable>>;
  readonly uniforms: Readonly<Record<string, number>>;
  /** Default 0. */
  readonly headOffset?: number;
}

/** Buffers that a call needs on the way; given back when its last dispatch is submitted. */
export class CallBuffers {
  readonly runtime: WebGpuRuntime;
  readonly #buffers: GPUBuffer[] = [];
  readonly #tensors: Tensor[] = [];

  constructor(runtime: WebGpuRuntime) {
    this.runtime = runtime;
  }

  acquire(bytes: number): GPUBuffer {
    const buffer = this.runtime.acquireBuffer(bytes);
    this.#buffers.push(buffer);
    return buffer;
  }

  words(words: Int32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>): GPUBuffer {
    const buffer = this.runtime.uploadWords(words);
    this.#buffers.push(buffer);
    return buffer;
  }

  /** The tensor where it lives here and is dense, else a dense copy or an upload of it. */
  onDevice(tensor: Tensor): Tensor {
    if (!isHostTensor(tensor) && this.runtime.isDense(tensor)) return tensor;
    const made = isHostTensor(tensor) ? this.runtime.upload(tensor) : this.runtime.operations.copy(tensor);
    this.#tensors.push(made);
    return made;
  }

  release(): void {
    for (const buffer of this.#buffers.splice(0)) this.runtime.releaseBuffer(buffer);
    for (const tensor of this.#tensors.splice(0)) this.runtime.release(tensor);
  }
}

/** All tables of a call in one buffer, 32 bits an element, with the parameters that say where each begins and how it is stepped through. */
export function writeTables(operations: OperationCall, buffers: CallBuffers, { tables }: SharedCall): { readonly buffer: GPUBuffer; readonly values: Readonly<Record<string, number>> } {
  const values: Record<string, number> = {};
  const entries = Object.entries(tables);
  let length = 0;
  for (const [name, table] of entries) {
    const prefix = identifier('table', name);
    values[`${prefix}_at`] = length;
    const dense = contiguousStrides(table.tensor.shape);
    table.tensor.shape.forEach((size, axis) => (values[`${prefix}_step${axis}`] = size === 1 ? 0 : (dense[axis] ?? 0)));
    length += elementCount(table.tensor.shape);
  }
  const words = new Uint32Array(length);
  for (const [name, table] of entries) {
    if (isHostTensor(table.tensor)) writeElements(words.subarray(values[`${identifier('table', name)}_at`] ?? 0), table);
  }
  const buffer = buffers.words(words);
  for (const [name, { tensor, declaration }] of entries) {
    if (isHostTensor(tensor)) continue;
    const elements = operations.dense(tensor, declaration.type === 'f32' ? 'f32' : 'i32');
    buffers.runtime.copyBytes(elements, buffer, 4 * (values[`${identifier('table', name)}_at`] ?? 0), elementCount(tensor.shape) * bytesPerElement.f32);
  }
  return { buffer, values };
}

/** The elements of a host table, dense, as f32 bits or as integers. */
function writeElements(words: Uint32Array, { tensor, declaration }: BoundTable): void {
  if (!isHostTensor(tensor)) return;
  const read = reader(tensor.dtype, tensor.view());
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  const { shape, strides } = tensor;
  const index = shape.map(() => 0);
  const count = elementCount(shape);
  let from = 0;
  for (let flat = 0; flat < count; flat += 1) {
    if (declaration.type === 'f32') floats[flat] = read(from);
    else words[flat] = read(from);
    for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
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
}

/** Uniforms and the head offset by the names of their fields. */
export function sharedValues({ uniforms, headOffset = 0 }: SharedCall): Readonly<Record<string, number>> {
  return { headOffset, ...Object.fromEntries(Object.entries(uniforms).map(([name, value]) => [identifier('uniform', name), value])) };
}
