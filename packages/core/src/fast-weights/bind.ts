import type { FastWeightInputs, FastWeightRequest, Runtime } from '../backend.ts';
import type { BoundTable } from '../bind.ts';
import { AttentionError } from '../errors.ts';
import type { TableDeclaration } from '../expression/declarations.ts';
import type { DType, HostTensor, Tensor } from '../tensor.ts';
import { isHostTensor, toFloat64 } from '../tensor.ts';
import { checkIntegers, largestInteger, smallestInteger } from '../validate/integers.ts';
import type { Names } from '../validate/names.ts';
import { checkNames } from '../validate/names.ts';
import { show } from '../show.ts';
import { bindTables, checkTransformTables } from '../validate/tables.ts';
import { checkTensor } from '../validate/tensors.ts';
import { bindUniforms, defaultUniforms } from '../validate/uniforms.ts';
import type { FastWeightInputName } from './rule.ts';
import { inputsOfRule } from './rule.ts';
import { fastWeightDTypes, floats, transformSitesOf } from './request.ts';
import { hiddenDimOf, stateShapes, widthOf } from './state.ts';

/** One sequence of a call: a batch entry, or a packed sequence. */
export interface BoundFastWeightSequence {
  /** Index on the first axis of states and of `batch` axes of tables; `batch` in expressions. */
  readonly index: number;
  /** Index on axis 0 of query, key and value: 0 when packed. */
  readonly tensorBatch: number;
  /** Its rows of those tensors. */
  readonly start: number;
  readonly length: number;
  /** Position of its row 0, before the variant's period. */
  readonly offset: number;
}

/** A checked call of a fast-weight kernel, with every default resolved. Backends read this and ask no further questions. */
export interface BoundFastWeights {
  readonly request: FastWeightRequest;
  readonly inputs: FastWeightInputs;
  readonly batch: number;
  readonly heads: number;
  readonly valueHeads: number;
  /** Rows of query, key and value for each entry of their axis 0. */
  readonly length: number;
  /** Width of query and key rows after their transforms. */
  readonly width: number;
  readonly sequences: readonly BoundFastWeightSequence[];
  readonly uniforms: Readonly<Record<string, number>>;
  readonly tables: Readonly<Record<string, BoundTable>>;
  /** Shapes of the state, in and out. */
  readonly stateShapes: Readonly<Record<string, readonly number[]>>;
  /** [batch, valueHeads, length, valueDim] */
  readonly outputShape: readonly number[];
}

const inputNames: Names<FastWeightInputs> = {
  query: true, key: true, value: true, logDecay: true, writeStrength: true, removalKey: true, removalWeight: true, momentum: true, tables: true, uniforms: true, offset: true, packed: true, state: true,
};

/**
 * Checks a call and resolves its defaults. Values are checked where the tensor is an array of the host: log decays, strengths of removal, and counts in the state.
 *
 * @param runtime whose tensors are welcome beside those of the host; undefined: any one's
 * @throws AttentionError `invalid-tensor`, `invalid-dtype`, `invalid-shape`, `invalid-argument` (missing or unused inputs, log decay above 0, strengths of removal outside their range), `invalid-lengths`, `invalid-positions`,
 * `missing-table`, `unknown-table`, `invalid-table`, `unknown-uniform`, `invalid-uniform`, `invalid-state`, `foreign-tensor`
 */
export function bindFastWeights(request: FastWeightRequest, inputs: FastWeightInputs, runtime?: Runtime): BoundFastWeights {
  const given: unknown = inputs;
  if (typeof given !== 'object' || given === null) throw new AttentionError('invalid-argument', `Got ${show(given)} for the inputs.`, 'Pass { query, key, value }.');
  checkNames('the inputs', given, inputNames);
  const { variant, valueDim } = request;
  const width = widthOf(request);
  const { batch, heads, valueHeads, length } = bindRows(request, inputs, runtime);
  const extents: Extents = { batch, valueHeads, length, width };
  bindRuleInputs(request, inputs, extents, runtime);
  const sequences = bindSequences(inputs, batch, length);
  const tables = bindTables(
    resolveAxes(variant.tables, { valueHead: valueHeads, hiddenDim: hiddenDimOf(request) }),
    inputs.tables,
    { batch: sequences.length, head: heads, keyHead: heads, queryLength: length, keyLength: length, queryDim: request.dim, keyDim: request.dim, valueDim, scoreDim: width, edge: 0 },
    runtime,
  );
  checkTransformTables(transformSitesOf(request), tables);
  const shapes = stateShapes(request, { sequences: sequences.length, heads, valueHeads });
  bindState(request, inputs.state, shapes, runtime);
  const uniforms = bindUniforms(variant, defaultUniforms(variant, width), inputs.uniforms);
  return { request, inputs, batch, heads, valueHeads, length, width, sequences, uniforms, tables, stateShapes: shapes, outputShape: [batch, valueHeads, length, valueDim] };
}

