import { AttentionError } from '../../errors.ts';
import { evaluate } from '../../expression/evaluate.ts';
import type { Expression } from '../../expression/node.ts';
import { walk } from '../../expression/node.ts';
import { print } from '../../expression/print.ts';
import type { Dense } from './dense.ts';
import { checkShape } from './dense.ts';

/** One expression at every place of tensors of one shape: the table `name` is read at the element's own place, whatever its indices. */
export function elementwise(expression: Expression, tensors: ReadonlyMap<string, Dense>, uniforms: Readonly<Record<string, number>>): Dense {
  checkReads(expression, tensors, uniforms);
  const [first] = tensors.values();
  if (first === undefined) throw new AttentionError('invalid-argument', 'elementwise got no tensors.', 'Pass at least one: it gives the shape.');
  for (const [name, tensor] of tensors) checkShape(`elementwise’s '${name}'`, tensor, first.shape);
  let place = 0;
  const at = {
    input: () => Number.NaN,
    uniform: (name: string) => uniforms[name] ?? Number.NaN,
    table: (name: string) => tensors.get(name)?.data[place] ?? Number.NaN,
    queryTable: () => Number.NaN,
    random: () => Number.NaN,
  };
  const result = new Float64Array(first.data.length);
  for (; place < result.length; place++) result[place] = evaluate(expression, at);
  return { data: result, shape: first.shape };
}

function checkReads(expression: Expression, tensors: ReadonlyMap<string, Dense>, uniforms: Readonly<Record<string, number>>): void {
  const read = new Set<string>();
  for (const node of walk(expression)) {
    if (node.kind === 'input' || node.kind === 'queryTable' || node.kind === 'random') {
      throw new AttentionError('invalid-expression', `elementwise got ${print(expression)}, and ${print(node)} has no meaning there.`, 'Read tables and uniforms only.');
    }
    if (node.kind === 'table' && !tensors.has(node.name)) throw new AttentionError('missing-table', `elementwise reads table '${node.name}', which is not given.`, 'Pass a tensor of that name.');
    if (node.kind === 'uniform' && !isNumber(uniforms, node.name)) throw new AttentionError('invalid-uniform', `elementwise reads uniform '${node.name}', which is not given a number.`, 'Pass it in `uniforms`.');
    if (node.kind === 'table' || node.kind === 'uniform') read.add(`${node.kind} ${node.name}`);
  }
  for (const name of tensors.keys()) if (!read.has(`table ${name}`)) throw new AttentionError('unknown-table', `elementwise got a tensor '${name}', which the expression does not read.`, 'Leave it out.');
  for (const name of Object.keys(uniforms)) if (!read.has(`uniform ${name}`)) throw new AttentionError('unknown-uniform', `elementwise got uniform '${name}', which the expression does not read.`, 'Leave it out.');
}

function isNumber(uniforms: Readonly<Record<string, number>>, name: string): boolean {
  const value: unknown = Object.hasOwn(uniforms, name) ? uniforms[name] : undefined;
  return typeof value === 'number' && !Number.isNaN(value);
}
