import { AttentionError, type Runtime } from '@heed/core';
import { BufferPool, type BufferOptions } from './buffers.ts';
import { CommandStream, type Dispatch } from './commands.ts';
import type { AcquiredDevice } from './device.ts';
import { PipelineCache, type PipelineOptions } from './pipelines.ts';
import { Readbacks } from './readbacks.ts';
import { TensorStore } from './tensors.ts';

/** Everything that lives and dies with one device. */
export class Engine {
  readonly acquired: AcquiredDevice;
  readonly device: GPUDevice;
  readonly commands: CommandStream;
  readonly pool: BufferPool;
  readonly tensors: TensorStore;
  readonly pipelines: PipelineCache;
  readonly readbacks: Readbacks;
  /** Why nothing works any more. */
  #ended: AttentionError | undefined;
  /** Rejects when the device is lost, or the runtime disposed. */
  readonly #end: Promise<never>;
  #rejectEnd: (error: AttentionError) => void = () => undefined;
  /** The first error that the device reported since somebody waited for everything. */
  #lateError: AttentionError | undefined;
  /** Validations that are not back yet. */
  readonly #checks = new Set<Promise<void>>();

  constructor(acquired: AcquiredDevice, options: BufferOptions & PipelineOptions, runtime: Runtime, before?: Engine) {
    const { device } = acquired;
    this.acquired = acquired;
    this.device = device;
    this.commands = new CommandStream(device);
    this.pool = new BufferPool(device, options, () => {
      this.commands.flush();
    });
    this.tensors = new TensorStore(this.pool, runtime, before?.tensors);
    this.pipelines = new PipelineCache(device, options);
    this.readbacks = new Readbacks(device, this.commands);
    this.#end = new Promise<never>((_, reject) => (this.#rejectEnd = reject));
    // Nobody may be waiting.
    this.#end.catch(() => undefined);
    this.#watch();
  }

  /** @throws AttentionError `disposed`, `device-lost` */
  checkOpen(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }

  /** What a promise of the device gives, or the end of the device, whichever comes first. @throws AttentionError `disposed`, `device-lost` */
  async outcome<T>(work: Promise<T>): Promise<T> {
    let result: T;
    try {
      result = await Promise.race([work, this.#end]);
    } catch (cause) {
      this.checkOpen();
      if (cause instanceof AttentionError) throw cause;
      throw lost(`its answer was ${String(cause)}`, cause);
    }
    // A device that is lost completes what it was asked, and says later that it is lost.
    this.checkOpen();
    return result;
  }

  dispatch(dispatch: Dispatch): void {
    this.commands.dispatch(dispatch);
    const { program, buffers, parameters } = dispatch;
    const check = this.pipelines.checkOf(program);
    if (check === undefined) return;
    const first = parameters === undefined ? 0 : 1;
    const written = new Set(buffers.filter((_, index) => program.source.bindings[index + first] === 'write').map((bound) => ('offset' in bound ? bound.buffer : bound)));
    const poisoning = check.then((error) => {
      this.#checks.delete(poisoning);
      if (error === undefined) return;
      this.tensors.poisonBuffers(written, error);
      this.#lateError ??= error;
    });
    this.#checks.add(poisoning);
  }

  /** Resolves when everything enqueued so far is done. @throws AttentionError `device-lost`, `disposed` */
  async finished(): Promise<void> {
    this.commands.flush();
    await this.outcome(this.device.queue.onSubmittedWorkDone());
  }

  /** Resolves when the device has said what it thinks of every program that runs. */
  async validated(): Promise<void> {
    while (this.#checks.size > 0) await Promise.all(this.#checks);
  }

  /** The first error that the device reported since this was asked. */
  takeLateError(): AttentionError | undefined {
    const error = this.#lateError;
    this.#lateError = undefined;
    return error;
  }

  /** Ends pending work with this error. */
  end(error: AttentionError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#rejectEnd(error);
  }

  /** Frees everything. */
  clear(): void {
    this.commands.clear();
    this.tensors.clear();
    this.pool.clear();
    this.pipelines.clear();
    if (this.acquired.owned) this.device.destroy();
  }

  #watch(): void {
    const { device } = this;
    void device.lost.then(({ reason, message }) => {
      this.end(lost(`${reason}, ${message}`));
    });
    device.addEventListener('uncapturederror', (event) => {
      const { error } = event;
      const memory = error.constructor.name === 'GPUOutOfMemoryError';
      this.#lateError ??= new AttentionError(memory ? 'out-of-memory' : 'internal', `The device reports: ${error.message}`, memory ? 'Release tensors, or split the work.' : 'Please report it with the variant.');
    });
  }
}

function lost(why: string, cause?: unknown): AttentionError {
  return new AttentionError('device-lost', `The device was lost: ${why}.`, 'Call runtime.restore() and upload again.', { cause });
}
