import { AttentionError } from '../../errors.ts';
import type { Expression } from '../../expression/node.ts';
import { print } from '../../expression/print.ts';
import type { BoundFastWeights, BoundFastWeightSequence } from '../../fast-weights/bind.ts';
import { parametersOf } from '../../fast-weights/inner-model.ts';
import type { FastWeightInputName } from '../../fast-weights/rule.ts';
import { inputsOfRule } from '../../fast-weights/rule.ts';
import type { HostTable } from '../../place.ts';
import { hostTable, onHost, Place } from '../../place.ts';
import type { RowTransform } from '../../stages/transforms/transform.ts';
import { elementCount, toFloat64 } from '../../tensor.ts';
import { transformRow } from '../attention/transforms.ts';
import { Rows } from './rows.ts';

/** Everything that a call reads, in float64. */
export interface Operands {
  readonly call: BoundFastWeights;
  readonly tables: ReadonlyMap<string, HostTable>;
  /** After their transforms: [batch, heads, length, width]. */
  readonly query: Rows;
  readonly key: Rows;
  readonly value: Rows;
  readonly inputs: Readonly<Partial<Record<FastWeightInputName, Rows>>>;
}

/** One value head of one sequence, and the query and key head that it reads. */
export interface Lane {
  readonly sequence: BoundFastWeightSequence;
  readonly valueHead: number;
  readonly head: number;
}

/** Decodes the inputs of a call and transforms its rows. @throws AttentionError `foreign-tensor` */
export function operandsOf(call: BoundFastWeights): Operands {
  const { variant } = call.request;
  const tables = new Map(Object.entries(call.tables).map(([name, table]) => [name, hostTable(name, table)]));
  const inputs: Partial<Record<FastWeightInputName, Rows>> = {};
  for (const name of inputsOfRule(variant.rule)) {
    const tensor = call.inputs[name];
    if (tensor !== undefined) inputs[name] = Rows.read(name, tensor);
  }
  return {
    call,
    tables,
    query: transformRows(call, tables, variant.queryTransforms, Rows.read('query', call.inputs.query)),
    key: transformRows(call, tables, variant.keyTransforms, Rows.read('key', call.inputs.key)),
    value: Rows.read('value', call.inputs.value),
    inputs,
  };
}

/** A scalar parameter of the rule or of the variant: a uniform's value in this call, or a constant. */
export function scalarOf({ call }: Operands, expression: Expression): number {
  const value = expression.kind === 'uniform' ? call.uniforms[expression.name] : expression.kind === 'constant' ? expression.value : undefined;
  if (value === undefined) throw new AttentionError('invalid-variant', `A scalar parameter is ${print(expression)}.`, 'Expected a uniform or a constant.');
  return value;
}

/** Every value head of every sequence. */
export function* lanes(call: BoundFastWeights): Generator<Lane> {
  for (const sequence of call.sequences) {
    for (let valueHead = 0; valueHead < call.valueHeads; valueHead++) yield { sequence, valueHead, head: Math.floor((valueHead * call.heads) / call.valueHeads) };
  }
}

/** Visits every row of queries or keys with the place that their transforms read. */
export function visitRows(call: BoundFastWeights, tables: ReadonlyMap<string, HostTable>, visit: (place: Place, tensorBatch: number, head: number, index: number) => void): void {
  const place = new Place({ heads: call.heads, keyHeads: call.heads, uniforms: call.uniforms, tables: call.tables, headOffset: 0 }, tables);
  const period = call.request.variant.positionPeriod;
  for (const { index: batch, tensorBatch, start, length, offset } of call.sequences) {
    for (let head = 0; head < call.heads; head++) {
      for (let index = 0; index < length; index++) {
        const position = offset + index;
        Object.assign(place.values, { batch, head, index, position: period === null ? position : position - period * Math.floor(position / period) });
        visit(place, tensorBatch, head, start + index);
      }
    }
  }
}

function transformRows(call: BoundFastWeights, tables: ReadonlyMap<string, HostTable>, transforms: readonly RowTransform[], rows: Rows): Rows {
  if (transforms.length === 0) return rows;
  const result = new Rows([call.batch, call.heads, call.length, call.width]);
  visitRows(call, tables, (place, batch, head, index) => {
    result.row(batch, head, index).set(transformRow(transforms, rows.row(batch, head, index), place).result);
  });
  return result;
}

/** Tensors of a state by name, dense, in the shapes of `stateShapes`. */
export type States = Readonly<Record<string, Float64Array>>;

/** The state that a call begins with, as memory of its own: the one given, or the rule's beginning. */
export function initialStates({ call, tables }: Operands): States {
  const given = call.inputs.state;
  const entries = Object.entries(call.stateShapes).map(([name, shape]): readonly [string, Float64Array] => {
    const tensor = given?.[name];
    if (tensor !== undefined) return [name, toFloat64(onHost(name, tensor))];
    const table = beginningOf(call, name);
    return [name, table === null ? new Float64Array(elementCount(shape)) : repeatTable(tables, table, shape)];
  });
  return Object.fromEntries(entries);
}

/** The table that a tensor of the state begins with; null: zeros. */
function beginningOf(call: BoundFastWeights, state: string): string | null {
  const { rule } = call.request.variant;
  if (rule.kind === 'chunk') return state === 'weight' ? state : null;
  if (rule.kind === 'recurrent') return null;
  return parametersOf(rule.model).find(({ name }) => state === name || state === `${name}Start`)?.name ?? null;
}

/** A table [valueHead, …] once for each sequence. */
function repeatTable(tables: ReadonlyMap<string, HostTable>, name: string, shape: readonly number[]): Float64Array {
  const [sequences = 0, ...own] = shape;
  const once = Float64Array.from({ length: elementCount(own) }, (_, flat) => tables.get(name)?.at(indicesOf(flat, own)) ?? Number.NaN);
  const result = new Float64Array(sequences * once.length);
  for (let sequence = 0; sequence < sequences; sequence++) result.set(once, sequence * once.length);
  return result;
}

function indicesOf(flat: number, shape: readonly number[]): readonly number[] {
  const indices = shape.map(() => 0);
  let rest = flat;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const size = shape[axis] ?? 1;
    indices[axis] = rest % size;
    rest = Math.floor(rest / size);
  }
  return indices;
}

/** What one lane holds of a state [sequences, heads, …]. A view. */
export function laneState(call: BoundFastWeights, states: States, name: string, sequence: number, head: number): Float64Array {
  const [, heads = 0, ...own] = call.stateShapes[name] ?? [];
  const size = elementCount(own);
  const start = (sequence * heads + head) * size;
  return (states[name] ?? new Float64Array(0)).subarray(start, start + size);
}
