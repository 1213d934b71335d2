import { AttentionError } from '@heed/core';

/** What every buffer of a tensor may be used for: bound, copied from and to. The numbers are those of `GPUBufferUsage`, which Node has not. */
export const bufferUsage = { mapRead: 0x1, copySource: 0x4, copyTarget: 0x8, uniform: 0x40, storage: 0x80 } as const;

const tensorUsage = bufferUsage.copySource | bufferUsage.copyTarget | bufferUsage.storage;

export interface BufferOptions {
  /** Most bytes of all buffers in use. Default: no limit but the device's. */
  readonly maximumBytes?: number;
  /** Most bytes of released buffers that are kept for the next ones. Default 64 MiB. */
  readonly poolBytes?: number;
}

/** Buffers in use with their bytes, and a pool of released ones. Work that was submitted before a release has its turn before the next owner's. */
export class BufferPool {
  readonly #device: GPUDevice;
  readonly #maximumBytes: number;
  readonly #poolBytes: number;
  /** Bytes of each buffer in use. */
  readonly #live = new Map<GPUBuffer, number>();
  readonly #spare = new Map<number, GPUBuffer[]>();
  #spareBytes = 0;
  #bytes = 0;
  #peakBytes = 0;

  constructor(device: GPUDevice, { maximumBytes = Infinity, poolBytes = 64 * 2 ** 20 }: BufferOptions) {
    this.#device = device;
    this.#maximumBytes = maximumBytes;
    this.#poolBytes = poolBytes;
  }

  /** In use, without the pool. */
  get bytes(): number {
    return this.#bytes;
  }

  get peakBytes(): number {
    return this.#peakBytes;
  }

  /**
   * A storage buffer of at least these bytes, of undefined content.
   * @throws AttentionError `out-of-memory` with the limit's name and both numbers
   */
  acquire(bytes: number): GPUBuffer {
    const size = sizeClass(bytes);
    const { maxBufferSize, maxStorageBufferBindingSize } = this.#device.limits;
    if (size > maxBufferSize) throw tooLarge(bytes, 'maxBufferSize', maxBufferSize);
    if (size > maxStorageBufferBindingSize) throw tooLarge(bytes, 'maxStorageBufferBindingSize', maxStorageBufferBindingSize);
    if (this.#bytes + size > this.#maximumBytes) {
      throw new AttentionError('out-of-memory', `A buffer of ${size} bytes was asked for while ${this.#bytes} of ${this.#maximumBytes} bytes are in use.`, 'Release tensors, or raise maximumBytes.');
    }
    const buffer = this.#fromPool(size) ?? this.#device.createBuffer({ size, usage: tensorUsage });
    this.#live.set(buffer, size);
    this.#bytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#bytes);
    return buffer;
  }

  release(buffer: GPUBuffer): void {
    const size = this.#live.get(buffer);
    if (size === undefined) return;
    this.#live.delete(buffer);
    this.#bytes -= size;
    if (this.#spareBytes + size > this.#poolBytes) {
      buffer.destroy();
      return;
    }
    this.#spareBytes += size;
    const same = this.#spare.get(size);
    if (same === undefined) this.#spare.set(size, [buffer]);
    else same.push(buffer);
  }

  clear(): void {
    for (const buffer of this.#live.keys()) buffer.destroy();
    for (const same of this.#spare.values()) for (const buffer of same) buffer.destroy();
    this.#live.clear();
    this.#spare.clear();
    this.#bytes = 0;
    this.#spareBytes = 0;
  }

  #fromPool(size: number): GPUBuffer | undefined {
    const buffer = this.#spare.get(size)?.pop();
    if (buffer !== undefined) this.#spareBytes -= size;
    return buffer;
  }
}

/** Small buffers in steps of 256 bytes, larger ones in steps of an eighth, so that a released one fits the next. */
function sizeClass(bytes: number): number {
  const step = Math.max(256, 2 ** Math.floor(Math.log2(Math.max(1, bytes))) / 8);
  return Math.max(1, Math.ceil(bytes / step)) * step;
}

function tooLarge(bytes: number, limit: string, most: number): AttentionError {
  return new AttentionError('out-of-memory', `A buffer of ${bytes} bytes was asked for; ${limit} of this device is ${most}.`, 'Split the tensor along its batch or its heads.');
}
