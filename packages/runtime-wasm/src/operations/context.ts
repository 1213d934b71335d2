/** What every operation does around its kernel: checks, dense inputs on this runtime, results, and one submission. */
import { AttentionError, elementCount, isContiguous, isHostTensor, type DType, type HostTensor, type Tensor } from '@heed/core';
import type { FloatStorage } from '../emit/half.ts';
import { ModuleBuilder } from '../emit/module.ts';
import type { FunctionBuilder } from '../emit/function.ts';
import type { Local } from '../emit/instruction.ts';
import type { WasmRuntime } from '../runtime.ts';
import { copyInto } from './copy.ts';
import { kernelParameters } from './words.ts';

export type KernelBody = (f: FunctionBuilder, parameters: { readonly task: Local<'i32'>; readonly words: Local<'i32'>; readonly scratch: Local<'i32'> }) => void;

/** A tensor as kernels read it: dense, row-major, in this runtime's memory. */
export interface Dense {
  readonly tensor: Tensor;
  readonly address: number;
  readonly shape: readonly number[];
}

export interface KernelPhase<Name extends string> {
  readonly kernel: Name;
  readonly tasks: number;
  readonly words: readonly number[];
  readonly scratchBytes?: number;
}

export interface KernelJob<Name extends string> {
  /** Everything the emitted code depends on, the machine apart. */
  readonly key: string;
  readonly kernels: Readonly<Record<Name, KernelBody>>;
  readonly phases: readonly KernelPhase<Name>[];
  readonly reads: readonly Dense[];
  readonly writes: readonly Tensor[];
  /** Guess of the time on one thread. */
  readonly microseconds: number;
}

/** One call of an operation; what it made on the way is released when the call is over. */
export class OperationCall {
  readonly runtime: WasmRuntime;
  readonly #temporaries: Tensor[] = [];

  constructor(runtime: WasmRuntime) {
    this.runtime = runtime;
  }

  /** The tensor itself where it is dense and here, else a dense copy. `dtype` converts as well. */
  dense(source: Tensor, dtype: DType = source.dtype): Dense {
    const { runtime } = this;
    if (source.runtime === runtime && source.dtype === dtype && isContiguous(source)) {
      return { tensor: source, address: runtime.addressOf(source), shape: source.shape };
    }
    const here = source.runtime === null ? this.#upload(source) : source;
    if (here.dtype === dtype && isContiguous(here)) return { tensor: here, address: runtime.addressOf(here), shape: here.shape };
    const copy = this.temporary(source.shape, dtype);
    copyInto(this, here, copy);
    return { tensor: copy, address: runtime.addressOf(copy), shape: copy.shape };
  }

  /** Memory that is released with this call. */
  temporary(shape: readonly number[], dtype: DType): HostTensor {
    const tensor = this.runtime.tensor(shape, dtype);
    this.#temporaries.push(tensor);
    return tensor;
  }

  /** Queues the kernel, whose tasks write all of `writes`. */
  run<Name extends string>({ key, kernels, phases, reads, writes, microseconds }: KernelJob<Name>): void {
    const { runtime } = this;
    const names = Object.keys(kernels) as Name[];
    const program = runtime.program(`operation ${key}`, names, () => {
      const builder = new ModuleBuilder(key);
      builder.importMemory('env', 'memory', { shared: runtime.machine.shared });
      for (const name of names) builder.function(name, { parameters: kernelParameters, export: true }, kernels[name]);
      return builder;
    });
    runtime.submit(
      {
        phases: phases.map(({ kernel, tasks, words, scratchBytes = 0 }) => ({ function: program.functions[kernel], tasks, arguments: words, scratchBytes })),
        microseconds,
      },
      { reads: reads.map(({ tensor }) => tensor), writes },
    );
    runtime.releaseProgram(program);
  }

  /** Releases temporaries, once everything queued so far is over. */
  end(): void {
    for (const tensor of this.#temporaries.splice(0)) this.runtime.release(tensor);
  }

  #upload(source: Tensor): HostTensor {
    if (!isHostTensor(source)) throw new AttentionError('foreign-tensor', 'The tensor has no memory of the host.', 'Pass a tensor of the host or of this runtime.');
    const here = this.runtime.upload(source);
    this.#temporaries.push(here);
    return here;
  }
}

/** Runs an operation; its result is released again when it throws. */
export function operationCall<Result>(runtime: WasmRuntime, body: (call: OperationCall) => Result): Result {
  const call = new OperationCall(runtime);
  try {
    return body(call);
  } finally {
    call.end();
  }
}

/** @throws AttentionError `invalid-dtype` for integers and f64, which these kernels would round */
export function floatStorage(what: string, { dtype }: { readonly dtype: DType }): FloatStorage {
  if (dtype === 'f32' || dtype === 'f16' || dtype === 'bf16') return dtype;
  throw new AttentionError('invalid-dtype', `${what} is ${dtype}.`, 'Expected f32, f16 or bf16; convert with copy(x, { dtype }).');
}

/** @throws AttentionError `invalid-shape` */
export function checkShape(what: string, shape: readonly number[], expected: readonly (number | string)[]): void {
  const fits = shape.length === expected.length && expected.every((size, axis) => typeof size === 'string' || size === shape[axis]);
  if (!fits) throw new AttentionError('invalid-shape', `${what} has shape [${shape.join(', ')}].`, `Expected [${expected.join(', ')}].`);
}

/** The last axis as rows. */
export function rowsOf(shape: readonly number[]): { readonly rows: number; readonly size: number } {
  return { rows: elementCount(shape.slice(0, -1)), size: shape.at(-1) ?? 1 };
}

/** Rows for each task, so that one takes about 30 µs at 4 numbers a nanosecond; independent of the number of threads. */
export function rowsPerTask(rows: number, workPerRow: number): { readonly each: number; readonly tasks: number } {
  const each = Math.max(1, Math.min(rows, Math.floor(60_000 / Math.max(1, workPerRow))));
  return { each, tasks: Math.ceil(rows / each) };
}

