import { AttentionError, contiguousStrides, elementCount, tensor as wrapHost, type DType, type HostTensor, type Operations, type Runtime, type Tensor } from '@heed/core';
import { BufferPool, bufferUsage, type BufferOptions } from './buffers.ts';
import { acquireDevice, type AcquiredDevice, type DeviceOptions } from './device.ts';
import { createOperations } from './operations/operations.ts';
import { PipelineCache, type Program, type ProgramSource } from './pipelines.ts';
import { arrayOver, packedBytes, TensorStore } from './tensors.ts';

export interface WebGpuRuntimeOptions extends DeviceOptions, BufferOptions {}

/** One shader run: buffers by binding, and how many workgroups. A workgroup's number is `group.x + group.y * groups.x`, and those past the last return. */
export interface Dispatch {
  readonly program: Program;
  readonly buffers: readonly GPUBuffer[];
  readonly workgroups: number;
}

/** What the device allows, for plans. */
export interface Machine {
  readonly invocations: number;
  readonly workgroupBytes: number;
  readonly bindingBytes: number;
}

/**
 * Starts a runtime on the caller's device, or a new one.
 * @throws AttentionError `unsupported` where there is no WebGPU
 */
export async function createWebGpuRuntime(options: WebGpuRuntimeOptions = {}): Promise<WebGpuRuntime> {
  return new WebGpuRuntime(await acquireDevice(options), options);
}

/** Tensors in buffers of a GPU; everything submitted runs in order. */
export class WebGpuRuntime implements Runtime {
  readonly name = 'webgpu';
  readonly operations: Operations;
  readonly #options: WebGpuRuntimeOptions;
  #acquired: AcquiredDevice;
  #pool: BufferPool;
  #tensors: TensorStore;
  #pipelines: PipelineCache;
  #lost: AttentionError | undefined;
  #lateError: AttentionError | undefined;
  #disposed = false;

  /** @internal use {@link createWebGpuRuntime} */
  constructor(acquired: AcquiredDevice, options: WebGpuRuntimeOptions) {
    this.#options = options;
    this.#acquired = acquired;
    this.#pool = new BufferPool(acquired.device, options);
    this.#tensors = new TensorStore(this.#pool, this);
    this.#pipelines = new PipelineCache(acquired.device);
    this.operations = createOperations(this);
    this.#watch(acquired.device);
  }

  get device(): GPUDevice {
    return this.#acquired.device;
  }

