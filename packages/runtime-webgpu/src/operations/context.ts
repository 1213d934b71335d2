import { AttentionError, bytesPerElement, elementCount, isHostTensor, type DType, type Tensor } from '@heed/core';
import type { BufferRange } from '../commands.ts';
import type { ProgramSource } from '../pipelines.ts';
import type { WebGpuRuntime } from '../runtime.ts';
import { declareBuiltins, type Builtin } from '../wgsl/builtins.ts';
import { WgslWriter } from '../wgsl/writer.ts';
import { storageOf } from './storage.ts';
import { packView, unpackInto } from './strided.ts';

/** A shader with one invocation for each element, or word, of its result. */
export interface ElementShader {
  readonly name: string;
  /** Names of the tensors read, with the type of their elements. */
  readonly reads: Readonly<Record<string, 'f32' | 'i32' | 'u32'>>;
  readonly result: 'f32' | 'i32' | 'u32' | 'atomic<u32>';
  /** Fields of `parameters` beside `count`, in order. */
  readonly fields?: readonly (readonly [name: string, type: 'u32' | 'i32' | 'f32'])[];
  readonly builtins?: Iterable<Builtin>;
  /** Statements that end with `result[place] = …;`. */
  readonly body: (writer: WgslWriter) => void;
}

/** A shader whose workgroups share memory. The body sees `group`, the number of the workgroup below `parameters.count`, and `local`, that of the invocation. */
export interface GroupShader extends ElementShader {
  /** Invocations of a workgroup. */
  readonly lanes: number;
  /** Variables of the workgroup, as `name: type`. */
  readonly shared: readonly string[];
  /** Declarations of functions that the body calls. */
  readonly functions?: readonly string[];
}

const lanes = 64;

/** The text of a shader. */
export function elementSource(shader: ElementShader | GroupShader): ProgramSource {
  const { name, reads, result, fields = [], builtins = [], body } = shader;
  const grouped = 'lanes' in shader ? shader : null;
  const inner = new WgslWriter();
  body(inner);
  const writer = new WgslWriter();
  writer.line(`// ${name}: one ${grouped === null ? 'invocation for each place of the result' : `workgroup of ${grouped.lanes} for each part of the result`}`);
  writer.block('struct Parameters', () => writer.line('count: u32,', ...fields.map(([field, type]) => `${field}: ${type},`)));
  writer.line('', '@group(0) @binding(0) var<uniform> parameters: Parameters;');
  Object.entries(reads).forEach(([read, type], index) => writer.line(`@group(0) @binding(${index + 1}) var<storage, read> ${read}: array<${type}>;`));
  const last = Object.keys(reads).length + 1;
  writer.line(`@group(0) @binding(${last}) var<storage, read_write> result: array<${result}>;`);
  for (const variable of grouped?.shared ?? []) writer.line(`var<workgroup> ${variable};`);
  for (const code of [...declareBuiltins(builtins), ...(grouped?.functions ?? [])]) writer.line('', code);
  writer.line('', `@compute @workgroup_size(${grouped?.lanes ?? lanes})`);
  const [workgroup, index] = grouped === null ? ['group', 'place'] : ['workgroup', 'group'];
  writer.block(`fn main(@builtin(workgroup_id) ${workgroup}: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32)`, () => {
    const number = `${workgroup}.x + ${workgroup}.y * groups.x`;
    writer.line(grouped === null ? `let place = (${number}) * ${lanes}u + local;` : `let group = ${number};`);
    writer.line(`if (${index} >= parameters.count) {`, 'return;', '}');
    writer.line(...inner.toString().trimEnd().split('\n').map((line) => line.trim()));
  });
  return { name, code: writer.toString(), bindings: ['uniform', ...Object.keys(reads).map(() => 'read' as const), 'write'] };
}

/** How the buffers of a shader fall into units, such as rows: what follows one another in each of them can be bound, and computed, a range of units at a time. */
export interface Units {
  readonly count: number;
  /** Bytes of one unit in each buffer that is read; 0 for one that every unit reads whole. */
  readonly reads: readonly number[];
  /** Bytes of one unit in the result. */
  readonly result: number;
}

/** One call of an operation; what it made on the way is given back when the call is over. */
export class OperationCall {
  readonly runtime: WebGpuRuntime;
  readonly #buffers: GPUBuffer[] = [];
  readonly #tensors: Tensor[] = [];

  constructor(runtime: WebGpuRuntime) {
    this.runtime = runtime;
  }

