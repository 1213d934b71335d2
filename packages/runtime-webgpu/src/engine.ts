import { AttentionError, type Runtime } from '@heed/core';
import { BufferPool, type BufferOptions } from './buffers.ts';
import { CommandStream, type Batch } from './commands.ts';
import { machineOf, type AcquiredDevice, type DeviceOptions, type Machine } from './device.ts';
import { PipelineCache, type PipelineOptions } from './pipelines.ts';
import { Readbacks } from './readbacks.ts';
import { PassTimer } from './timer.ts';
import { TensorStore } from './tensors.ts';

/** Everything that lives and dies with one device. */
export class Engine {
  readonly acquired: AcquiredDevice;
  readonly device: GPUDevice;
  readonly machine: Machine;
  readonly commands: CommandStream;
  readonly pool: BufferPool;
  readonly tensors: TensorStore;
  readonly pipelines: PipelineCache;
  readonly readbacks: Readbacks;
  readonly timer: PassTimer;
  /** Why nothing works any more. */
  #ended: AttentionError | undefined;
  /** Rejects when the device is lost, or the runtime disposed. */
  readonly #end: Promise<never>;
  #rejectEnd: (error: AttentionError) => void = () => undefined;
  /** The first error that the device reported since somebody waited for everything. */
  #lateError: AttentionError | undefined;
  /** Validations that are not back yet. */
  readonly #checks = new Set<Promise<void>>();

  constructor(acquired: AcquiredDevice, options: BufferOptions & PipelineOptions & Pick<DeviceOptions, 'bindingBytes'>, runtime: Runtime, before?: Engine) {
    const { device } = acquired;
    this.acquired = acquired;
    this.device = device;
    this.machine = machineOf(device, options);
    this.commands = new CommandStream(device, this.machine.bindingBytes, (batch) => {
      this.#judge(batch);
    });
    this.pool = new BufferPool(device, this.machine.bindingBytes, options, () => {
      this.commands.flush();
    });
    this.tensors = new TensorStore(this.pool, runtime, before?.tensors);
    this.pipelines = new PipelineCache(device, options);
    this.readbacks = new Readbacks(device, this.commands);
    this.timer = new PassTimer(device, this.commands, this.readbacks);
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

  /** Resolves when everything enqueued so far is done. @throws AttentionError `device-lost`, `disposed` */
  async finished(): Promise<void> {
    this.commands.flush();
    await this.outcome(this.device.queue.onSubmittedWorkDone());
  }

  /** Resolves when the device has said what it thinks of everything that was submitted. */
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

  /** Frees everything. What was enqueued is done on a device of the caller. */
  clear(): void {
    this.commands.flush();
    this.commands.clear();
    this.timer.clear();
    this.tensors.clear();
    this.pool.clear();
    this.pipelines.clear();
    if (this.acquired.owned) this.device.destroy();
  }

  /** What the device found wrong with a batch poisons everything that the batch was to write. */
  #judge({ programs, written, error }: Batch): void {
    const faults = [...programs].map(async (program) => this.pipelines.checkOf(program));
    const check = Promise.all([error.catch(() => null), ...faults]).then(([wrong, ...known]) => {
      this.#checks.delete(check);
      const fault = known.find((one) => one !== undefined) ?? (wrong === null ? undefined : reported(wrong));
      if (fault === undefined) return;
      this.tensors.poisonBuffers(written, fault);
      this.#lateError ??= fault;
    });
    this.#checks.add(check);
  }

  #watch(): void {
    const { device } = this;
    void device.lost.then(({ reason, message }) => {
      this.end(lost(`${reason}, ${message}`));
    });
    device.addEventListener('uncapturederror', (event) => {
      this.#lateError ??= reported(event.error);
    });
  }
}

function lost(why: string, cause?: unknown): AttentionError {
  return new AttentionError('device-lost', `The device was lost: ${why}.`, 'Call runtime.restore() and upload again.', { cause });
}

function reported(error: GPUError): AttentionError {
  const memory = error.constructor.name === 'GPUOutOfMemoryError';
  return new AttentionError(memory ? 'out-of-memory' : 'internal', `The device reports: ${error.message}`, memory ? 'Release tensors, or split the work.' : 'Please report it with the variant.');
}