interface Extents {
  readonly batch: number;
  readonly valueHeads: number;
  readonly length: number;
  readonly width: number;
}

function bindRows(request: FastWeightRequest, inputs: FastWeightInputs, runtime: Runtime | undefined): { readonly batch: number; readonly heads: number; readonly valueHeads: number; readonly length: number } {
  const dtypes = fastWeightDTypes(request);
  const query = rowTensor('query', inputs.query, dtypes.query, request.dim, runtime);
  const key = rowTensor('key', inputs.key, dtypes.key, request.dim, runtime);
  const value = rowTensor('value', inputs.value, dtypes.value, request.valueDim, runtime);
  const [batch = 0, heads = 0, length = 0] = query.shape;
  const [, valueHeads = 0] = value.shape;
  if (key.shape.some((size, axis) => size !== query.shape[axis])) {
    throw new AttentionError('invalid-shape', `key has shape [${key.shape.join(', ')}], query [${query.shape.join(', ')}].`, 'Expected the same [batch, heads, length, dim]: every token has one of each.');
  }
  if (value.shape[0] !== batch || value.shape[2] !== length) {
    throw new AttentionError('invalid-shape', `value has shape [${value.shape.join(', ')}], query [${query.shape.join(', ')}].`, 'Expected the same batch and length: every token has one of each.');
  }
  if (heads < 1 || valueHeads < 1 || valueHeads % heads !== 0) {
    throw new AttentionError('invalid-shape', `Got ${valueHeads} value heads and ${heads} query heads.`, 'The value heads must be a multiple of the query heads, at least one.');
  }
  return { batch, heads, valueHeads, length };
}

function rowTensor(what: string, candidate: unknown, dtype: DType, dim: number, runtime: Runtime | undefined): Tensor {
  const tensor = checkTensor(what, candidate, runtime);
  if (tensor.dtype !== dtype) throw new AttentionError('invalid-dtype', `${what} is ${tensor.dtype}; the kernel was prepared for ${dtype}.`, `Pass ${dtype}, or prepare with dtypes: { ${what}: '${tensor.dtype}' }.`);
  if (tensor.shape.length !== 4 || tensor.shape[3] !== dim) throw new AttentionError('invalid-shape', `${what} has shape [${tensor.shape.join(', ')}].`, `Expected rank 4 with rows of ${dim}: [batch, heads, length, ${dim}].`);
  return tensor;
}

const optionalInputs: readonly FastWeightInputName[] = ['logDecay', 'writeStrength', 'removalKey', 'removalWeight', 'momentum'];

function bindRuleInputs(request: FastWeightRequest, inputs: FastWeightInputs, extents: Extents, runtime: Runtime | undefined): void {
  const { rule } = request.variant;
  const read = inputsOfRule(rule);
  for (const name of optionalInputs) {
    const given = inputs[name];
    if (!read.includes(name)) {
      if (given !== undefined) throw new AttentionError('invalid-argument', `Got ${name}, which the rule '${rule.name}' does not read.`, `It reads ${read.join(', ') || 'query, key and value alone'}.`);
      continue;
    }
    if (given === undefined) throw new AttentionError('invalid-argument', `The rule '${rule.name}' reads ${name}, and it is missing.`, `Pass ${name}: a tensor ${printAxes(axesOf(name, request, extents))}.`);
    const tensor = checkTensor(name, given, runtime);
    if (!floats.includes(tensor.dtype)) throw new AttentionError('invalid-dtype', `${name} is ${tensor.dtype}.`, `Expected one of ${floats.join(', ')}.`);
    checkAxes(name, tensor, axesOf(name, request, extents));
    if (!isOnHost(tensor)) continue;
    if (name === 'logDecay') checkLogDecay(tensor);
    else checkRange(name, tensor, rangeOf(name, request));
  }
}

