import type { BoundCall, BoundSequence, BoundTable } from './bind.ts';
import { AttentionError } from './errors.ts';
import type { Environment } from './expression/evaluate.ts';
import { inputTypes } from './expression/node.ts';
import type { InputName } from './expression/node.ts';
import { randomAt } from './expression/random.ts';
import type { HostTensor } from './tensor.ts';
import { isHostTensor, reader } from './tensor.ts';

/** A bound table on the host: element reads by index, and the offset of an element for those who write gradients. */
export interface HostTable {
  /** Offset of an element in the dense order of the table's own shape. @throws AttentionError `table-out-of-range` */
  offset(indices: readonly number[]): number;
  at(indices: readonly number[]): number;
}

/** @throws AttentionError `foreign-tensor` when the table does not live on the host */
export function hostTable(name: string, table: BoundTable): HostTable {
  const source = onHost(name, table.tensor);
  const read = reader(source.dtype, source.view());
  const { shape } = source;
  const locate = (indices: readonly number[], strides: readonly number[]): number => {
    let at = 0;
    for (let axis = 0; axis < shape.length; axis++) {
      const index = indices[axis] ?? -1;
      const size = table.sizes[axis] ?? 0;
      if (index < 0 || index >= size) {
        throw new AttentionError('table-out-of-range', `Table '${name}' was read at [${indices.join(', ')}]; its sizes are [${table.sizes.join(', ')}].`, 'Clamp the index with min and max.');
      }
      at += (shape[axis] === 1 ? 0 : index) * (strides[axis] ?? 0);
    }
    return at;
  };
  const dense = denseStrides(shape);
  return { offset: (indices) => locate(indices, dense), at: (indices) => read(locate(indices, table.strides)) };
}

/** Every bound table on the host, by name. @throws AttentionError `foreign-tensor` */
export function hostTables(tables: BoundCall['tables']): ReadonlyMap<string, HostTable> {
  return new Map(Object.entries(tables).map(([name, table]) => [name, hostTable(name, table)]));
}

function denseStrides(shape: readonly number[]): readonly number[] {
  let stride = 1;
  return shape.map((_, index) => shape.length - 1 - index).map((axis) => {
    const own = stride;
    stride *= shape[axis] ?? 1;
    return own;
  }).reverse();
}

/** @throws AttentionError `foreign-tensor` */
export function onHost(name: string, tensor: BoundTable['tensor']): HostTensor {
  if (isHostTensor(tensor)) return tensor;
  throw new AttentionError('foreign-tensor', `'${name}' lives on another runtime.`, 'Read it to the host first.');
}

/** What expressions read of a call as a whole. */
export type PlaceCall = Pick<BoundCall, 'heads' | 'keyHeads' | 'uniforms' | 'tables' | 'headOffset'>;

/**
 * Where an expression stands in a bound call: a sequence, a head, a query row, a key row, a channel. Move it by setting `values`;
 * `sequence` and `queryRow` too where positions, random numbers or query tables are read.
 */
export class Place implements Environment {
  readonly values: Record<InputName, number>;
  /** The transformed, unscaled query row that query tables are multiplied with. */
  queryRow: Float64Array = new Float64Array(0);
  /** Which edge joins a query row and a key row; null in a call without edges. */
  edgeOf: ((query: number, key: number) => number) | null = null;
  readonly #call: PlaceCall;
  readonly #tables: ReadonlyMap<string, HostTable>;
  #sequence: BoundSequence | undefined;

  constructor(call: PlaceCall, tables: ReadonlyMap<string, HostTable>) {
    this.#call = call;
    this.#tables = tables;
    const values: Partial<Record<InputName, number>> = {};
    for (const name of Object.keys(inputTypes) as InputName[]) values[name] = 0;
    this.values = values as Record<InputName, number>;
  }

  enterSequence(sequence: BoundSequence): void {
    this.#sequence = sequence;
    this.values.batch = sequence.batch;
    this.values.queryLength = sequence.queryLength;
    this.values.keyLength = sequence.totalKeyLength;
  }

  enterHead(head: number): void {
    this.values.head = head;
    this.values.keyHead = Math.floor((head * this.#call.keyHeads) / this.#call.heads);
  }

  enterQuery(index: number): void {
    this.values.queryIndex = index;
    this.values.queryPosition = queryPosition(this.#current, index);
  }

  enterKey(index: number): void {
    this.values.keyIndex = index;
    if (this.edgeOf !== null) this.values.edgeIndex = this.edgeOf(this.values.queryIndex, index);
    this.values.keyPosition = keyPosition(this.#current, index);
  }

  input(name: InputName): number {
    return this.values[name];
  }

  uniform(name: string): number {
    const value = this.#call.uniforms[name];
    if (value === undefined) throw new AttentionError('unknown-uniform', `Uniform '${name}' is not bound.`, 'Declare it in the variant.');
    return value;
  }

  table(name: string, indices: readonly number[]): number {
    return this.tableNamed(name).at(indices);
  }

  tableNamed(name: string): HostTable {
    const table = this.#tables.get(name);
    if (table === undefined) throw new AttentionError('missing-table', `Table '${name}' is not bound.`, `Pass it in { tables: { '${name}': … } }.`);
    return table;
  }

  queryTable(name: string, row: number): number {
    const table = this.tableNamed(name);
    let sum = 0;
    for (let channel = 0; channel < this.queryRow.length; channel++) sum += (this.queryRow[channel] ?? 0) * table.at(this.queryTableIndices(name, row, channel));
    return sum;
  }

  /** Indices of one element that a query table reads: [row, channel], or [head, row, channel] where it has one table for each head. */
  queryTableIndices(name: string, row: number, channel: number): readonly number[] {
    return this.#call.tables[name]?.sizes.length === 3 ? [this.values.head, row, channel] : [row, channel];
  }

  random(seed: number, stream: number): number {
    return randomAt(seed, stream, this.#current.id, this.values.head + this.#call.headOffset, this.values.queryPosition, this.values.keyPosition);
  }

  get #current(): BoundSequence {
    if (this.#sequence === undefined) throw new AttentionError('internal', 'An expression was evaluated outside of a sequence.', 'Enter one first.');
    return this.#sequence;
  }
}

/** Position of query row `index` of a sequence (L3). */
export function queryPosition(sequence: BoundSequence, index: number): number {
  return sequence.queryPositions?.[index] ?? sequence.queryOffset + index;
}

/** Position of key row `index` of a sequence (L3). */
export function keyPosition(sequence: BoundSequence, index: number): number {
  return sequence.keyPositions?.[index] ?? sequence.keyOffset + index;
}
