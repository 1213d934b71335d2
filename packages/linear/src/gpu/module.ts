import type { Declarations, InputName } from '@heed/core';
import { declareBuiltins, declaredFields, identifier, WgslLowering, WgslWriter, writeTableReads, type Builtin, type ParameterField, type ProgramSource, type RowKernel } from '@heed/runtime-webgpu';

/** A storage binding: its name, its elements, and whether it is written. */
export interface StorageBinding {
  readonly name: string;
  readonly element: 'f32' | 'i32' | 'u32';
  readonly write?: boolean;
  readonly comment: string;
}

export interface ModuleOptions {
  readonly name: string;
  readonly header: readonly string[];
  readonly invocations: number;
  readonly fields: readonly ParameterField[];
  readonly bindings: readonly StorageBinding[];
  /** Tables and uniforms that expressions read; a binding `tables` must be there. Default: none. */
  readonly declarations?: Declarations;
  /** Statements of `main` after the task was found. */
  readonly body: (kernel: RowKernel) => void;
  /** Declarations at module level. */
  readonly globals?: readonly string[];
}

/** Fields that every program has: a dispatch computes tasks firstTask … endTask − 1. */
const taskFields: readonly ParameterField[] = [{ name: 'firstTask', type: 'u32' }, { name: 'endTask', type: 'u32' }];

export function fieldsOf({ fields, declarations }: Pick<ModuleOptions, 'fields' | 'declarations'>): readonly ParameterField[] {
  return [...taskFields, ...fields, ...(declarations === undefined ? [] : declaredFields(declarations))];
}

/** A whole shader, in whose `main` `task` is the number of this workgroup's task and `local` that of the lane. */
export function moduleOf(options: ModuleOptions): ProgramSource {
  const { name, header, invocations, bindings, declarations, globals = [] } = options;
  const builtins = new Set<Builtin>();
  const shared = { builtins, locals: 0 };
  const main = new WgslWriter();
  const lowering = (names: Readonly<Partial<Record<InputName, string>>> = {}): WgslLowering =>
    new WgslLowering(main, {
      input: (input) => names[input] ?? input,
      uniform: (uniform) => `parameters.${identifier('uniform', uniform)}`,
      table: ({ name: table }, indices) => `${identifier('table', table)}(${indices.join(', ')})`,
      queryTable: () => '0.0f',
      random: () => '0.0f',
    }, shared);
  main.line(`@compute @workgroup_size(${invocations})`);
  main.block('fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32)', () => {
    main.line('let task = parameters.firstTask + group.x + group.y * groups.x;');
    main.block('if (task >= parameters.endTask)', () => main.line('return;'));
    options.body({ writer: main, builtins, lowering });
  });
  if (Object.values(declarations?.tables ?? {}).some(({ type }) => type === 'f32')) builtins.add('finite');
  const writer = new WgslWriter();
  writer.line(...header.map((line) => `// ${line}`), '');
  writer.block('struct Parameters', () => {
    for (const { name: field, type, comment } of fieldsOf(options)) writer.line(`${field}: ${type},${comment === undefined ? '' : `  // ${comment}`}`);
  });
  writer.line('', '@group(0) @binding(0) var<uniform> parameters: Parameters;');
  bindings.forEach(({ name: binding, element, write = false, comment }, index) => {
    writer.line(`@group(0) @binding(${index + 1}) var<storage, ${write ? 'read_write' : 'read'}> ${binding}: array<${element}>;  // ${comment}`);
  });
  if (declarations !== undefined) writeTableReads(writer, declarations);
  for (const code of declareBuiltins(builtins)) writer.line('', code);
  if (globals.length > 0) writer.line('', ...globals);
  return { name, code: `${writer.toString()}\n${main.toString()}`, bindings: ['uniform', ...bindings.map(({ write = false }) => (write ? ('write' as const) : ('read' as const)))] };
}
