import type { AttentionVariant, InputName, QueryTableRead, Random, TableRead } from '@heed/core';
import { declareBuiltins, identifier, WgslLowering, WgslWriter, writeTableReads, type Builtin, type ProgramSource, type WgslEnvironment } from '@heed/runtime-webgpu';
import { parameterFields } from '../parameters.ts';
import type { Plan } from '../plan.ts';
import { sequenceFields } from '../records.ts';

/** A storage binding: its name, its elements, and whether it is written. */
export interface StorageBinding {
  readonly name: string;
  /** Type of the array's elements. */
  readonly element: string;
  readonly write?: boolean;
  readonly comment: string;
}

export interface ModuleOptions {
  readonly name: string;
  readonly header: readonly string[];
  readonly variant: AttentionVariant;
  readonly plan: Plan;
  readonly bindings: readonly StorageBinding[];
  readonly invocations: number;
  /** Query tables are read, of rows that `queryElement` reads. */
  readonly queryTables: readonly string[];
  /** Extensions of the language. */
  readonly enables?: readonly string[];
  /** Statements of `main` after the task was found. */
  readonly body: (kernel: KernelBody) => void;
  /** Declarations at module level: workgroup memory and functions. */
  readonly declarations?: readonly string[];
}

/** Where statements and expressions of a kernel are written. */
export interface KernelBody {
  readonly writer: WgslWriter;
  readonly builtins: Set<Builtin>;
  /** Writes expressions, reading inputs by the names of their locals; `names` gives those that differ. */
  readonly lowering: (names?: Readonly<Partial<Record<InputName, string>>>) => WgslLowering;
}

/** What inputs of expressions are called in kernels. */
const localNames: Readonly<Record<InputName, string>> = {
  score: 'score',
  weight: 'weight',
  value: 'element',
  output: 'aggregated',
  queryElement: 'queryElement',
  keyElement: 'keyElement',
  element: 'element',
  batch: 'sequence.batch',
  head: 'head',
  keyHead: 'keyHead',
  queryIndex: 'queryIndex',
  keyIndex: 'keyIndex',
  edgeIndex: 'edgeIndex',
  queryPosition: 'queryPosition',
  keyPosition: 'keyPosition',
  queryLength: 'sequence.queryLength',
  keyLength: 'sequence.totalKeyLength',
  channel: 'channel',
  index: 'index',
  position: 'position',
};

/** A whole shader: parameters, bindings, sequences, tables, builtins, and `main`, in which `task` is the number of this workgroup's task. */
export function moduleOf(options: ModuleOptions): ProgramSource {
  const { name, header, variant, plan, bindings, invocations, declarations = [], enables = [] } = options;
  const builtins = new Set<Builtin>();
  const shared = { builtins, locals: 0 };
  const main = new WgslWriter();
  const environment = (names: Readonly<Partial<Record<InputName, string>>>): WgslEnvironment => ({
    input: (input) => names[input] ?? localNames[input],
    uniform: (uniform) => `parameters.${identifier('uniform', uniform)}`,
    table: ({ name: table }: TableRead, indices) => `${identifier('table', table)}(${indices.join(', ')})`,
    queryTable: ({ name: table }: QueryTableRead, row) => `${identifier('queryTable', table)}(queryRow, head, ${row})`,
    random: (node: Random) => {
      builtins.add('unitInterval').add('threefry');
      const key = plan.streams.findIndex(([seed, stream]) => seed === node.seed && stream === node.stream);
      return `unitInterval(threefry(randomKey${key}, vec2<u32>(bitcast<u32>(queryPosition), bitcast<u32>(keyPosition))).x)`;
    },
  });
  main.line(`@compute @workgroup_size(${invocations})`);
  main.block('fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>, @builtin(local_invocation_index) local: u32)', () => {
    main.line('let task = parameters.firstTask + workgroup.x + workgroup.y * workgroups.x;');
    main.block('if (task >= parameters.endTask)', () => main.line('return;'));
    options.body({ writer: main, builtins, lowering: (names = {}) => new WgslLowering(main, environment(names), shared) });
  });
  if (Object.values(variant.tables).some(({ type }) => type === 'f32')) builtins.add('finite');
  const writer = new WgslWriter();
  writer.line(...header.map((line) => `// ${line}`), '');
  if (enables.length > 0) writer.line(...enables.map((extension) => `enable ${extension};`), '');
  writeParameters(writer, variant);
  writer.line('', '@group(0) @binding(0) var<uniform> parameters: Parameters;');
  bindings.forEach(({ name: binding, element, write = false, comment }, index) => {
    writer.line(`@group(0) @binding(${index + 1}) var<storage, ${write ? 'read_write' : 'read'}> ${binding}: array<${element}>;  // ${comment}`);
  });
  writer.line('', '// A score from here down counts as −∞; what the mask forbids is exactly here.', 'const lowest = -1.0e30f;', '');
  writeSequences(writer);
  writeTables(writer, variant, plan, options.queryTables);
  for (const code of declareBuiltins(builtins)) writer.line('', code);
  if (declarations.length > 0) writer.line('', ...declarations);
  return { name, code: `${writer.toString()}\n${main.toString()}`, bindings: ['uniform', ...bindings.map(({ write = false }) => (write ? ('write' as const) : ('read' as const)))] };
}

function writeParameters(writer: WgslWriter, variant: AttentionVariant): void {
  writer.block('struct Parameters', () => {
    for (const { name, type, comment } of parameterFields(variant)) writer.line(`${name}: ${type},${comment === undefined ? '' : `  // ${comment}`}`);
  });
}

function writeSequences(writer: WgslWriter): void {
  writer.block('struct Sequence', () => writer.line(...sequenceFields.map((field) => `${field}: i32,`)));
  writer.line('');
  writer.block('fn sequenceAt(index: i32) -> Sequence', () => {
    writer.line(`let at = parameters.sequencesAt + ${sequenceFields.length}u * u32(index);`);
    writer.line(`return Sequence(${sequenceFields.map((_, place) => `integers[at + ${place}u]`).join(', ')});`);
  });
  writer.line('', '// Where a query row stands in the tensors of queries and outputs.');
  writer.block('fn rowInTensor(sequence: Sequence, head: i32, queryIndex: i32) -> u32', () => {
    writer.line('return u32((sequence.tensorBatch * parameters.heads + head) * parameters.queryRows + sequence.queryStart + queryIndex);');
  });
  writer.line('', '// Position of a row (L3): from a list, or counted from the offset.');
  writer.block('fn positionAt(list: i32, offset: i32, index: i32) -> i32', () => {
    writer.block('if (list < 0)', () => writer.line('return offset + index;'));
    writer.line('return integers[u32(list + index)];');
  });
}

/** Reads of tables, and products of the query row with a row of a table. */
function writeTables(writer: WgslWriter, variant: AttentionVariant, { scoreDim }: Plan, queryTables: readonly string[]): void {
  writeTableReads(writer, variant);
  for (const name of queryTables) {
    const axes = variant.tables[name]?.axes.length ?? 2;
    writer.line('', `// The query row times a row of ${name}.`);
    writer.block(`fn ${identifier('queryTable', name)}(queryRow: u32, head: i32, row: i32) -> f32`, () => {
      writer.line('var sum = 0.0f;');
      writer.block(`for (var channel = 0i; channel < ${scoreDim}i; channel++)`, () => {
        writer.line(`sum = fma(queryElement(queryRow, u32(channel)), ${identifier('table', name)}(${axes === 3 ? 'head, ' : ''}row, channel), sum);`);
      });
      writer.line('return sum;');
    });
  }
}
