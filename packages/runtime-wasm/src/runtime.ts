/** The WebAssembly runtime: tensors in linear memory, kernels on all cores. */
import {
  allocateArray,
  AttentionError,
  contiguousStrides,
  elementCount,
  isHostTensor,
  restride,
  tensor as wrap,
  type DType,
  type HostTensor,
  type Operations,
  type Runtime,
  type Tensor,
} from '@heed/core';
import { checkNames, type Names } from '@heed/core/compute';
import { ProgramCache, type Program } from './cache.ts';
import type { Arithmetic } from './emit/matmul.ts';
import type { ModuleBuilder } from './emit/module.ts';
import { LinearMemory } from './memory.ts';
import { createOperations } from './operations/operations.ts';
import { measureWideVectors, probe, requestWideVectors, type Features, type WideVectors } from './probe.ts';
import { packDense, TensorStore } from './tensors.ts';
import type { Job, Submission } from './threads/job.ts';
import { WorkerPool } from './threads/pool.ts';
import type { Spawn } from './threads/spawn.ts';

export interface WasmRuntimeOptions {
  /** Threads that compute, the calling one included. Default: all that the machine has; 1 where SharedArrayBuffer is missing. */
  readonly threads?: number;
  /**
   * 'portable' (default): 128-bit SIMD. 'wide': ask V8 to pack pairs of them into 256-bit operations; experimental, for the whole process,
   * from now on. `runtime.wide` says whether it happens.
   */
  readonly vectors?: 'portable' | 'wide';
  /** Most bytes of memory. Default 4 GiB. */
  readonly maximumBytes?: number;
  /** How workers start, for hosts with rules of their own. */
  readonly spawn?: Spawn;
}

/** What emitted code may rely on. */
export interface Machine extends Arithmetic {
  /** Relaxed SIMD: multiply-add with one rounding. */
  readonly fused: boolean;
  /** Pairs of 128-bit operations are packed into 256-bit ones. */
  readonly wide: boolean;
  /** Modules must import a shared memory. */
  readonly shared: boolean;
}

export interface CallOptions {
  /** The calling thread takes part at once, for one slice. Default false: in a later turn of its event loop. */
  readonly participate?: boolean;
  /** Tensors that the job reads: if one of them is poisoned, so are those it writes. */
  readonly reads?: readonly Tensor[];
  /** Tensors that the job writes, poisoned when it goes wrong. */
  readonly writes?: readonly Tensor[];
  /** Somebody awaits the submission, so that its error is not reported by `idle()` again. Default false. */
  readonly awaited?: boolean;
}

const optionNames: Names<WasmRuntimeOptions> = { threads: true, vectors: true, maximumBytes: true, spawn: true };

/**
 * Starts a runtime. Workers start in the background; work begins without them.
 * @throws AttentionError `unsupported` without WebAssembly SIMD, or when wide vectors give a wrong answer; `invalid-argument`
 */
export async function createWasmRuntime(options: WasmRuntimeOptions = {}): Promise<WasmRuntime> {
  checkNames('the options of createWasmRuntime', options, optionNames);
  const { vectors = 'portable', threads } = options;
  const features = probe();
  if (!features.simd) throw new AttentionError('unsupported', 'This engine has no WebAssembly SIMD.', 'Use a newer engine, or another backend.');
  if (threads !== undefined && (!Number.isInteger(threads) || threads < 1)) {
    throw new AttentionError('invalid-argument', `Got ${threads} threads.`, 'Expected an integer of 1 or more.');
  }
  if (vectors !== 'portable' && (vectors as string) !== 'wide') {
    throw new AttentionError('invalid-argument', `Got vectors: '${vectors}'.`, "Expected 'portable' or 'wide'.");
  }
  const wide = vectors === 'wide' ? measureWide(features) : { packed: false, ratio: 1, reason: "Not asked for; pass vectors: 'wide'." };
  return Promise.resolve(new WasmRuntime(features, wide, options));
}

function measureWide({ relaxedSimd }: Features): WideVectors {
  try {
    return measureWideVectors(requestWideVectors(), relaxedSimd);
  } catch (cause) {
    throw new AttentionError('unsupported', `Wide vectors compute wrong sums here: ${String(cause)}.`, "Use vectors: 'portable'.", { cause });
  }
}

export class WasmRuntime implements Runtime {
  readonly name = 'wasm';
  readonly features: Features;
  /** Whether 256-bit packing happens, and how that was found. */
  readonly wide: WideVectors;
  readonly machine: Machine;
  readonly operations: Operations;
  /** The allocator, for kernels that keep blocks of their own. */
  readonly heap: LinearMemory;
  readonly #pool: WorkerPool;
  readonly #programs: ProgramCache;
  readonly #tensors: TensorStore;
  #lateError: AttentionError | undefined;
  #disposed = false;

  /** @internal use {@link createWasmRuntime} */
  constructor(features: Features, wide: WideVectors, { threads = features.hardwareThreads, maximumBytes, spawn }: WasmRuntimeOptions) {
    this.features = features;
    this.wide = wide;
    const shared = features.threads && threads > 1;
    this.machine = Object.freeze({ fused: features.relaxedSimd, wide: wide.packed, shared });
    this.heap = new LinearMemory({ shared, ...(maximumBytes === undefined ? {} : { maximumBytes }) });
    this.#pool = new WorkerPool({ memory: this.heap, threads, mayBlock: features.mayBlock, ...(spawn === undefined ? {} : { spawn }) });
    this.#programs = new ProgramCache(this.#pool);
    this.#tensors = new TensorStore(this.heap, this);
    this.operations = createOperations(this);
  }