/** An axis of an input: its size, and whether 1 is taken too and repeats. */
interface InputAxis {
  readonly name: string;
  readonly size: number;
  readonly repeats: boolean;
}

function axesOf(name: FastWeightInputName, request: FastWeightRequest, { batch, valueHeads, length, width }: Extents): readonly InputAxis[] {
  const { rule } = request.variant;
  const repeats = name === 'logDecay';
  const axes: readonly InputAxis[] = [{ name: 'batch', size: batch, repeats }, { name: 'valueHeads', size: valueHeads, repeats }, { name: 'length', size: length, repeats }];
  const channels: InputAxis = { name: 'width', size: width, repeats: false };
  if (name === 'removalKey' || name === 'removalWeight') return [...axes, channels];
  const decay = rule.kind === 'recurrent' ? rule.steps.find((step) => step.step === 'decay') : undefined;
  if (name !== 'logDecay' || decay === undefined || decay.by === 'step') return axes;
  return decay.by === 'channel' ? [...axes, channels] : [...axes.slice(0, 2), { name: 'one', size: 1, repeats: false }];
}

function printAxes(axes: readonly InputAxis[]): string {
  return `[${axes.map(({ name, size, repeats }) => (name === 'one' ? '1' : `${name} ${size}${repeats ? ' | 1' : ''}`)).join(', ')}]`;
}

function checkAxes(what: string, tensor: Tensor, axes: readonly InputAxis[]): void {
  const fits = tensor.shape.length === axes.length && axes.every(({ size, repeats }, axis) => tensor.shape[axis] === size || (repeats && tensor.shape[axis] === 1));
  if (!fits) throw new AttentionError('invalid-shape', `${what} has shape [${tensor.shape.join(', ')}].`, `Expected ${printAxes(axes)}.`);
}

/** Memory of a runtime may still be written to; an array of the host is what it will be. */
function isOnHost(tensor: Tensor): tensor is HostTensor {
  return tensor.runtime === null && isHostTensor(tensor);
}

function checkLogDecay(tensor: HostTensor): void {
  const wrong = toFloat64(tensor).find((value) => !(value <= 0));
  if (wrong !== undefined) throw new AttentionError('invalid-argument', `logDecay holds ${wrong}.`, 'Expected natural logarithms of decays from 0 to 1: numbers of 0 or less, −∞ to forget everything.');
}

/** Numbers that a rule is stable for: removing more than twice what is there, or less than nothing, makes the state grow without end. Null: any. */
function rangeOf(name: FastWeightInputName, { variant: { rule } }: FastWeightRequest): readonly [least: number, most: number] | null {
  if (rule.kind !== 'recurrent') return null;
  const isRemoved = rule.steps.some((step) => step.step === 'remove' && step.strength === name);
  if (name === 'writeStrength' && isRemoved) return [0, 2];
  return name === 'removalWeight' && isRemoved ? [0, 1] : null;
}

function checkRange(name: FastWeightInputName, tensor: HostTensor, range: readonly [number, number] | null): void {
  if (range === null) return;
  const [least, most] = range;
  const wrong = toFloat64(tensor).find((value) => !(value >= least && value <= most));
  if (wrong !== undefined) throw new AttentionError('invalid-argument', `${name} holds ${wrong}.`, `Expected numbers from ${least} to ${most}: beyond them the state grows without end.`);
}

