import { AttentionError, contiguousStrides, elementCount, tensor as wrapHost, type DType, type HostTensor, type Operations, type Runtime, type Tensor } from '@heed/core';
import type { BufferOptions } from './buffers.ts';
import type { Dispatch } from './commands.ts';
import { acquireDevice, type AcquiredDevice, type DeviceOptions, type Machine } from './device.ts';
import { Engine } from './engine.ts';
import { createOperations } from './operations/operations.ts';
import type { PipelineOptions, Program, ProgramSource } from './pipelines.ts';
import { arrayOver, bytesOf, packedBytes } from './tensors.ts';

export interface WebGpuRuntimeOptions extends DeviceOptions, BufferOptions, PipelineOptions {}

/**
 * Starts a runtime on the caller's device, or a new one.
 * @throws AttentionError `unsupported` where there is no WebGPU
 */
export async function createWebGpuRuntime(options: WebGpuRuntimeOptions = {}): Promise<WebGpuRuntime> {
  return new WebGpuRuntime(await acquireDevice(options), options);
}

/** Tensors in buffers of a GPU; everything enqueued runs in order. */
export class WebGpuRuntime implements Runtime {
  readonly name = 'webgpu';
  readonly operations: Operations;
  readonly #options: WebGpuRuntimeOptions;
  /** What lives and dies with the device. */
  #engine: Engine;
  #disposed = false;

  /** @internal use {@link createWebGpuRuntime} */
  constructor(acquired: AcquiredDevice, options: WebGpuRuntimeOptions) {
    this.#options = options;
    this.#engine = new Engine(acquired, options, this);
    this.operations = createOperations(this);
  }

  get device(): GPUDevice {
    return this.#engine.device;
  }

  get machine(): Machine {
    return this.#engine.machine;
  }

  /** What runs, for `explain()`. */
  describe(): readonly string[] {
    const { invocations, workgroupBytes, bindingBytes, float16, subgroups } = this.machine;
    const { least, most } = subgroups ?? { least: 0, most: 0 };
    return [
      `WebGPU on ${this.#engine.acquired.description}.`,
      `Limits: ${invocations} invocations and ${workgroupBytes} bytes of workgroup memory, bindings of ${bindingBytes} bytes.`,
      `${float16 ? 'It computes in float16' : 'No float16 in shaders'}, ${subgroups === null ? 'no subgroups' : `subgroups of ${least === most ? least : `${least} to ${most}`}`}.`,
    ];
  }

  tensor(shape: readonly number[], dtype: DType): Tensor {
    this.checkOpen();
    return this.#engine.tensors.create(shape, dtype);
  }

  upload(source: HostTensor): Tensor {
    this.checkOpen();
    const { tensors, commands } = this.#engine;
    const made = tensors.create(source.shape, source.dtype);
    commands.write(tensors.bufferOf(made), 0, packedBytes(source));
    return made;
  }

  /** A dense tensor over a buffer of yours, without a copy; `release` forgets it and leaves the buffer alone. Usage: STORAGE, COPY_SRC and COPY_DST. */
  wrap(buffer: GPUBuffer, shape: readonly number[], dtype: DType): Tensor {
    this.checkOpen();
    return this.#engine.tensors.wrap(buffer, shape, dtype);
  }

  async read(source: Tensor): Promise<HostTensor> {
    const [copy] = await this.readAll([source]);
    if (copy === undefined) throw new AttentionError('internal', 'Nothing came back from the device.', 'Please report it.');
    return copy;
  }

  /** Several tensors by one wait. */
  async readAll(sources: readonly Tensor[]): Promise<readonly HostTensor[]> {
    this.checkOpen();
    const engine = this.#engine;
    const { tensors, readbacks } = engine;
    const reads = sources.map(async (source) => {
      const dense = tensors.isDense(source) ? source : this.operations.copy(source);
      const bytes = readbacks.read(tensors.bufferOf(dense), bytesOf(source.shape, source.dtype));
      // The copy stands before whatever writes there next.
      if (dense !== source) tensors.release(dense);
      return wrapHost(arrayOver(source.dtype, await bytes, elementCount(source.shape)), source.shape, { dtype: source.dtype });
    });
    const copies = await engine.outcome(Promise.all(reads));
    await engine.validated();
    const poison = tensors.poisonOf(sources);
    if (poison !== undefined) throw poison;
    return copies;
  }

  view(source: Tensor, shape: readonly number[], strides: readonly number[] = contiguousStrides(shape), start: number = 0): Tensor {
    this.checkOpen();
    return this.#engine.tensors.view(source, shape, strides, start);
  }

  release(tensor: Tensor): void {
    this.checkOpen();
    this.#engine.tensors.release(tensor);
  }

  async idle(): Promise<void> {
    this.checkOpen();
    const engine = this.#engine;
    await engine.finished();
    await engine.validated();
    const error = engine.takeLateError();
    if (error !== undefined) throw error;
  }

  /** `pooledBytes` are released buffers that are kept for the next ones; they count as neither of the others. */
  memory(): { readonly bytes: number; readonly peakBytes: number; readonly pooledBytes: number } {
    const { bytes, peakBytes, spareBytes } = this.#engine.pool;
    return { bytes, peakBytes, pooledBytes: spareBytes };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#engine.end(disposed());
    this.#engine.clear();
  }

