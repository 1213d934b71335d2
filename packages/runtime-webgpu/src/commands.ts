import { AttentionError } from '@heed/core';
import type { Program } from './pipelines.ts';

/** Part of a buffer. A storage binding begins at a multiple of `minStorageBufferOffsetAlignment`, which is 256 or less. */
export interface BufferRange {
  readonly buffer: GPUBuffer;
  /** In bytes. */
  readonly offset: number;
  /** In bytes. */
  readonly size: number;
}

/** One shader run: buffers by binding, and how many workgroups. A workgroup's number is `group.x + group.y * groups.x`, and those past the last return. */
export interface Dispatch {
  readonly program: Program;
  /** What binding 0 reads as `var<uniform>`, copied before `submit` returns. Default: there is none, and buffers begin at binding 0. */
  readonly parameters?: Uint32Array<ArrayBuffer>;
  readonly buffers: readonly (GPUBuffer | BufferRange)[];
  readonly workgroups: number;
}

/** What went to the device together, and what it says of it. */
export interface Batch {
  readonly programs: ReadonlySet<Program>;
  /** Buffers that dispatches and copies write. */
  readonly written: ReadonlySet<GPUBuffer>;
  /** What the device found wrong, if anything: then nothing of the batch ran. */
  readonly error: Promise<GPUError | null>;
}

/** Bytes of parameters and of small uploads that wait for one submit. */
const stagedBytes = 256 * 2 ** 10;

/** Dispatches that wait for one submit at most. */
const mostDispatches = 64;

/** Larger uploads go their own way: copying them twice would cost more than a submit. */
const largestStaged = 64 * 2 ** 10;

/**
 * Everything for the device, in order. Dispatches, copies and small uploads are gathered into one submit: when somebody waits, when enough are there, and at
 * the latest when the running task of the event loop ends.
 */
export class CommandStream {
  readonly #device: GPUDevice;
  readonly #bindingBytes: number;
  readonly #onSubmit: (batch: Batch) => void;
  readonly #staged = new Uint8Array(stagedBytes);
  #stagedBuffer: GPUBuffer | undefined;
  #used = 0;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #dispatches = 0;
  /** What the next pass is to note down, and how many there were since. */
  #timing: { readonly writes: GPUComputePassTimestampWrites; passes: number } | undefined;
  #programs = new Set<Program>();
  #written = new Set<GPUBuffer>();

  /**
   * @param bindingBytes most bytes of one storage binding
   * @param onSubmit is told of every submit
   */
  constructor(device: GPUDevice, bindingBytes: number, onSubmit: (batch: Batch) => void) {
    this.#device = device;
    this.#bindingBytes = bindingBytes;
    this.#onSubmit = onSubmit;
  }

