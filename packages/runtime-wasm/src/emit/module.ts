/** Builds a WebAssembly module: imports, functions, exports, data, and names for the listing. */
import { ByteWriter } from './bytes.ts';
import { disassemble } from './disassemble.ts';
import { EmitError } from './emit-error.ts';
import { FunctionBuilder, type FinishedFunction } from './function.ts';
import type { FunctionReference, Local } from './instruction.ts';
import { valueTypeCodes, type ValueType } from './opcodes.ts';
import { commentSection } from './read-module.ts';

export interface MemoryLimits {
  /** Pages of 64 KiB. Default 0. */
  readonly minimum?: number;
  /** Pages of 64 KiB. Default for a shared memory 65,536 (4 GiB), else none. */
  readonly maximum?: number;
  readonly shared: boolean;
}

export interface Signature<
  Parameters extends Readonly<Record<string, ValueType>> = Readonly<Record<string, ValueType>>,
  Result extends ValueType = ValueType,
> {
  /** By name, in order. */
  readonly parameters: Parameters;
  /** Default: none. */
  readonly results?: readonly Result[];
  /** Visible from outside under its name. Default false. */
  readonly export?: boolean;
  /**
   * Vector constants are made once, where the function begins. Engines make a constant again wherever it is written, at the price of several instructions,
   * which in an inner loop full of polynomials costs more than the polynomials. Default false: where registers are scarce, they are better made again.
   */
  readonly constantsOnce?: boolean;
}

type ParameterLocals<Parameters extends Readonly<Record<string, ValueType>>> = {
  readonly [Name in keyof Parameters]: Local<Parameters[Name]>;
};

interface FunctionImport {
  readonly module: string;
  readonly name: string;
  readonly type: number;
}

interface DefinedFunction {
  readonly name: string;
  readonly type: number;
  readonly finished: FinishedFunction;
}

const sections = { custom: 0, type: 1, import: 2, function: 3, export: 7, code: 10, data: 11 } as const;
const functionTypeCode = 0x60;

export class ModuleBuilder {
  readonly name: string;
  readonly #types: string[] = [];
  readonly #typeBytes: ByteWriter[] = [];
  readonly #imports: FunctionImport[] = [];
  readonly #functions: DefinedFunction[] = [];
  readonly #exports: { readonly name: string; readonly index: number }[] = [];
  readonly #data: { readonly offset: number; readonly bytes: Uint8Array }[] = [];
  #memory: { readonly module: string; readonly name: string; readonly limits: MemoryLimits } | undefined;

  constructor(name: string) {
    this.name = name;
  }