  /** The tensor's buffer as elements of f32 or i32, converted where it holds another type. */
  dense(source: Tensor, element: 'f32' | 'i32' = 'f32'): GPUBuffer {
    const here = this.onDevice(source);
    if (here.dtype === element) return this.runtime.bufferOf(here);
    const buffer = this.#acquire(4 * elementCount(source.shape));
    this.convert(here, element, buffer);
    return buffer;
  }

  /** The tensor itself where it is dense and here; else a dense copy, or an upload, that lasts as long as the call. */
  onDevice(source: Tensor): Tensor {
    if (source.runtime === this.runtime) {
      if (this.runtime.isDense(source)) return source;
      const dense = this.runtime.tensor(source.shape, source.dtype);
      this.#tensors.push(dense);
      packView(this, source, this.runtime.bufferOf(dense));
      return dense;
    }
    if (!isHostTensor(source) || source.runtime !== null) throw new AttentionError('foreign-tensor', 'The tensor lives on another runtime.', 'Read it there and upload it here.');
    const made = this.runtime.upload(source);
    this.#tensors.push(made);
    return made;
  }

  /** Dense elements of any dtype to a tensor or a view, also of the same buffer. */
  write(given: GPUBuffer, from: DType, target: Tensor): void {
    const count = elementCount(target.shape);
    const source = given === this.runtime.placeOf(target).buffer ? this.#duplicate(given, count, from) : given;
    if (this.runtime.isDense(target)) {
      this.convertBuffer(source, from, count, target.dtype, this.runtime.bufferOf(target));
      return;
    }
    if (from === target.dtype) {
      unpackInto(this, source, target);
      return;
    }
    const converted = this.#acquire(4 * count);
    this.convertBuffer(source, from, count, target.dtype, converted);
    unpackInto(this, converted, target);
  }

  /** Writes the elements of a tensor as another type. */
  convert(source: Tensor, dtype: DType, target: GPUBuffer): void {
    this.convertBuffer(this.runtime.bufferOf(source), source.dtype, elementCount(source.shape), dtype, target);
  }

  /** The same for elements that are no tensor. */
  convertBuffer(source: GPUBuffer, from: DType, count: number, to: DType, target: GPUBuffer): void {
    // Four elements are whole words of every type.
    const units = { count: Math.ceil(count / 4), reads: [16 / storageOf(from).perWord], result: 16 / storageOf(to).perWord };
    const elements = (part: number, first: number): number => Math.min(4 * part, count - 4 * first);
    this.runUnits(conversion(from, to), units, (part, first) => Math.ceil(elements(part, first) / storageOf(to).perWord), (part, first) => [elements(part, first)], [source], target);
  }

