import type { AttentionVariant, InputName } from '@heed/core';
import { declareBuiltins, identifier, WgslLowering, WgslWriter, writeTableReads, type Builtin, type ProgramSource, type RowKernel, type WgslEnvironment } from '@heed/runtime-webgpu';
import { sequenceFields } from './integers.ts';
import { parameterFields } from './parameters.ts';
import type { Plan } from './plan.ts';

/** A storage binding: its name, the type of its elements, and whether it is written. */
export interface StorageBinding {
  readonly name: string;
  readonly element: string;
  readonly write?: boolean;
  readonly comment: string;
}

export interface ModuleOptions {
  readonly name: string;
  readonly header: readonly string[];
  readonly variant: AttentionVariant;
  readonly plan: Plan;
  /** From binding 1 on. */
  readonly bindings: readonly StorageBinding[];
  readonly invocations: number;
  /** Query tables that are read, of rows that `queryElement` reads. */
  readonly queryTables: readonly string[];
  /** Declarations at module level: workgroup memory and functions. */
  readonly declarations: readonly string[];
  /** Statements of `main` after the task was found. */
  readonly body: (kernel: RowKernel) => void;
}

/** Inputs of expressions whose locals in kernels have other names. */
const localNames: Readonly<Partial<Record<InputName, string>>> = {
  value: 'element',
  output: 'aggregated',
  batch: 'sequence.batch',
  queryLength: 'sequence.queryLength',
  keyLength: 'sequence.totalKeyLength',
};

/** A whole shader: parameters, bindings, sequences, tables, builtins, and `main`, in which `task` is the number of this workgroup's task. */
export function moduleOf({ name, header, variant, plan, bindings, invocations, queryTables, declarations, body }: ModuleOptions): ProgramSource {
  const builtins = new Set<Builtin>();
  const shared = { builtins, locals: 0 };
  const main = new WgslWriter();
  const environment = (names: Readonly<Partial<Record<InputName, string>>>): WgslEnvironment => ({
    input: (input) => names[input] ?? localNames[input] ?? input,
    uniform: (uniform) => `parameters.${identifier('uniform', uniform)}`,
    table: ({ name: table }, indices) => `${identifier('table', table)}(${indices.join(', ')})`,
    queryTable: ({ name: table }, row) => `${identifier('queryTable', table)}(queryRow, head, ${row})`,
    random: (node) => {
      builtins.add('unitInterval').add('threefry');
      const key = plan.streams.findIndex(([seed, stream]) => seed === node.seed && stream === node.stream);
      return `unitInterval(threefry(randomKey${key}, vec2<u32>(bitcast<u32>(queryPosition), bitcast<u32>(keyPosition))).x)`;
    },
  });
  main.line(`@compute @workgroup_size(${invocations})`);
  main.block('fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>, @builtin(local_invocation_index) local: u32)', () => {
    main.line('let ownTask = parameters.firstTask + workgroup.x + workgroup.y * workgroups.x;');
    main.block('if (ownTask >= parameters.endTask)', () => main.line('return;'));
    main.line('let task = parameters.taskOffset + ownTask;');
    body({ writer: main, builtins, lowering: (names = {}) => new WgslLowering(main, environment(names), shared) });
  });
  if (Object.values(variant.tables).some(({ type }) => type === 'f32')) builtins.add('finite');
  const writer = new WgslWriter();
  writer.line(...header.map((line) => `// ${line}`), '');
  writer.block('struct Parameters', () => {
    for (const { name: field, type, comment } of parameterFields(variant)) writer.line(`${field}: ${type},${comment === undefined ? '' : `  // ${comment}`}`);
  });
  writer.line('', '@group(0) @binding(0) var<uniform> parameters: Parameters;');
  bindings.forEach(({ name: binding, element, write = false, comment }, index) => {
    writer.line(`@group(0) @binding(${index + 1}) var<storage, ${write ? 'read_write' : 'read'}> ${binding}: array<${element}>;  // ${comment}`);
  });
  writer.line('', '// A score from here down counts as −∞; what the mask forbids is exactly here.', 'const lowest = -1.0e30f;', '');
  writeSequences(writer);
  writeTableReads(writer, variant);
  for (const table of queryTables) writeQueryTable(writer, variant, plan, table);
  for (const code of declareBuiltins(builtins)) writer.line('', code);
  writer.line('', ...declarations);
  return { name, code: `${writer.toString()}\n${main.toString()}`, bindings: ['uniform', ...bindings.map(({ write = false }) => (write ? ('write' as const) : ('read' as const)))] };
}

function writeSequences(writer: WgslWriter): void {
  writer.block('struct Sequence', () => writer.line(...sequenceFields.map((field) => `${field}: i32,`)));
  writer.line('');
  writer.block('fn sequenceAt(index: i32) -> Sequence', () => {
    writer.line(`let at = parameters.sequencesAt + ${sequenceFields.length}u * u32(index);`);
    writer.line(`return Sequence(${sequenceFields.map((_, place) => `integers[at + ${place}u]`).join(', ')});`);
  });
  writer.line('', '// Position of a row (L3): from a list, or counted from the offset.');
  writer.block('fn positionAt(list: i32, offset: i32, index: i32) -> i32', () => {
    writer.block('if (list < 0)', () => writer.line('return offset + index;'));
    writer.line('return integers[u32(list + index)];');
  });
}

function writeQueryTable(writer: WgslWriter, variant: AttentionVariant, { scoreDim }: Plan, name: string): void {
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
