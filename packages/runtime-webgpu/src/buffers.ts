import { AttentionError } from '@heed/core';

/** What every buffer of a tensor may be used for: bound, copied from and to. The numbers are those of `GPUBufferUsage`, which Node has not. */
export const bufferUsage = { mapRead: 0x1, copySource: 0x4, copyTarget: 0x8, storage: 0x80 } as const;

const tensorUsage = bufferUsage.copySource | bufferUsage.copyTarget | bufferUsage.storage;

export interface BufferOptions {
  /** Most bytes of all buffers together, those kept for reuse too. Default 4 GiB. */
  readonly maximumBytes?: number;
  /** Most bytes of released buffers that are kept for the next ones. Default 64 MiB. */
  readonly poolBytes?: number;
}

/** Buffers in use with their bytes, and a pool of released ones. Work that was enqueued before a release has its turn before the next owner's. */
export class BufferPool {
  readonly #device: GPUDevice;
  readonly #bindingBytes: number;
  readonly #maximumBytes: number;
  readonly #poolBytes: number;
  readonly #beforeDestroy: () => void;
  /** Bytes of each buffer in use. */
  readonly #live = new Map<GPUBuffer, number>();
  readonly #spare = new Map<number, GPUBuffer[]>();
  #spareBytes = 0;
  #bytes = 0;
  #peakBytes = 0;

  /**
   * @param bindingBytes most bytes of one storage binding
   * @param beforeDestroy hands enqueued work to the device: a buffer that is destroyed may still be in it
   */
  constructor(device: GPUDevice, bindingBytes: number, { maximumBytes = 4 * 2 ** 30, poolBytes = 64 * 2 ** 20 }: BufferOptions, beforeDestroy: () => void) {
    this.#device = device;
    this.#bindingBytes = bindingBytes;
    this.#maximumBytes = maximumBytes;
    this.#poolBytes = poolBytes;
    this.#beforeDestroy = beforeDestroy;
  }

  /** In use, without the pool. */
  get bytes(): number {
    return this.#bytes;
  }

  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** Kept for reuse. */
  get spareBytes(): number {
    return this.#spareBytes;
  }

  /**
   * A storage buffer of at least these bytes, of undefined content. It may be longer than one binding: then ranges of it are bound.
   * @throws AttentionError `out-of-memory` with the limit's name and both numbers
   */
  acquire(bytes: number): GPUBuffer {
    const { maxBufferSize } = this.#device.limits;
    if (bytes > maxBufferSize) throw new AttentionError('out-of-memory', `A buffer of ${bytes} bytes was asked for; maxBufferSize of this device is ${maxBufferSize}.`, 'Split the tensor along its batch or its heads.');
    const size = sizeClass(bytes, [this.#bindingBytes, maxBufferSize]);
    if (this.#bytes + size > this.#maximumBytes) {
      throw new AttentionError('out-of-memory', `A buffer of ${size} bytes was asked for while ${this.#bytes} of ${this.#maximumBytes} bytes are in use.`, 'Release tensors, or raise maximumBytes.');
    }
    const buffer = this.#fromPool(size) ?? this.#create(size);
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
      this.#beforeDestroy();
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
    this.#live.clear();
    this.#bytes = 0;
    this.#dropSpare();
  }

  #create(size: number): GPUBuffer {
    if (this.#bytes + this.#spareBytes + size > this.#maximumBytes) {
      this.#beforeDestroy();
      this.#dropSpare();
    }
    return this.#device.createBuffer({ label: `${size} bytes`, size, usage: tensorUsage });
  }

  #dropSpare(): void {
    for (const same of this.#spare.values()) for (const buffer of same) buffer.destroy();
    this.#spare.clear();
    this.#spareBytes = 0;
  }

  #fromPool(size: number): GPUBuffer | undefined {
    const buffer = this.#spare.get(size)?.pop();
    if (buffer !== undefined) this.#spareBytes -= size;
    return buffer;
  }
}

/** Small buffers in steps of 256 bytes, larger ones in steps of an eighth, so that a released one fits the next; never beyond a limit that the bytes themselves keep. */
function sizeClass(bytes: number, limits: readonly number[]): number {
  const step = Math.max(256, 2 ** Math.floor(Math.log2(Math.max(1, bytes))) / 8);
  const size = Math.max(1, Math.ceil(bytes / step)) * step;
  return Math.min(size, ...limits.filter((limit) => limit >= bytes));
}
