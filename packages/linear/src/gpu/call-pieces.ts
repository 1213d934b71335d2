import type { Declarations, HostTensor, RowTransform, Tensor } from '@heed/core';
import { elementCount, isHostTensor, tensor, toFloat64, transformedWidth } from '@heed/core';
import type { BoundTable } from '@heed/core/compute';
import { HostValues } from '@heed/core/compute';
import { CallBuffers, OperationCall, sharedValues, turnsWidth, writeTables, type ProgramSource, type Stage, type WebGpuRuntime } from '@heed/runtime-webgpu';
import { fieldsOf } from './module.ts';
import { rowFields } from './rows.ts';
import type { RowPlace } from './places.ts';

/** The part of a call that its pieces are made from. */
export interface PieceCall {
  readonly declarations: Declarations;
  readonly tables: Readonly<Record<string, BoundTable>>;
  readonly uniforms: Readonly<Record<string, number>>;
  readonly heads: number;
  readonly keyHeads: number;
}

/** One side's rows: the program that makes them ready (null: they are read as they lie), and where they stand. */
export interface SideRows {
  readonly program: ProgramSource | null;
  readonly transforms: readonly RowTransform[];
  readonly given: Tensor;
  readonly places: readonly RowPlace[];
}

/** What calls of every kind put on the device: tables, rows in float32, inputs one after another. Given back by `release`, after the last dispatch is submitted. */
export class CallPieces {
  readonly buffers: CallBuffers;
  readonly operations: OperationCall;
  readonly values: HostValues;
  /** All tables in one buffer, and the parameters that say where each begins. */
  readonly tables: { readonly buffer: GPUBuffer; readonly values: Readonly<Record<string, number>> };
  readonly #runtime: WebGpuRuntime;
  readonly #call: PieceCall;

  constructor(runtime: WebGpuRuntime, call: PieceCall) {
    this.#runtime = runtime;
    this.#call = call;
    this.buffers = new CallBuffers(runtime);
    this.operations = new OperationCall(runtime);
    this.values = new HostValues({ uniforms: call.uniforms, tables: call.tables, heads: call.heads, keyHeads: call.keyHeads, headOffset: 0 });
    this.tables = writeTables(this.operations, this.buffers, call);
  }

  /** Rows of one side in float32, [batch, heads, rows, width], and the stage that makes them where one must. */
  rows({ program, transforms, given, places }: SideRows): readonly [GPUBuffer, readonly Stage[]] {
    if (program === null) return [this.operations.dense(float32Of(given)), []];
    const [batch = 0, heads = 0, rows = 0, dim = 0] = given.shape;
    const width = transforms.reduce((before, transform) => transformedWidth(transform, before), dim);
    const target = this.buffers.acquire(4 * Math.max(1, batch * heads * rows * width));
    const records = Int32Array.from(places.flatMap(({ tensorBatch, row, batch: sequence, index, position }) => [tensorBatch, row, sequence, index, position]));
    return [target, [{
      source: program,
      buffers: [this.#runtime.bufferOf(this.buffers.onDevice(given)), this.buffers.words(records), this.tables.buffer, this.buffers.words(this.#turns(transforms, dim, places)), target],
      fields: fieldsOf({ fields: rowFields, declarations: this.#call.declarations }),
      values: { ...this.tables.values, ...sharedValues(this.#call), heads, rows, rowCount: places.length },
      costs: new Array<number>(places.length * heads).fill(8 * dim),
    }]];
  }

  #turns(transforms: readonly RowTransform[], dim: number, places: readonly RowPlace[]): Float32Array<ArrayBuffer> {
    const positions = places.map(({ position }) => position);
    let width = dim;
    const parts = transforms.flatMap((transform) => {
      const turns = turnsWidth(transform, width) > 0 ? this.values.turns(transform, width, positions) : null;
      width = transformedWidth(transform, width);
      return turns === null ? [] : [turns];
    });
    const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  /** Tensors as float32, one after another in one buffer, and the number at which each begins. */
  concatenated<Name extends string>(given: readonly (readonly [name: Name, tensor: Tensor])[]): { readonly buffer: GPUBuffer; readonly starts: Readonly<Partial<Record<Name, number>>> } {
    const starts: Partial<Record<Name, number>> = {};
    let length = 0;
    for (const [name, { shape }] of given) {
      starts[name] = length;
      length += elementCount(shape);
    }
    const [only] = given;
    if (given.length === 1 && only !== undefined) return { buffer: this.operations.dense(float32Of(only[1])), starts };
    const buffer = this.buffers.acquire(Math.max(4, 4 * length));
    for (const [name, source] of given) this.#runtime.copyBytes(this.operations.dense(float32Of(source)), buffer, 4 * (starts[name] ?? 0), 4 * elementCount(source.shape));
    return { buffer, starts };
  }

  release(): void {
    this.operations.end();
    this.buffers.release();
  }
}

/** float64 of the host as float32; devices have none. */
export function float32Of(given: Tensor): Tensor {
  return given.runtime === null && given.dtype === 'f64' && isHostTensor(given) ? (tensor(Float32Array.from(toFloat64(given)), given.shape) satisfies HostTensor) : given;
}