  /** Threads that compute, the calling one included; workers that did not start do not count. */
  get threads(): number {
    return this.#pool.present;
  }

  /** What runs and why, for `explain()`. */
  describe(): readonly string[] {
    const { fused, wide, shared } = this.machine;
    const single = this.features.threads ? 'one thread, as asked' : 'one thread: SharedArrayBuffer is missing (a page must be cross-origin isolated)';
    return [
      `WebAssembly, ${wide ? '256-bit vectors packed from pairs' : '128-bit vectors'}, ${fused ? 'fused multiply-add' : 'multiply, then add'}.`,
      shared ? `${this.threads} ${this.threads === 1 ? 'thread' : 'threads'}, the calling one included.` : `${single[0]?.toUpperCase() ?? ''}${single.slice(1)}.`,
      ...(this.#pool.startFailure === '' ? [] : [this.#pool.startFailure]),
      `Wide vectors: ${this.wide.reason}`,
    ];
  }

  /** Resolves when every worker has started or failed to; for benchmarks. */
  async ready(): Promise<void> {
    await this.#pool.ready();
  }

  tensor(shape: readonly number[], dtype: DType): HostTensor {
    this.#checkOpen();
    return this.#tensors.create(shape, dtype);
  }

  upload(source: HostTensor): HostTensor {
    this.#checkOpen();
    const target = this.#tensors.create(source.shape, source.dtype);
    packDense(source, target.view());
    return target;
  }

  async read(source: Tensor): Promise<HostTensor> {
    this.#checkOpen();
    this.#tensors.addressOf(source);
    await this.#pool.drained();
    this.#checkOpen();
    const poison = this.#tensors.poisonOf([source]);
    if (poison !== undefined) throw poison;
    if (!isHostTensor(source)) throw new AttentionError('foreign-tensor', 'The tensor has no view.', 'Pass a tensor of this runtime.');
    const data = allocateArray(source.dtype, elementCount(source.shape));
    packDense(source, data);
    return wrap(data, source.shape, { dtype: source.dtype });
  }

  view(source: Tensor, shape: readonly number[], strides: readonly number[] = contiguousStrides(shape), start: number = 0): HostTensor {
    this.#checkOpen();
    if (source.runtime !== this || !isHostTensor(source)) throw new AttentionError('foreign-tensor', 'The tensor lives on another runtime or on the host.', 'Upload it to this runtime first.');
    return restride(source, shape, strides, start);
  }

  release(tensor: Tensor): void {
    this.#checkOpen();
    this.releaseBlock(this.#tensors.remove(tensor));
  }

  async idle(): Promise<void> {
    this.#checkOpen();
    await this.#pool.drained();
    this.#checkOpen();
    const error = this.#lateError;
    this.#lateError = undefined;
    if (error !== undefined) throw error;
  }

  memory(): { readonly bytes: number; readonly peakBytes: number } {
    return { bytes: this.heap.bytes, peakBytes: this.heap.peakBytes };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return Promise.resolve();
    this.#disposed = true;
    this.#pool.dispose();
    this.#programs.clear();
    this.#tensors.clear();
    return Promise.resolve();
  }

  // ── For kernels ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Bytes from the start of memory to element 0 of a tensor of this runtime, or of a view of one. It stays the same until release.
   * @throws AttentionError `foreign-tensor`, `disposed`
   */
  addressOf(tensor: Tensor): number {
    this.#checkOpen();
    return this.#tensors.addressOf(tensor);
  }

  /** Gives a block of `heap` back once everything submitted so far is over. */
  releaseBlock(address: number): void {
    this.#pool.afterAll(() => {
      this.heap.release(address);
    });
  }

  /**
   * The program of a key, on every thread, compiled now if it is new. Hold it until `releaseProgram`.
   * The module imports `env.memory`, shared or not as `machine.shared` says; its functions take (task, arguments address, scratch address).
   */
  program<const Names extends readonly string[]>(key: string, names: Names, emit: () => ModuleBuilder): Program<Names[number]> {
    this.#checkOpen();
    return this.#programs.acquire(key, names, emit);
  }

  releaseProgram(program: Program): void {
    if (!this.#disposed) this.#programs.release(program);
  }

  /** Queues a job behind everything submitted before; a small one on an idle runtime is over when this returns. */
  submit(job: Job, { participate = false, reads = [], writes = [], awaited = false }: CallOptions = {}): Submission {
    this.#checkOpen();
    return this.#pool.submit(job, {
      participate,
      settle: (error) => {
        const outcome = error ?? this.#tensors.poisonOf(reads);
        if (outcome === undefined) this.#tensors.cure(writes);
        else {
          this.#tensors.poison(writes, outcome);
          if (!awaited) this.#lateError ??= outcome;
        }
        return outcome;
      },
    });
  }

  #checkOpen(): void {
    if (this.#disposed) throw new AttentionError('disposed', 'This runtime is disposed.', 'Make another with createWasmRuntime().');
  }
}
