import { AttentionError } from '../../errors.ts';
import { differentiableLeaves, differentiate } from '../../expression/differentiate.ts';
import { evaluate } from '../../expression/evaluate.ts';
import type { Expression, QueryTableRead, TableRead } from '../../expression/node.ts';
import type { Place } from '../../place.ts';
import type { HostTensor } from '../../tensor.ts';
import { elementCount } from '../../tensor.ts';
import type { Operands } from './operands.ts';
import { denseTensor } from '../../dense-tensor.ts';

interface Derived<T> {
  readonly read: T;
  readonly derivative: Expression;
}

/** The tables of a call: as they were bound, and readable. */
export interface TableOperands {
  readonly call: Pick<Operands['call'], 'tables'>;
  readonly tables: Operands['tables'];
}

/** Gradients of all tables of a call, summed while the backward pass visits what reads them. Derivatives are taken once for each expression. */
export class TableGradients {
  readonly #operands: TableOperands;
  readonly #sums: ReadonlyMap<string, Float64Array>;
  readonly #reads = new Map<Expression, readonly Derived<TableRead | QueryTableRead>[]>();

  constructor(operands: TableOperands) {
    this.#operands = operands;
    this.#sums = new Map(Object.entries(operands.call.tables).map(([name, table]) => [name, new Float64Array(elementCount(table.tensor.shape))]));
  }

  /** Adds to one element of a table. */
  add(name: string, indices: readonly number[], amount: number): void {
    const sums = this.#sums.get(name);
    const at = this.#operands.tables.get(name)?.offset(indices);
    if (sums === undefined || at === undefined) throw new AttentionError('internal', `Table '${name}' has no gradient.`, 'Bind it.');
    sums[at] = (sums[at] ?? 0) + amount;
  }

  /** Adds `outer` times the derivative of an expression to every table element that it reads where it stands. Query tables are the caller's. */
  through(expression: Expression, outer: number, place: Place): void {
    for (const { read, derivative } of this.#readsOf(expression)) {
      if (read.kind === 'table') this.add(read.name, read.indices.map((index) => evaluate(index, place)), outer * evaluate(derivative, place));
    }
  }

  /** The query tables that an expression reads, each with the derivative by it. */
  queryReads(expression: Expression): readonly Derived<QueryTableRead>[] {
    return this.#readsOf(expression).filter((each): each is Derived<QueryTableRead> => each.read.kind === 'queryTable');
  }

  toTensor(name: string): HostTensor {
    return denseTensor(this.#sums.get(name) ?? new Float64Array(0), this.#operands.call.tables[name]?.tensor.shape ?? [0], 'f64');
  }

  #readsOf(expression: Expression): readonly Derived<TableRead | QueryTableRead>[] {
    const known = this.#reads.get(expression);
    if (known !== undefined) return known;
    const reads = differentiableLeaves(expression)
      .filter((leaf): leaf is TableRead | QueryTableRead => leaf.kind === 'table' || leaf.kind === 'queryTable')
      .map((read) => ({ read, derivative: differentiate(expression, read) }));
    this.#reads.set(expression, reads);
    return reads;
  }
}
