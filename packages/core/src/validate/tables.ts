import type { Runtime } from '../backend.ts';
import type { BoundTable } from '../bind.ts';
import { AttentionError } from '../errors.ts';
import type { Axis, KnownAxis, TableDeclaration, TableRange } from '../expression/declarations.ts';
import { knownAxes, printTable } from '../expression/declarations.ts';
import type { ScalarType } from '../expression/node.ts';
import type { DType, HostTensor } from '../tensor.ts';
import { isContiguous, isHostTensor, spanOf, toFloat64 } from '../tensor.ts';
import type { AttentionVariant } from '../variant.ts';
import { show } from '../show.ts';
import type { TransformSite } from './structure.ts';
import { didYouMean } from './names.ts';
import { checkTensor } from './tensors.ts';

/** Sizes of the known axes in one call. */
export type AxisSizes = Readonly<Record<KnownAxis, number>>;

const storage: Readonly<Record<ScalarType, readonly DType[]>> = { f32: ['f64', 'f32', 'f16', 'bf16'], i32: ['i32', 'i8', 'u8'], bool: ['u8'] };

const none: Readonly<Record<string, BoundTable>> = Object.freeze({});

/**
 * Every declared table with the strides to read it by.
 *
 * @param needed the tables that matter; default all
 * @throws AttentionError `missing-table`, `unknown-table`, `invalid-table` (dtype, rank, sizes), and those of a tensor
 */
export function bindTables(
  declarations: AttentionVariant['tables'],
  given: unknown,
  sizes: AxisSizes,
  runtime: Runtime | undefined,
  needed?: ReadonlySet<string>,
): Readonly<Record<string, BoundTable>> {
  const names = Object.keys(declarations);
  if (given !== undefined && (typeof given !== 'object' || given === null)) throw new AttentionError('invalid-table', `tables is ${show(given)}.`, 'Pass { name: tensor }.');
  const tensors: object = given ?? {};
  for (const name of Object.keys(tensors)) {
    if (Object.hasOwn(declarations, name)) continue;
    // A name that is not given yet is the likelier one.
    const missing = names.filter((known) => !Object.hasOwn(tensors, known));
    throw new AttentionError('unknown-table', `Got table ${show(name)}, which the variant does not declare.`, `${didYouMean(name, missing)}It declares ${names.join(', ') || 'none'}.`);
  }
  if (names.length === 0) return none;
  const free: FreeAxes = new Map();
  const bound: Record<string, BoundTable> = {};
  for (const [name, declaration] of Object.entries(declarations)) {
    if (needed !== undefined && !needed.has(name)) continue;
    const tensor: unknown = Object.hasOwn(tensors, name) ? Reflect.get(tensors, name) : undefined;
    if (tensor === undefined) throw new AttentionError('missing-table', `Table '${name}' is not given.`, `Pass { tables: { ${name}: … } }, ${declaration.type} of shape ${printSizes(declaration, sizes, free)}.`);
    bound[name] = bindTable(name, declaration, tensor, sizes, free, runtime);
  }
  return bound;
}

/** Sizes of the free axes met so far, and the table that set each. */
type FreeAxes = Map<string, { readonly size: number; readonly table: string }>;

/** `[4 (head), 3]`: the sizes that this call asks for. */
function printSizes({ axes }: TableDeclaration, known: AxisSizes, free: FreeAxes): string {
  const sizes = axes.map((axis) => {
    const size = expectedSize(axis, known) ?? free.get(String(axis))?.size ?? null;
    return typeof axis === 'number' || size === null ? String(axis) : `${size} (${axis})`;
  });
  return `[${sizes.join(', ')}]`;
}

