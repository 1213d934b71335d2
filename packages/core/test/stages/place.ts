import type { BoundEnvironment, Interval } from '../../src/expression/bound.ts';
import { everything } from '../../src/expression/bound.ts';
import type { Declarations } from '../../src/expression/declarations.ts';
import type { Environment } from '../../src/expression/evaluate.ts';
import { evaluate } from '../../src/expression/evaluate.ts';
import type { Expression, InputName } from '../../src/expression/node.ts';
import { randomAt } from '../../src/expression/random.ts';

export type Inputs = Readonly<Partial<Record<InputName, number>>>;

/** A table by the sizes of its axes; data is row-major. */
export interface TableValues {
  readonly sizes: readonly number[];
  readonly data: ArrayLike<number>;
}

export type Tables = Readonly<Record<string, TableValues>>;

export function vector(data: ArrayLike<number>): TableValues {
  return { sizes: [data.length], data };
}

function read(name: string, tables: Tables, indices: readonly number[]): number {
  const table = tables[name];
  if (table?.sizes.length !== indices.length) throw new Error(`No table ${name} of ${indices.length} axes.`);
  const at = indices.reduce((sum, index, axis) => {
    const size = table.sizes[axis]!;
    if (index < 0 || index >= size) throw new Error(`${name} read at ${index} of ${size}.`);
    return sum * size + index;
  }, 0);
  return table.data[at]!;
}

/** Everything that an expression of `member` reads at one place; uniforms have their defaults, with 1/√scoreDim of `query`. */
export function placeOf(member: Declarations, inputs: Inputs, tables: Tables = {}, query: readonly number[] = []): Environment {
  return {
    input: (name) => {
      const value = inputs[name];
      if (value === undefined) throw new Error(`No ${name}.`);
      return value;
    },
    uniform: (name) => {
      const value = member.uniforms[name]?.value;
      return value === 'inverseSqrtDim' ? 1 / Math.sqrt(query.length) : (value ?? Number.NaN);
    },
    table: (name, indices) => read(name, tables, indices),
    queryTable: (name, row) => {
      const perHead = tables[name]?.sizes.length === 3;
      return query.reduce((sum, element, channel) => sum + element * read(name, tables, perHead ? [inputs.head ?? 0, row, channel] : [row, channel]), 0);
    },
    random: (seed, stream) => randomAt(seed, stream, inputs.batch ?? 0, inputs.head ?? 0, inputs.queryPosition ?? 0, inputs.keyPosition ?? 0),
  };
}

export function valueOf(expression: Expression, member: Declarations, inputs: Inputs, tables: Tables = {}, query: readonly number[] = []): number {
  return evaluate(expression, placeOf(member, inputs, tables, query));
}

/** The same over a tile: an interval for every input, and tables by the least and largest element of the box. */
export function tileOf(member: Declarations, inputs: Readonly<Partial<Record<InputName, Interval>>>, tables: Tables = {}): BoundEnvironment {
  return {
    input: (name) => inputs[name] ?? everything,
    uniform: (name) => Number(member.uniforms[name]?.value),
    table: (name, indices) => {
      const values = boxOf(indices).map((index) => read(name, tables, index));
      return { low: Math.min(...values), high: Math.max(...values) };
    },
  };
}

function boxOf(indices: readonly Interval[]): readonly (readonly number[])[] {
  return indices.reduce<readonly (readonly number[])[]>(
    (points, { low, high }) => points.flatMap((point) => Array.from({ length: high - low + 1 }, (_, step) => [...point, low + step])),
    [[]],
  );
}
