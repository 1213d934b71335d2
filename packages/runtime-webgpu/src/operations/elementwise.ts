import { AttentionError, print, walk, type DType, type Expression, type Tensor } from '@heed/core';
import { elementCount } from '@heed/core';
import type { Builtin } from '../wgsl/builtins.ts';
import { WgslLowering } from '../wgsl/expression.ts';
import { identifier, WgslWriter } from '../wgsl/writer.ts';
import { checkShape, type OperationCall } from './context.ts';

export interface ElementwiseOptions {
  readonly uniforms?: Readonly<Record<string, number>>;
  readonly dtype?: DType;
}

/** One expression at every place of tensors of one shape: the table `name` is read at the element's own place. */
export function elementwise(call: OperationCall, expression: Expression, tensors: Readonly<Record<string, Tensor>>, { uniforms = {}, dtype }: ElementwiseOptions = {}): Tensor {
  checkReads(expression, tensors, uniforms);
  const entries = Object.entries(tensors);
  const [first] = entries;
  if (first === undefined) throw new AttentionError('invalid-argument', 'elementwise got no tensors.', 'Pass at least one: it gives the shape.');
  const { shape } = first[1];
  for (const [name, tensor] of entries) checkShape(`elementwise’s '${name}'`, tensor.shape, shape);
  const types = typesOf(expression);
  const builtins = new Set<Builtin>();
  const writer = new WgslWriter();
  const environment = {
    input: () => '0.0f',
    uniform: (name: string) => `parameters.${identifier('uniform', name)}`,
    table: ({ name, type }: { readonly name: string; readonly type: string }) => (type === 'bool' ? `(${identifier('table', name)}[place] != 0i)` : `${identifier('table', name)}[place]`),
    queryTable: () => '0.0f',
    random: () => '0.0f',
  };
  const value = new WgslLowering(writer, environment, { builtins, locals: 0 }).lower(expression);
  const isFloat = expression.type === 'f32';
  writer.line(`result[place] = ${isFloat ? value : `i32(${value})`};`);
  const natural: DType = expression.type === 'bool' ? 'u8' : expression.type === 'i32' ? 'i32' : (entries.find(([, tensor]) => tensor.dtype === 'f32' || tensor.dtype === 'f16' || tensor.dtype === 'bf16')?.[1].dtype ?? 'f32');
  const elementOf = (name: string): 'f32' | 'i32' => (types.get(`table ${name}`) === 'f32' ? 'f32' : 'i32');
  const names = Object.keys(uniforms);
  const shader = {
    name: 'elementwise',
    reads: Object.fromEntries(entries.map(([name]) => [identifier('table', name), elementOf(name)])),
    result: isFloat ? 'f32' : 'i32',
    fields: names.map((name) => [identifier('uniform', name), types.get(`uniform ${name}`) === 'i32' ? 'i32' : 'f32'] as const),
    builtins,
    body: (inner: WgslWriter) => {
      inner.line(...writer.toString().trimEnd().split('\n').map((line) => line.trim()));
    },
  } satisfies Parameters<OperationCall['run']>[0];
  const reads = entries.map(([name, tensor]) => call.dense(tensor, elementOf(name)));
  const units = { count: elementCount(shape), reads: reads.map(() => 4), result: 4 };
  const values = names.map((name) => uniforms[name] ?? 0);
  const { runtime } = call;
  const stored = dtype ?? natural;
  if (isFloat) {
    return call.store(shape, stored, (target) => {
      call.runUnits(shader, units, (part) => part, () => values, reads, target);
    });
  }
  const whole = runtime.tensor(shape, 'i32');
  call.runUnits(shader, units, (part) => part, () => values, reads, runtime.bufferOf(whole));
  if (stored === 'i32') return whole;
  const made = runtime.tensor(shape, stored);
  call.convert(whole, stored, runtime.bufferOf(made));
  runtime.release(whole);
  return made;
}

function typesOf(expression: Expression): ReadonlyMap<string, string> {
  const types = new Map<string, string>();
  for (const node of walk(expression)) if (node.kind === 'table' || node.kind === 'uniform') types.set(`${node.kind} ${node.name}`, node.type);
  return types;
}

function checkReads(expression: Expression, tensors: Readonly<Record<string, Tensor>>, uniforms: Readonly<Record<string, number>>): void {
  const read = new Set<string>();
  for (const node of walk(expression)) {
    if (node.kind === 'input' || node.kind === 'queryTable' || node.kind === 'random') {
      throw new AttentionError('invalid-expression', `elementwise got ${print(expression)}, and ${print(node)} has no meaning there.`, 'Read tables and uniforms only.');
    }
    if (node.kind === 'table' && !Object.hasOwn(tensors, node.name)) throw new AttentionError('missing-table', `elementwise reads table '${node.name}', which is not given.`, 'Pass a tensor of that name.');
    if (node.kind === 'uniform' && !Number.isFinite(Object.hasOwn(uniforms, node.name) ? uniforms[node.name] : Number.NaN)) {
      throw new AttentionError('invalid-uniform', `elementwise reads uniform '${node.name}', which is not given a number.`, 'Pass it in `uniforms`.');
    }
    if (node.kind === 'table' || node.kind === 'uniform') read.add(`${node.kind} ${node.name}`);
  }
  for (const name of Object.keys(tensors)) if (!read.has(`table ${name}`)) throw new AttentionError('unknown-table', `elementwise got a tensor '${name}', which the expression does not read.`, 'Leave it out.');
  for (const name of Object.keys(uniforms)) if (!read.has(`uniform ${name}`)) throw new AttentionError('unknown-uniform', `elementwise got uniform '${name}', which the expression does not read.`, 'Leave it out.');
}