  /**
   * After the device was lost: a new one, with everything compiled again that was compiled on the old one. Tensors are gone with the old; kernels that were
   * prepared work on.
   * @param given a new device of the caller, who must give one where the lost one was theirs
   * @throws AttentionError `unsupported` where no device is to be had; `invalid-argument` when the device was the caller's and none is given; `disposed`
   */
  async restore(given: Pick<DeviceOptions, 'device'> = {}): Promise<void> {
    if (this.#disposed) throw disposed();
    const before = this.#engine;
    if (!before.acquired.owned && given.device === undefined) throw new AttentionError('invalid-argument', 'The device that was lost is the caller’s.', 'Make another and pass it: restore({ device }).');
    const { powerPreference } = this.#options;
    const acquired = await acquireDevice({ ...given, ...(powerPreference === undefined ? {} : { powerPreference }) });
    const sources = before.pipelines.sources();
    before.end(new AttentionError('device-lost', 'The device was replaced.', 'Upload again.'));
    const engine = new Engine(acquired, this.#options, this, before);
    before.clear();
    this.#engine = engine;
    await Promise.all(sources.map(async (source) => engine.pipelines.compile(source)));
  }

  /** Hands everything enqueued to the device now, for work of your own that must come after it. It goes by itself when the running task ends. */
  flush(): void {
    this.#engine.commands.flush();
  }

  // ── For kernels ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** @throws AttentionError `disposed`, `device-lost` */
  checkOpen(): void {
    this.#engine.checkOpen();
  }

  /** True when a tensor's buffer begins with its elements, in order: so for all but some views. */
  isDense(tensor: Tensor): boolean {
    return this.#engine.tensors.isDense(tensor);
  }

  /** The buffer that a tensor or a view lies in, and where it begins, in elements. @throws AttentionError `foreign-tensor`, `disposed` */
  placeOf(tensor: Tensor): { readonly buffer: GPUBuffer; readonly start: number } {
    return this.#engine.tensors.placeOf(tensor);
  }

  /** The buffer of a dense tensor of this runtime. @throws AttentionError `invalid-tensor` for a strided view, `foreign-tensor`, `disposed` */
  bufferOf(tensor: Tensor): GPUBuffer {
    return this.#engine.tensors.bufferOf(tensor);
  }

  /** A buffer of its own accounting for a call; give it back with `releaseBuffer` once its last use is enqueued. */
  acquireBuffer(bytes: number): GPUBuffer {
    this.checkOpen();
    return this.#engine.pool.acquire(bytes);
  }

  releaseBuffer(buffer: GPUBuffer): void {
    this.#engine.pool.release(buffer);
  }

  /** Words in a new storage buffer. */
  uploadWords(words: Uint32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Float32Array<ArrayBuffer>): GPUBuffer {
    const buffer = this.acquireBuffer(Math.max(4, words.byteLength));
    this.writeWords(buffer, 0, words);
    return buffer;
  }

  /** Words to a place in a buffer, in bytes and a multiple of 4, in order with everything enqueued; copied before this returns. */
  writeWords(target: GPUBuffer, offset: number, words: Uint32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Float32Array<ArrayBuffer>): void {
    this.checkOpen();
    this.#engine.commands.write(target, offset, new Uint8Array(words.buffer, words.byteOffset, words.byteLength));
  }

  /** Compiles without stalling a frame, a few programs at a time; the same text once. @throws AttentionError `internal` naming shader and line, `unsupported`, `device-lost` */
  async compile(source: ProgramSource): Promise<Program> {
    this.checkOpen();
    const engine = this.#engine;
    return engine.outcome(engine.pipelines.compile(source));
  }

  /** Compiles at once what `compile` has not; a mistake in the text poisons what the program writes, and surfaces at `read` and `idle`. */
  compileNow(source: ProgramSource): Program {
    this.checkOpen();
    return this.#engine.pipelines.compileNow(source);
  }

  /**
   * Shaders one after another, each seeing what those before it wrote. They go to the device with what else is enqueued.
   * @throws AttentionError `out-of-memory` naming the limit that a binding or the number of workgroups passes, with both numbers
   */
  submit(dispatches: readonly Dispatch[]): void {
    this.checkOpen();
    for (const dispatch of dispatches) this.#engine.commands.dispatch(dispatch);
  }

  /**
   * Milliseconds that the dispatches of `body` take on the device, once they are done; null where it does not tell, or where they did not fit into one pass.
   * @throws AttentionError `device-lost`, `disposed`
   */
  async timed(body: () => void): Promise<number | null> {
    this.checkOpen();
    const engine = this.#engine;
    if (engine.machine.timestamps) return engine.outcome(engine.timer.time(body));
    body();
    await engine.finished();
    return null;
  }

  /** Bytes from one buffer to another, in order with what was enqueued. All numbers are multiples of 4. */
  copyBytes(source: GPUBuffer, target: GPUBuffer, targetOffset: number, bytes: number, sourceOffset = 0): void {
    this.checkOpen();
    this.#engine.commands.copy(source, sourceOffset, target, targetOffset, bytes);
  }

  /** Resolves when what was enqueued so far is done. @throws AttentionError `device-lost`, `disposed` */
  async finished(): Promise<void> {
    this.checkOpen();
    await this.#engine.finished();
  }

  /** Marks what a call that went wrong was to write. */
  poison(tensors: readonly Tensor[], error: AttentionError): void {
    this.#engine.tensors.poison(tensors, error);
  }
}

function disposed(): AttentionError {
  return new AttentionError('disposed', 'This runtime is disposed.', 'Make another with createWebGpuRuntime().');
}