  get machine(): Machine {
    const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupStorageSize, maxStorageBufferBindingSize } = this.device.limits;
    return { invocations: maxComputeInvocationsPerWorkgroup, workgroupBytes: maxComputeWorkgroupStorageSize, bindingBytes: maxStorageBufferBindingSize };
  }

  /** What runs, for `explain()`. */
  describe(): readonly string[] {
    const { invocations, workgroupBytes, bindingBytes } = this.machine;
    return [
      `WebGPU on ${this.#acquired.description}.`,
      `Limits: ${invocations} invocations and ${workgroupBytes} bytes of workgroup memory, bindings of ${bindingBytes} bytes.`,
    ];
  }

  tensor(shape: readonly number[], dtype: DType): Tensor {
    this.checkOpen();
    return this.#tensors.create(shape, dtype);
  }

  upload(source: HostTensor): Tensor {
    this.checkOpen();
    const made = this.#tensors.create(source.shape, source.dtype);
    const bytes = packedBytes(source);
    if (bytes.length > 0) this.device.queue.writeBuffer(this.#tensors.bufferOf(made), 0, bytes);
    return made;
  }

  /** A dense tensor over a buffer of yours, without a copy; `release` forgets it and leaves the buffer alone. Usage: STORAGE, COPY_SRC and COPY_DST. */
  wrap(buffer: GPUBuffer, shape: readonly number[], dtype: DType): Tensor {
    this.checkOpen();
    return this.#tensors.wrap(buffer, shape, dtype);
  }

  async read(source: Tensor): Promise<HostTensor> {
    const [copy] = await this.readAll([source]);
    if (copy === undefined) throw new AttentionError('internal', 'Nothing came back from the device.', 'Please report it.');
    return copy;
  }

  /** Several tensors by one copy and one wait. */
  async readAll(sources: readonly Tensor[]): Promise<readonly HostTensor[]> {
    this.checkOpen();
    const strided = sources.filter((source) => !this.#tensors.isDense(source));
    if (strided.length > 0) {
      const copies = new Map(strided.map((source) => [source, this.operations.copy(source)]));
      try {
        return await this.readAll(sources.map((source) => copies.get(source) ?? source));
      } finally {
        for (const copy of copies.values()) if (!this.#disposed && this.#lost === undefined) this.release(copy);
      }
    }
    const parts = sources.map((source) => ({ source, buffer: this.#tensors.bufferOf(source), bytes: byteLength(source) }));
    const total = parts.reduce((sum, { bytes }) => sum + bytes, 0);
    const poison = this.#tensors.poisonOf(sources);
    if (poison !== undefined) throw poison;
    if (total === 0) return parts.map(({ source }) => wrapHost(arrayOver(source.dtype, new ArrayBuffer(0), 0), source.shape, { dtype: source.dtype }));
    const { device } = this;
    const staging = device.createBuffer({ label: 'readback', size: total, usage: bufferUsage.mapRead | bufferUsage.copyTarget });
    const encoder = device.createCommandEncoder();
    let place = 0;
    for (const { buffer, bytes } of parts) {
      if (bytes > 0) encoder.copyBufferToBuffer(buffer, 0, staging, place, bytes);
      place += bytes;
    }
    device.queue.submit([encoder.finish()]);
    try {
      await staging.mapAsync(1);
    } catch (cause) {
      throw this.#failure(cause);
    }
    const bytes = staging.getMappedRange().slice(0);
    staging.destroy();
    place = 0;
    return parts.map(({ source, bytes: length }) => {
      const own = bytes.slice(place, place + length);
      place += length;
      return wrapHost(arrayOver(source.dtype, own, elementCount(source.shape)), source.shape, { dtype: source.dtype });
    });
  }

  view(source: Tensor, shape: readonly number[], strides: readonly number[] = contiguousStrides(shape), start: number = 0): Tensor {
    this.checkOpen();
    return this.#tensors.view(source, shape, strides, start);
  }

  release(tensor: Tensor): void {
    this.checkOpen();
    this.#tensors.release(tensor);
  }

  async idle(): Promise<void> {
    this.checkOpen();
    await this.finished();
    const error = this.#lateError;
    this.#lateError = undefined;
    if (error !== undefined) throw error;
  }

  memory(): { readonly bytes: number; readonly peakBytes: number } {
    return { bytes: this.#pool.bytes, peakBytes: this.#pool.peakBytes };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#tensors.clear();
    this.#pool.clear();
    this.#pipelines.clear();
    if (this.#acquired.owned) this.device.destroy();
  }

  /**
   * After the device was lost: a new one. Tensors are gone with the old; kernels compile again at their next call.
   * @throws AttentionError `unsupported` where no device is to be had; `invalid-argument` when the device was the caller's
   */
  async restore(): Promise<void> {
    if (this.#disposed) throw disposed();
    if (!this.#acquired.owned) throw new AttentionError('invalid-argument', 'The device that was lost is the caller’s.', 'Make another and a runtime on it.');
    const acquired = await acquireDevice(this.#options);
    this.#acquired = acquired;
    this.#pool = new BufferPool(acquired.device, this.#options);
    this.#tensors = new TensorStore(this.#pool, this);
    this.#pipelines = new PipelineCache(acquired.device);
    this.#lost = undefined;
    this.#lateError = undefined;
    this.#watch(acquired.device);
  }

  // ── For kernels ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** @throws AttentionError `disposed`, `device-lost` */
  checkOpen(): void {
    if (this.#disposed) throw disposed();
    if (this.#lost !== undefined) throw this.#lost;
  }

  /** True when a tensor's buffer begins with its elements, in order: so for all but some views. */
  isDense(tensor: Tensor): boolean {
    return this.#tensors.isDense(tensor);
  }

  /** The buffer that a tensor or a view lies in, and where it begins, in elements. @throws AttentionError `foreign-tensor`, `disposed` */
  placeOf(tensor: Tensor): { readonly buffer: GPUBuffer; readonly start: number } {
    return this.#tensors.placeOf(tensor);
  }

  /** The buffer of a dense tensor of this runtime. @throws AttentionError `invalid-tensor` for a strided view, `foreign-tensor`, `disposed` */
  bufferOf(tensor: Tensor): GPUBuffer {
    return this.#tensors.bufferOf(tensor);
  }

  /** A buffer of its own accounting for a call; give it back with `releaseBuffer` once its last use is submitted. */
  acquireBuffer(bytes: number): GPUBuffer {
    this.checkOpen();
    return this.#pool.acquire(bytes);
  }

  releaseBuffer(buffer: GPUBuffer): void {
    this.#pool.release(buffer);
  }

  /** Words in a new storage buffer. */
  uploadWords(words: Uint32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Float32Array<ArrayBuffer>): GPUBuffer {
    const buffer = this.acquireBuffer(Math.max(4, words.byteLength));
    if (words.byteLength > 0) this.device.queue.writeBuffer(buffer, 0, words);
    return buffer;
  }

  /** A buffer of numbers that a shader reads as `var<uniform>`; destroy it once its last use is submitted. */
  uniformBuffer(words: Uint32Array<ArrayBuffer>): GPUBuffer {
    const size = Math.max(16, Math.ceil(words.byteLength / 16) * 16);
    const buffer = this.device.createBuffer({ size, usage: bufferUsage.uniform | bufferUsage.copyTarget });
    this.device.queue.writeBuffer(buffer, 0, words);
    return buffer;
  }

  async compile(source: ProgramSource): Promise<Program> {
    this.checkOpen();
    return this.#pipelines.compile(source);
  }

  compileNow(source: ProgramSource): Program {
    this.checkOpen();
    return this.#pipelines.compileNow(source);
  }

  /** Shaders one after another, each seeing what those before it wrote. */
  submit(dispatches: readonly Dispatch[]): void {
    this.checkOpen();
    const { device } = this;
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const { program, buffers, workgroups } of dispatches) {
      if (workgroups === 0) continue;
      const entries = buffers.map((buffer, binding): GPUBindGroupEntry => ({ binding, resource: { buffer } }));
      pass.setPipeline(program.pipeline);
      pass.setBindGroup(0, device.createBindGroup({ layout: program.layout, entries }));
      const most = device.limits.maxComputeWorkgroupsPerDimension;
      const columns = Math.min(workgroups, most);
      pass.dispatchWorkgroups(columns, Math.ceil(workgroups / columns));
    }
    pass.end();
    device.queue.submit([encoder.finish()]);
  }

  /** Bytes from one buffer to another, in order with what was submitted. */
  copyBytes(source: GPUBuffer, target: GPUBuffer, targetOffset: number, bytes: number): void {
    this.checkOpen();
    if (bytes === 0) return;
    const encoder = this.device.createCommandEncoder();
    encoder.copyBufferToBuffer(source, 0, target, targetOffset, bytes);
    this.device.queue.submit([encoder.finish()]);
  }

  /** Resolves when what was submitted so far is done. @throws AttentionError `device-lost`, `disposed` */
  async finished(): Promise<void> {
    try {
      await this.device.queue.onSubmittedWorkDone();
    } catch (cause) {
      throw this.#failure(cause);
    }
    this.checkOpen();
  }

  /** Marks what a call that went wrong was to write. */
  poison(tensors: readonly Tensor[], error: AttentionError): void {
    this.#tensors.poison(tensors, error);
  }

  #failure(cause: unknown): AttentionError {
    if (this.#disposed) return disposed();
    return this.#lost ?? new AttentionError('device-lost', `The device gave up: ${String(cause)}.`, 'Call runtime.restore() and upload again.', { cause });
  }

  #watch(device: GPUDevice): void {
    void device.lost.then(({ reason, message }) => {
      if (device !== this.device || this.#disposed) return;
      this.#lost = new AttentionError('device-lost', `The device was lost (${reason}): ${message}`, 'Call runtime.restore() and upload again.');
    });
    device.addEventListener('uncapturederror', (event) => {
      const { error } = event;
      const memory = error.constructor.name === 'GPUOutOfMemoryError';
      this.#lateError ??= new AttentionError(memory ? 'out-of-memory' : 'internal', `The device reports: ${error.message}`, memory ? 'Release tensors, or split the work.' : 'Please report it with the variant.');
    });
  }
}

function disposed(): AttentionError {
  return new AttentionError('disposed', 'This runtime is disposed.', 'Make another with createWebGpuRuntime().');
}

/** Bytes of a dense tensor, whole words. */
function byteLength({ shape, dtype }: Tensor): number {
  const width = { f64: 8, f32: 4, f16: 2, bf16: 2, i32: 4, i8: 1, u8: 1 }[dtype];
  return Math.ceil((elementCount(shape) * width) / 4) * 4;
}
