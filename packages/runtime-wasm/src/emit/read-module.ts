/** Module bytes → their sections, with the names and comments of the custom sections. */
import { ByteReader } from './bytes.ts';
import { valueTypeCodes, type ValueType } from './opcodes.ts';

/** The custom section that carries comments: per function its index and (position in the body, text) pairs. */
export const commentSection = 'heed.comments';

export interface FunctionType {
  readonly parameters: readonly ValueType[];
  readonly results: readonly ValueType[];
}

export interface Names {
  module: string;
  readonly functions: Map<number, string>;
  readonly locals: Map<number, Map<number, string>>;
  readonly labels: Map<number, Map<number, string>>;
  readonly comments: Map<number, Map<number, string[]>>;
}

export interface Code {
  readonly reader: ByteReader;
  readonly start: number;
}

export interface ModuleContent {
  readonly types: FunctionType[];
  readonly imports: string[];
  /** Type of every function, imported ones first. */
  readonly functionTypes: number[];
  importedFunctions: number;
  readonly exports: Map<number, string>;
  readonly codes: Code[];
  readonly data: string[];
  readonly names: Names;
}

const valueTypes: ReadonlyMap<number, string> = new Map(Object.entries(valueTypeCodes).map(([type, code]) => [code, type]));

/** @throws SyntaxError for bytes that the module builder does not write, RangeError for bytes that end early */
export function readModule(bytes: Uint8Array): ModuleContent {
  const content: ModuleContent = {
    types: [],
    imports: [],
    functionTypes: [],
    importedFunctions: 0,
    exports: new Map(),
    codes: [],
    data: [],
    names: { module: 'module', functions: new Map(), locals: new Map(), labels: new Map(), comments: new Map() },
  };
  const reader = new ByteReader(bytes);
  if (reader.bytes(4).join(' ') !== '0 97 115 109') throw new SyntaxError('not a WebAssembly module: the magic bytes are missing');
  reader.bytes(4);
  while (!reader.done) {
    const id = reader.byte();
    const section = reader.sized();
    readSection(id, section, content);
  }
  return content;
}

function readSection(id: number, reader: ByteReader, content: ModuleContent): void {
  if (id === 0) {
    readCustom(reader, content.names);
    return;
  }
  const count = reader.unsigned();
  for (let item = 0; item < count; item += 1) {
    if (id === 1) {
      reader.byte();
      const parameters = readTypes(reader);
      content.types.push({ parameters, results: readTypes(reader) });
    } else if (id === 2) readImport(reader, content);
    else if (id === 3) content.functionTypes.push(reader.unsigned());
    else if (id === 7) {
      const name = reader.name();
      const kind = reader.byte();
      const index = reader.unsigned();
      if (kind === 0) content.exports.set(index, name);
    } else if (id === 10) {
      const body = reader.sized();
      content.codes.push({ reader: body, start: body.position });
    } else if (id === 11) {
      reader.bytes(2);
      const offset = reader.signed();
      reader.byte();
      content.data.push(`data offset=${offset >>> 0} ${reader.bytes(reader.unsigned()).length} bytes`);
    } else throw new SyntaxError(`section ${id} is not one that the module builder writes`);
  }
}

const readTypes = (reader: ByteReader): ValueType[] => Array.from({ length: reader.unsigned() }, () => readType(reader));

export function readType(reader: ByteReader): ValueType {
  const code = reader.byte();
  const type = valueTypes.get(code);
  if (type === undefined) throw new SyntaxError(`0x${code.toString(16)} is no value type`);
  return type as ValueType;
}

function readImport(reader: ByteReader, content: ModuleContent): void {
  const path = `"${reader.name()}" "${reader.name()}"`;
  if (reader.byte() === 0x00) {
    content.functionTypes.push(reader.unsigned());
    content.importedFunctions += 1;
    content.imports.push(`import ${path} function`);
    return;
  }
  const flags = reader.byte();
  const minimum = reader.unsigned();
  const maximum = (flags & 1) === 0 ? '' : ` ${reader.unsigned()}`;
  content.imports.push(`import ${path} memory ${minimum}${maximum}${(flags & 2) === 0 ? '' : ' shared'}`);
}

function readCustom(reader: ByteReader, names: Names): void {
  const section = reader.name();
  if (section === commentSection) {
    for (let count = reader.unsigned(); count > 0; count -= 1) {
      const comments = new Map<number, string[]>();
      names.comments.set(reader.unsigned(), comments);
      for (let entries = reader.unsigned(); entries > 0; entries -= 1) {
        const position = reader.unsigned();
        comments.set(position, [...(comments.get(position) ?? []), reader.name()]);
      }
    }
    return;
  }
  if (section !== 'name') return;
  while (!reader.done) {
    const id = reader.byte();
    const part = reader.sized();
    if (id === 0) names.module = part.name();
    else if (id === 1) readNames(part, names.functions);
    else if (id === 2 || id === 3) {
      const target = id === 2 ? names.locals : names.labels;
      for (let count = part.unsigned(); count > 0; count -= 1) {
        const one = new Map<number, string>();
        target.set(part.unsigned(), one);
        readNames(part, one);
      }
    }
  }
}

function readNames(reader: ByteReader, into: Map<number, string>): void {
  for (let count = reader.unsigned(); count > 0; count -= 1) into.set(reader.unsigned(), reader.name());
}