  /** The same elements in a buffer of their own: a shader does not write what it reads. */
  #duplicate(source: GPUBuffer, count: number, dtype: DType): GPUBuffer {
    const bytes = Math.ceil((count * bytesPerElement[dtype]) / 4) * 4;
    const copy = this.#acquire(bytes);
    this.runtime.copyBytes(source, copy, 0, bytes);
    return copy;
  }

  /** A result that `body` writes as f32 and that is then stored as `dtype`. */
  store(shape: readonly number[], dtype: DType, write: (target: GPUBuffer) => void): Tensor {
    const made = this.runtime.tensor(shape, dtype);
    if (dtype === 'f32') {
      write(this.runtime.bufferOf(made));
      return made;
    }
    const wide = this.runtime.tensor(shape, 'f32');
    this.#tensors.push(wide);
    write(this.runtime.bufferOf(wide));
    this.convert(wide, dtype, this.runtime.bufferOf(made));
    return made;
  }

  /**
   * @param count places of the result, or workgroups
   * @param values of the fields, in order; integers, or numbers for f32 fields
   */
  run(shader: ElementShader | GroupShader, count: number, values: readonly number[], reads: readonly (GPUBuffer | BufferRange)[], result: GPUBuffer | BufferRange): void {
    if (count === 0) return;
    const words = new Uint32Array(1 + values.length);
    const floats = new Float32Array(words.buffer);
    words[0] = count;
    values.forEach((value, index) => {
      if (shader.fields?.[index]?.[1] === 'f32') floats[index + 1] = value;
      else words[index + 1] = value;
    });
    const workgroups = 'lanes' in shader ? count : Math.ceil(count / lanes);
    this.runtime.submit([{ program: this.runtime.compileNow(elementSource(shader)), parameters: words, buffers: [...reads, result], workgroups }]);
  }

  /**
   * Runs a shader over units, all at once where every buffer fits one binding, else over ranges of units.
   * @param countOf places or workgroups of so many units from `first` on
   * @param valuesOf values of the fields for them
   */
  runUnits(shader: ElementShader | GroupShader, units: Units, countOf: (units: number, first: number) => number, valuesOf: (units: number, first: number) => readonly number[], reads: readonly GPUBuffer[], result: GPUBuffer): void {
    const { bindingBytes } = this.runtime.machine;
    const buffers = [...reads, result];
    const steps = [...units.reads, units.result];
    if (buffers.every(({ size }) => size <= bindingBytes)) {
      this.run(shader, countOf(units.count, 0), valuesOf(units.count, 0), reads, result);
      return;
    }
    const most = unitsOfOneBinding(steps, bindingBytes);
    for (let first = 0; first < units.count; first += most) {
      const part = Math.min(most, units.count - first);
      const bound = reads.map((buffer, index) => this.#aligned(rangeOf(buffer, first, part, steps[index] ?? 0)));
      const target = rangeOf(result, first, part, units.result);
      const written = target.offset % bindingAlignment === 0 ? target : { buffer: this.#acquire(target.size), offset: 0, size: target.size };
      this.run(shader, countOf(part, first), valuesOf(part, first), bound, written);
      if (written !== target) this.runtime.copyBytes(written.buffer, result, target.offset, target.size);
    }
  }

  /** A range that may be bound: itself, or a copy that lasts as long as the call. */
  #aligned(range: BufferRange): BufferRange {
    if (range.offset % bindingAlignment === 0) return range;
    const copy = this.#acquire(range.size);
    this.runtime.copyBytes(range.buffer, copy, 0, range.size, range.offset);
    return { buffer: copy, offset: 0, size: range.size };
  }

  #acquire(bytes: number): GPUBuffer {
    const buffer = this.runtime.acquireBuffer(bytes);
    this.#buffers.push(buffer);
    return buffer;
  }

  end(): void {
    for (const buffer of this.#buffers.splice(0)) this.runtime.releaseBuffer(buffer);
    for (const tensor of this.#tensors.splice(0)) this.runtime.release(tensor);
  }
}

/** As many units as one binding takes of every buffer, such that ranges begin where a binding may, if so few do; at least one, for the device to refuse. */
function unitsOfOneBinding(steps: readonly number[], bindingBytes: number): number {
  const stepping = steps.filter((step) => step > 0);
  const most = Math.max(1, Math.min(...stepping.map((step) => Math.floor(bindingBytes / step))));
  const aligned = Math.max(...stepping.map((step) => bindingAlignment / greatestCommonDivisor(step, bindingAlignment)));
  return most < aligned ? most : Math.floor(most / aligned) * aligned;
}

/** The guaranteed `minStorageBufferOffsetAlignment`. */
const bindingAlignment = 256;

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

function rangeOf(buffer: GPUBuffer, first: number, units: number, step: number): BufferRange {
  const offset = first * step;
  return { buffer, offset, size: step === 0 ? buffer.size : Math.min(units * step, buffer.size - offset) };
}

/** From one dtype to another, one word of the target at a time; floats are rounded to nearest even. */
function conversion(from: DType, to: DType): ElementShader {
  const source = storageOf(from);
  const target = storageOf(to);
  const load = source.load(`x[element / ${source.perWord}u]`, `(element % ${source.perWord}u)`);
  const bits = target.kind === 'float' ? `bitcast<u32>(f32(${load}))` : source.kind === 'float' ? `i32(${load})` : load;
  // Equal types are copied bit by bit: a NaN keeps its payload.
  const value = from === to && source.perWord === 1 ? 'x[element]' : target.store(bits);
  return {
    name: `copy ${from} to ${to}`,
    reads: { x: 'u32' },
    result: 'u32',
    fields: [['elements', 'u32']],
    builtins: [...source.builtins, ...target.builtins],
    body: (writer) => {
      if (target.perWord === 1) {
        writer.line('let element = place;', `result[place] = ${value};`);
        return;
      }
      writer.line('var word = 0u;');
      writer.block(`for (var lane = 0u; lane < ${target.perWord}u; lane++)`, () => {
        writer.line(`let element = min(place * ${target.perWord}u + lane, parameters.elements - 1u);`);
        writer.line(`word |= ${value} << (${32 / target.perWord}u * lane);`);
      });
      writer.line('result[place] = word;');
    },
  };
}

/** Runs an operation; what it needed on the way is given back, also when it throws. */
export function operationCall<Result>(runtime: WebGpuRuntime, body: (call: OperationCall) => Result): Result {
  const call = new OperationCall(runtime);
  try {
    return body(call);
  } finally {
    call.end();
  }
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