  /** @throws AttentionError `out-of-memory` naming the limit that a binding or the number of workgroups passes, with both numbers */
  dispatch({ program, parameters, buffers, workgroups }: Dispatch): void {
    if (workgroups === 0) return;
    const { source, pipeline, layout } = program;
    const { maxComputeWorkgroupsPerDimension: most } = this.#device.limits;
    const mostBytes = this.#bindingBytes;
    const columns = Math.min(workgroups, most);
    const rows = Math.ceil(workgroups / columns);
    if (rows > most) throw passed(source.name, `${workgroups} workgroups`, 'maxComputeWorkgroupsPerDimension, squared,', most * most);
    for (const bound of buffers) if (bound.size > mostBytes) throw passed(source.name, `a binding of ${bound.size} bytes`, 'maxStorageBufferBindingSize', mostBytes);
    const resources = buffers.map((bound): GPUBufferBinding => ('offset' in bound ? bound : { buffer: bound }));
    if (parameters !== undefined) resources.unshift(this.#uniform(parameters));
    const entries = resources.map((resource, binding): GPUBindGroupEntry => ({ binding, resource }));
    const pass = (this.#pass ??= this.#beginPass());
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, this.#device.createBindGroup({ label: source.name, layout, entries }));
    pass.dispatchWorkgroups(columns, rows);
    this.#programs.add(program);
    source.bindings.forEach((kind, binding) => {
      const target = resources[binding]?.buffer;
      if (kind === 'write' && target !== undefined) this.#written.add(target);
    });
    this.#dispatches += 1;
    if (this.#dispatches >= mostDispatches) this.flush();
  }

  /** Bytes from one buffer to another; all numbers multiples of 4. */
  copy(source: GPUBuffer, sourceOffset: number, target: GPUBuffer, targetOffset: number, bytes: number): void {
    if (bytes === 0) return;
    this.#outside().copyBufferToBuffer(source, sourceOffset, target, targetOffset, bytes);
    this.#written.add(target);
  }

  /** Bytes of the host, whole words, copied before this returns. */
  write(target: GPUBuffer, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    if (bytes.length === 0) return;
    if (bytes.length > largestStaged) {
      this.flush();
      this.#device.queue.writeBuffer(target, offset, bytes);
      return;
    }
    const place = this.#stage(bytes, 4);
    this.#outside().copyBufferToBuffer(this.#stagingBuffer(), place, target, offset, bytes.length);
    this.#written.add(target);
  }

  /**
   * The dispatches of `body` as one pass, whose begin and end the device notes down in two queries; then these are resolved to a buffer.
   * @returns false where they did not fit into one pass
   */
  timed(queries: GPUQuerySet, resolved: GPUBuffer, body: () => void): boolean {
    this.flush();
    this.#timing = { writes: { querySet: queries, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 }, passes: 0 };
    try {
      body();
      const whole = this.#timing.passes === 1 && this.#pass !== undefined;
      if (whole) this.#outside().resolveQuerySet(queries, 0, 2, resolved, 0);
      return whole;
    } finally {
      this.#timing = undefined;
    }
  }

  /** Hands what was gathered to the device. */
  flush(): void {
    const encoder = this.#encoder;
    if (encoder === undefined) return;
    this.#pass?.end();
    const device = this.#device;
    device.pushErrorScope('validation');
    if (this.#used > 0) device.queue.writeBuffer(this.#stagingBuffer(), 0, this.#staged, 0, this.#used);
    device.queue.submit([encoder.finish()]);
    this.#onSubmit({ programs: this.#programs, written: this.#written, error: device.popErrorScope() });
    this.#reset();
  }

  /** Gives its own buffer back; what waits is dropped. */
  clear(): void {
    this.#reset();
    this.#stagedBuffer?.destroy();
    this.#stagedBuffer = undefined;
  }

  #reset(): void {
    this.#encoder = undefined;
    this.#pass = undefined;
    this.#used = 0;
    this.#dispatches = 0;
    this.#programs = new Set();
    this.#written = new Set();
  }

  #open(): GPUCommandEncoder {
    if (this.#encoder !== undefined) return this.#encoder;
    const encoder = this.#device.createCommandEncoder({ label: 'heed' });
    this.#encoder = encoder;
    void Promise.resolve().then(() => {
      if (this.#encoder === encoder) this.flush();
    });
    return encoder;
  }

  #beginPass(): GPUComputePassEncoder {
    const timing = this.#timing;
    if (timing === undefined) return this.#open().beginComputePass();
    timing.passes += 1;
    return this.#open().beginComputePass(timing.passes === 1 ? { timestampWrites: timing.writes } : {});
  }

  /** The encoder, outside of a pass. */
  #outside(): GPUCommandEncoder {
    const encoder = this.#open();
    this.#pass?.end();
    this.#pass = undefined;
    return encoder;
  }

  #uniform(words: Uint32Array<ArrayBuffer>): BufferRange {
    const offset = this.#stage(new Uint8Array(words.buffer, words.byteOffset, words.byteLength), uniformAlignment);
    return { buffer: this.#stagingBuffer(), offset, size: Math.max(16, Math.ceil(words.byteLength / 16) * 16) };
  }

  /** @returns where the bytes stand in the staging buffer when the submit begins */
  #stage(bytes: Uint8Array, alignment: number): number {
    let offset = Math.ceil(this.#used / alignment) * alignment;
    const padded = Math.max(16, Math.ceil(bytes.length / 16) * 16);
    if (offset + padded > stagedBytes) {
      this.flush();
      offset = 0;
    }
    this.#staged.set(bytes, offset);
    this.#used = offset + padded;
    return offset;
  }

  #stagingBuffer(): GPUBuffer {
    return (this.#stagedBuffer ??= this.#device.createBuffer({ label: 'staged', size: stagedBytes, usage: uniformUsage | copySource | copyTarget }));
  }
}

const uniformAlignment = 256;
const [copySource, copyTarget, uniformUsage] = [0x4, 0x8, 0x40];

function passed(shader: string, what: string, limit: string, most: number): AttentionError {
  return new AttentionError('out-of-memory', `Shader '${shader}' takes ${what}; ${limit} of this device is ${most}.`, 'Split the call along its batch or its heads.');
}