  /** Imports the one memory. A module for a shared memory does not fit an unshared one, and the other way round. */
  importMemory(module: string, name: string, limits: MemoryLimits): void {
    if (this.#memory !== undefined) throw new EmitError(`module ${this.name}: the memory is imported twice`);
    this.#memory = { module, name, limits };
  }

  /** Imports a function of the host. All imports come before the first function. */
  importFunction<const Parameters extends readonly ValueType[], Result extends ValueType = never>(
    module: string,
    name: string,
    parameters: Parameters,
    results: readonly Result[] = [],
  ): FunctionReference<Parameters, Result> {
    if (this.#functions.length > 0) {
      throw new EmitError(`module ${this.name}: import ${name} before the first function, indices depend on it`);
    }
    this.#imports.push({ module, name, type: this.#type(parameters, results) });
    return { name, index: this.#imports.length - 1, parameters, results };
  }

  /** Defines a function; `body` emits it. */
  function<const Parameters extends Readonly<Record<string, ValueType>>, Result extends ValueType = never>(
    name: string,
    signature: Signature<Parameters, Result>,
    body: (builder: FunctionBuilder, parameters: ParameterLocals<Parameters>) => void,
  ): FunctionReference<readonly ValueType[], Result> {
    const entries = Object.entries<ValueType>(signature.parameters);
    const results = signature.results ?? [];
    const builder = new FunctionBuilder(name, entries, results, signature);
    const locals = Object.fromEntries(builder.parameters.map((local, index) => [entries[index]?.[0] ?? local.name, local]));
    body(builder, locals as ParameterLocals<Parameters>);
    const parameters = entries.map(([, type]) => type);
    const index = this.#imports.length + this.#functions.length;
    this.#functions.push({ name, type: this.#type(parameters, results), finished: builder.finish() });
    if (signature.export === true) this.#exports.push({ name, index });
    return { name, index, parameters, results };
  }

  /** Bytes that every instantiation writes at `offset`. */
  data(offset: number, bytes: Uint8Array): void {
    this.#data.push({ offset, bytes });
  }

  /**
   * The binary module.
   * @param names keeps names and comments in custom sections, for listings and profilers; default false
   */
  bytes({ names = false }: { readonly names?: boolean } = {}): Uint8Array<ArrayBuffer> {
    const out = new ByteWriter();
    out.bytes([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);
    const section = (id: number, write: (content: ByteWriter) => void): void => {
      const content = new ByteWriter();
      write(content);
      out.byte(id);
      out.sized(content);
    };
    section(sections.type, (content) => {
      content.unsigned(this.#typeBytes.length);
      for (const type of this.#typeBytes) content.bytes(type.view());
    });
    section(sections.import, (content) => {
      this.#writeImports(content);
    });
    section(sections.function, (content) => {
      content.unsigned(this.#functions.length);
      for (const { type } of this.#functions) content.unsigned(type);
    });
    section(sections.export, (content) => {
      content.unsigned(this.#exports.length);
      for (const { name, index } of this.#exports) {
        content.name(name);
        content.byte(0x00);
        content.unsigned(index);
      }
    });
    section(sections.code, (content) => {
      content.unsigned(this.#functions.length);
      for (const { finished } of this.#functions) content.sized(finished.body);
    });
    if (this.#data.length > 0) {
      section(sections.data, (content) => {
        this.#writeData(content);
      });
    }
    if (names) {
      section(sections.custom, (content) => {
        this.#writeNames(content);
      });
      section(sections.custom, (content) => {
        this.#writeComments(content);
      });
    }
    return out.view().slice();
  }

  /** The module as readable text: named locals, sections, comments. */
  text(): string {
    return disassemble(this.bytes({ names: true }));
  }

  #type(parameters: readonly ValueType[], results: readonly ValueType[]): number {
    const key = `${parameters.join(' ')} -> ${results.join(' ')}`;
    const known = this.#types.indexOf(key);
    if (known >= 0) return known;
    const bytes = new ByteWriter();
    bytes.byte(functionTypeCode);
    for (const types of [parameters, results]) {
      bytes.unsigned(types.length);
      for (const type of types) bytes.byte(valueTypeCodes[type]);
    }
    this.#types.push(key);
    return this.#typeBytes.push(bytes) - 1;
  }

  #writeImports(content: ByteWriter): void {
    content.unsigned(this.#imports.length + (this.#memory === undefined ? 0 : 1));
    for (const { module, name, type } of this.#imports) {
      content.name(module);
      content.name(name);
      content.byte(0x00);
      content.unsigned(type);
    }
    if (this.#memory === undefined) return;
    const { module, name, limits } = this.#memory;
    content.name(module);
    content.name(name);
    content.byte(0x02);
    // A shared memory must state its maximum; an import of an unshared one without a maximum fits every memory.
    const maximum = limits.maximum ?? (limits.shared ? 65_536 : undefined);
    content.byte((limits.shared ? 0x02 : 0x00) | (maximum === undefined ? 0x00 : 0x01));
    content.unsigned(limits.minimum ?? 0);
    if (maximum !== undefined) content.unsigned(maximum);
  }

  #writeData(content: ByteWriter): void {
    content.unsigned(this.#data.length);
    for (const { offset, bytes } of this.#data) {
      content.byte(0x00);
      content.byte(0x41);
      content.signed(offset);
      content.byte(0x0b);
      content.unsigned(bytes.length);
      content.bytes(bytes);
    }
  }

  #writeNames(content: ByteWriter): void {
    content.name('name');
    const subsection = (id: number, write: (bytes: ByteWriter) => void): void => {
      const bytes = new ByteWriter();
      write(bytes);
      content.byte(id);
      content.sized(bytes);
    };
    const nameMap = (bytes: ByteWriter, names: readonly string[]): void => {
      bytes.unsigned(names.length);
      names.forEach((name, index) => {
        bytes.unsigned(index);
        bytes.name(name);
      });
    };
    const perFunction = (bytes: ByteWriter, names: (one: FinishedFunction) => readonly string[]): void => {
      bytes.unsigned(this.#functions.length);
      this.#functions.forEach(({ finished }, index) => {
        bytes.unsigned(this.#imports.length + index);
        nameMap(bytes, names(finished));
      });
    };
    subsection(0, (bytes) => {
      bytes.name(this.name);
    });
    subsection(1, (bytes) => {
      nameMap(bytes, [...this.#imports, ...this.#functions].map(({ name }) => name));
    });
    subsection(2, (bytes) => {
      perFunction(bytes, ({ localNames }) => localNames);
    });
    subsection(3, (bytes) => {
      perFunction(bytes, ({ labelNames }) => labelNames);
    });
  }

  #writeComments(content: ByteWriter): void {
    content.name(commentSection);
    content.unsigned(this.#functions.length);
    this.#functions.forEach(({ finished }, index) => {
      content.unsigned(this.#imports.length + index);
      content.unsigned(finished.comments.length);
      for (const { position, text } of finished.comments) {
        content.unsigned(position);
        content.name(text);
      }
    });
  }
}
