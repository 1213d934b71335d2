import { bufferUsage } from './buffers.ts';
import type { CommandStream } from './commands.ts';
import type { Readbacks } from './readbacks.ts';

const queryResolve = 0x200;

/** How long dispatches take on the device, from its own clock. */
export class PassTimer {
  readonly #device: GPUDevice;
  readonly #commands: CommandStream;
  readonly #readbacks: Readbacks;
  #queries: { readonly set: GPUQuerySet; readonly resolved: GPUBuffer } | undefined;

  constructor(device: GPUDevice, commands: CommandStream, readbacks: Readbacks) {
    this.#device = device;
    this.#commands = commands;
    this.#readbacks = readbacks;
  }

  /** Milliseconds of the dispatches that `body` makes; null where they did not fit into one pass. Needs the feature timestamp-query. */
  async time(body: () => void): Promise<number | null> {
    const { set, resolved } = (this.#queries ??= this.#make());
    const whole = this.#commands.timed(set, resolved, body);
    if (!whole) return null;
    const [begin = 0n, end = 0n] = new BigUint64Array(await this.#readbacks.read(resolved, 16));
    return Number(end - begin) / 1e6;
  }

  clear(): void {
    this.#queries?.set.destroy();
    this.#queries?.resolved.destroy();
    this.#queries = undefined;
  }

  #make(): { readonly set: GPUQuerySet; readonly resolved: GPUBuffer } {
    return {
      set: this.#device.createQuerySet({ label: 'pass times', type: 'timestamp', count: 2 }),
      resolved: this.#device.createBuffer({ label: 'pass times', size: 16, usage: queryResolve | bufferUsage.copySource }),
    };
  }
}