function bindSequences(inputs: FastWeightInputs, batch: number, length: number): readonly BoundFastWeightSequence[] {
  const starts = inputs.packed === undefined ? null : checkIntegers('packed', inputs.packed, null, 0, length, 'invalid-lengths');
  if (starts !== null) {
    if (batch !== 1) throw new AttentionError('invalid-shape', `Packed sequences came with batch ${batch}.`, 'Expected batch 1: all sequences stand one after another on the length axis.');
    const ascends = [...starts].every((start, index) => index === 0 || start >= (starts[index - 1] ?? 0));
    if (starts.length < 1 || starts[0] !== 0 || starts[starts.length - 1] !== length || !ascends) {
      throw new AttentionError('invalid-lengths', `packed is ${show([...starts])}.`, `Expected ascending cumulative offsets from 0 to the length, ${length}.`);
    }
  }
  const count = starts === null ? batch : starts.length - 1;
  const { offset = 0 } = inputs;
  const offsets = typeof offset === 'number' ? checkIntegers('offset', [offset], 1, smallestInteger, largestInteger, 'invalid-positions') : checkIntegers('offset', offset, count, smallestInteger, largestInteger, 'invalid-positions');
  return Array.from({ length: count }, (_, index): BoundFastWeightSequence => {
    const start = starts?.[index] ?? 0;
    const rows = starts === null ? length : (starts[index + 1] ?? 0) - start;
    const first = (typeof offset === 'number' ? offsets[0] : offsets[index]) ?? 0;
    if (first + rows - 1 > largestInteger) throw new AttentionError('invalid-positions', `offset ${first} puts the last of ${rows} rows past ${largestInteger}.`, 'Positions are 32-bit integers.');
    return { index, tensorBatch: starts === null ? index : 0, start, length: rows, offset: first };
  });
}

/** Axes whose size only fast weights know, as the sizes that this call gives them. */
function resolveAxes(tables: Readonly<Record<string, TableDeclaration>>, sizes: Readonly<Record<string, number>>): Readonly<Record<string, TableDeclaration>> {
  const resolve = ({ axes, ...rest }: TableDeclaration): TableDeclaration => ({ ...rest, axes: axes.map((axis) => (Object.hasOwn(sizes, axis) ? (sizes[axis] ?? axis) : axis)) });
  return Object.fromEntries(Object.entries(tables).map(([name, declaration]) => [name, resolve(declaration)]));
}

function bindState(request: FastWeightRequest, state: unknown, shapes: Readonly<Record<string, readonly number[]>>, runtime: Runtime | undefined): void {
  if (state === undefined) return;
  const names = Object.keys(shapes);
  if (typeof state !== 'object' || state === null) throw new AttentionError('invalid-state', `state is ${show(state)}.`, `Pass { ${names.join(', ')} }, as a call returned it.`);
  for (const name of Object.keys(state)) {
    if (!names.includes(name)) throw new AttentionError('invalid-state', `The state holds ${show(name)}, which the rule '${request.variant.rule.name}' does not carry.`, `It carries ${names.join(', ')}.`);
  }
  for (const [name, shape] of Object.entries(shapes)) {
    const given: unknown = Reflect.get(state, name);
    if (given === undefined) throw new AttentionError('invalid-state', `The state lacks '${name}'.`, `The rule '${request.variant.rule.name}' carries ${names.join(', ')}.`);
    const tensor = checkTensor(`state '${name}'`, given, runtime);
    if (tensor.dtype !== 'f32' && tensor.dtype !== 'f64') throw new AttentionError('invalid-state', `State '${name}' is ${tensor.dtype}.`, 'Expected f32 or f64 (L12).');
    if (tensor.shape.length !== shape.length || tensor.shape.some((size, axis) => size !== shape[axis])) {
      throw new AttentionError('invalid-state', `State '${name}' has shape [${tensor.shape.join(', ')}].`, `Expected [${shape.join(', ')}].`);
    }
    if (name === 'filled' && isOnHost(tensor)) checkFilled(tensor, request);
  }
}

function checkFilled(tensor: HostTensor, request: FastWeightRequest): void {
  const { rule } = request.variant;
  const size = rule.kind === 'chunk' ? rule.chunk : rule.kind === 'gradient' ? rule.miniBatch : 1;
  const wrong = toFloat64(tensor).find((count) => !Number.isInteger(count) || count < 0 || count >= size);
  if (wrong !== undefined) throw new AttentionError('invalid-state', `State 'filled' holds ${wrong}.`, `Expected an integer from 0 to ${size - 1}.`);
}