function bindTable(
  name: string,
  declaration: TableDeclaration,
  given: unknown,
  known: AxisSizes,
  free: FreeAxes,
  runtime: Runtime | undefined,
): BoundTable {
  const tensor = checkTensor(`table '${name}'`, given, runtime);
  if (!storage[declaration.type].includes(tensor.dtype)) {
    throw new AttentionError('invalid-table', `Table '${name}' is ${tensor.dtype}.`, `It is declared ${declaration.type}: expected ${storage[declaration.type].join(', ')}.`);
  }
  const { axes } = declaration;
  const wrong = (why: string): AttentionError => new AttentionError('invalid-table', `Table '${name}' has shape [${tensor.shape.join(', ')}]${why}.`, `It is declared ${printTable(declaration)}: expected rank ${axes.length}, ${printSizes(declaration, known, free)}.`);
  if (tensor.shape.length !== axes.length) throw wrong('');
  const sizes: number[] = [];
  const strides: number[] = [];
  for (const [index, axis] of axes.entries()) {
    const size = tensor.shape[index] ?? 0;
    const stride = tensor.strides[index] ?? 0;
    const expected = expectedSize(axis, known);
    if (expected === null) {
      const first = free.get(String(axis));
      if (first === undefined) free.set(String(axis), { size, table: name });
      else if (first.size !== size) throw wrong(`; axis '${axis}' is ${size} here and ${first.size} in table '${first.table}'`);
    } else if (size !== expected && (typeof axis === 'number' || size !== 1)) {
      throw wrong(`; axis ${index} (${axis}) is ${size}, expected ${typeof axis === 'number' ? expected : `${expected} or 1`}`);
    }
    const repeats = expected !== null && size === 1 && expected !== 1;
    sizes.push(repeats ? expected : size);
    strides.push(repeats ? 0 : stride);
  }
  if (declaration.type === 'bool' && isHostTensor(tensor)) checkBooleans(name, tensor);
  if (declaration.range !== undefined && isHostTensor(tensor)) checkValues(name, tensor, declaration.range, known);
  return { declaration, tensor, sizes, strides };
}

function checkValues(name: string, tensor: HostTensor, [least, limit]: TableRange, known: AxisSizes): void {
  const most = typeof limit === 'number' ? limit : known[limit];
  const wrong = toFloat64(tensor).find((value) => !(value >= least && value <= most));
  if (wrong === undefined) return;
  throw new AttentionError('invalid-table', `Table '${name}' holds ${wrong}.`, `Expected ${least} … ${typeof limit === 'number' ? most : `${most} (${limit})`}.`);
}

/** Backends store booleans in all sorts of ways, so anything but 0 and 1 would mean different things to them. */
function checkBooleans(name: string, tensor: HostTensor): void {
  const view = tensor.view();
  const count = spanOf(tensor.shape, tensor.strides);
  let bits = 0;
  if (isContiguous(tensor)) {
    for (let index = 0; index < count; index++) bits |= view[index] ?? 0;
  } else {
    for (const value of toFloat64(tensor)) bits |= value;
  }
  if (bits > 1) throw new AttentionError('invalid-table', `Table '${name}' is boolean and holds a number above 1.`, 'Expected 0 (false) and 1 (true) only.');
}

/** Null for a free axis. */
function expectedSize(axis: Axis, known: AxisSizes): number | null {
  if (typeof axis === 'number') return axis;
  return isKnown(axis) ? known[axis] : null;
}

function isKnown(axis: string): axis is KnownAxis {
  return (knownAxes as readonly string[]).includes(axis);
}

/**
 * Tables of transforms against the rows they act on: what free axes leave open.
 * @throws AttentionError `invalid-table`
 */
export function checkTransformTables(transforms: readonly TransformSite[], tables: Readonly<Record<string, BoundTable>>): void {
  for (const { side, transform, width } of transforms) {
    if (transform.kind === 'projection') checkLast(tables, transform.table, width, `${side} rows that are ${width} wide`);
    if (transform.kind === 'featureMap' && transform.map.rule === 'favor') checkLast(tables, transform.map.table, width, `${side} rows that are ${width} wide`);
    if (transform.kind === 'rope' && transform.frequencies !== null) {
      const turned = transform.width ?? width;
      checkLast(tables, transform.frequencies, turned / 2, `${turned} channels in pairs`);
    }
  }
}

function checkLast(tables: Readonly<Record<string, BoundTable>>, name: string, expected: number, what: string): void {
  const table = tables[name];
  if (table === undefined || table.sizes.at(-1) === expected) return;
  throw new AttentionError('invalid-table', `Table '${name}' has shape [${table.tensor.shape.join(', ')}] and meets ${what}.`, `Expected ${expected} on its last axis.`);
}
