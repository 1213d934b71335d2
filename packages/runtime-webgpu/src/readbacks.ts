import { bufferUsage } from './buffers.ts';
import type { CommandStream } from './commands.ts';

/** Small readbacks share a buffer of these bytes. */
const sharedBytes = 64 * 2 ** 10;

/** One buffer on its way to the host. */
interface Batch {
  readonly staging: GPUBuffer;
  readonly size: number;
  used: number;
  /** What stands in it, once it is mapped. */
  readonly content: Promise<ArrayBuffer>;
}

/**
 * Copies from the device. What is asked for in one task of the event loop goes by one submit and, where it is small, by one buffer. The copy stands in
 * order with everything enqueued: what is written later is not read.
 */
export class Readbacks {
  readonly #device: GPUDevice;
  readonly #commands: CommandStream;
  #open: Batch | undefined;
  #spare: GPUBuffer | undefined;

  constructor(device: GPUDevice, commands: CommandStream) {
    this.#device = device;
    this.#commands = commands;
  }

  /** The first bytes of a buffer, a multiple of 4. Rejects as `mapAsync` does. */
  async read(source: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    if (bytes === 0) return new ArrayBuffer(0);
    const batch = this.#batchFor(bytes);
    const place = batch.used;
    batch.used += bytes;
    this.#commands.copy(source, 0, batch.staging, place, bytes);
    const content = await batch.content;
    return content.slice(place, place + bytes);
  }

  #batchFor(bytes: number): Batch {
    const open = this.#open;
    if (open !== undefined && open.used + bytes <= open.size) return open;
    const size = Math.max(sharedBytes, bytes);
    const shared = size === sharedBytes;
    const staging = (shared ? this.#takeSpare() : undefined) ?? this.#device.createBuffer({ label: 'readback', size, usage: bufferUsage.mapRead | bufferUsage.copyTarget });
    const batch: Batch = { staging, size, used: 0, content: Promise.resolve().then(async () => this.#map(batch)) };
    if (shared) this.#open = batch;
    return batch;
  }

  async #map(batch: Batch): Promise<ArrayBuffer> {
    if (this.#open === batch) this.#open = undefined;
    this.#commands.flush();
    const { staging, size, used } = batch;
    await staging.mapAsync(1, 0, used);
    const content = staging.getMappedRange(0, used).slice(0);
    staging.unmap();
    if (size === sharedBytes && this.#spare === undefined) this.#spare = staging;
    else staging.destroy();
    return content;
  }

  #takeSpare(): GPUBuffer | undefined {
    const spare = this.#spare;
    this.#spare = undefined;
    return spare;
  }
}
