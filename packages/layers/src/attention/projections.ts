import { contiguousStrides, elementCount, tensor, type DType, type Tensor } from '@heed/core';
import { linearRows } from '../linear.ts';
import type { Parameters } from '../parameters.ts';
import type { Temporaries } from '../temporaries.ts';

/** Channels start … start + width − 1 of rows [count, … ]. */
export interface RowSlice {
  readonly rows: Tensor;
  readonly start: number;
  readonly width: number;
}

/** All channels of rows. */
export function wholeRows(rows: Tensor): RowSlice {
  return { rows, start: 0, width: rows.shape[1] ?? 0 };
}

export interface Projection {
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
}

export type ProjectionName = 'query' | 'gate' | 'key' | 'value';

/**
 * The projections of one layer, those of the same rows side by side in one matrix: one product gives queries, keys and values at once, which saves the parts of a step that do not
 * depend on its size.
 */
export class Projections {
  readonly #own: Fused;
  readonly #context: Fused;
  /** Both, where x may be its own context. */
  readonly #all: Fused | null;

  /** @param dtype of keys and values */
  constructor(parameters: Parameters, given: Readonly<Record<'query' | 'key' | 'value', Projection>> & { readonly gate?: Projection | undefined }, dtype: DType) {
    const { query, gate, key, value } = given;
    const own: [ProjectionName, Projection][] = [['query', query], ...(gate === undefined ? [] : [['gate', gate] as [ProjectionName, Projection]])];
    const context: [ProjectionName, Projection][] = [['key', key], ['value', value]];
    if (dtype === 'f32' && query.weight.shape[1] === key.weight.shape[1]) {
      this.#all = fuse(parameters, [...own, ...context]);
      this.#own = part(parameters, this.#all, own.map(([name]) => name));
      this.#context = part(parameters, this.#all, ['key', 'value']);
      return;
    }
    this.#all = null;
    this.#own = fuse(parameters, own);
    this.#context = { ...fuse(parameters, context), dtype };
  }

  /** Queries and gates of rows that attend to others. */
  queries(temporaries: Temporaries, x: Tensor): Partial<Record<ProjectionName, RowSlice>> {
    return project(temporaries, x, this.#own);
  }

  /** Keys and values of rows that are attended to. */
  context(temporaries: Temporaries, x: Tensor): Partial<Record<ProjectionName, RowSlice>> {
    return project(temporaries, x, this.#context);
  }

  /** All of rows that attend to themselves. */
  all(temporaries: Temporaries, x: Tensor): Partial<Record<ProjectionName, RowSlice>> {
    return this.#all === null ? { ...this.queries(temporaries, x), ...this.context(temporaries, x) } : project(temporaries, x, this.#all);
  }
}

interface Fused {
  /** [all outputs, inputs] */
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
  readonly outputs: readonly (readonly [ProjectionName, number])[];
  readonly dtype?: DType;
}

function project(temporaries: Temporaries, x: Tensor, { weight, bias, outputs, dtype }: Fused): Partial<Record<ProjectionName, RowSlice>> {
  const rows = temporaries.keep(linearRows(temporaries, x, { weight, bias, dtype }));
  const slices: Partial<Record<ProjectionName, RowSlice>> = {};
  let start = 0;
  for (const [name, width] of outputs) {
    slices[name] = { rows, start, width };
    start += width;
  }
  return slices;
}

/** Matrices of the same inputs, one below another; a bias that is missing beside others is 0. */
function fuse(parameters: Parameters, parts: readonly (readonly [ProjectionName, Projection])[]): Fused {
  const { runtime } = parameters;
  const outputs = parts.map(([name, { weight }]) => [name, weight.shape[0] ?? 0] as const);
  const total = outputs.reduce((sum, [, count]) => sum + count, 0);
  const inputs = parts[0]?.[1].weight.shape[1] ?? 0;
  const biased = parts.some(([, { bias }]) => bias !== undefined);
  const joined = parameters.own(runtime.tensor([total, inputs], 'f32'));
  const biases = biased ? parameters.own(runtime.upload(tensor(new Float32Array(total), [total]))) : undefined;
  let row = 0;
  for (const [, { weight, bias }] of parts) {
    copyTo(parameters, weight, joined, row * inputs);
    if (bias !== undefined && biases !== undefined) copyTo(parameters, bias, biases, row);
    row += weight.shape[0] ?? 0;
  }
  return { weight: joined, bias: biases, outputs };
}

function copyTo({ runtime }: Parameters, source: Tensor, target: Tensor, start: number): void {
  if (elementCount(source.shape) > 0) runtime.operations.copy(source, { into: runtime.view(target, source.shape, contiguousStrides(source.shape), start) });
}

/** Some of the matrices that lie one below another, as a view. */
function part({ runtime }: Parameters, { weight, bias, outputs }: Fused, names: readonly ProjectionName[]): Fused {
  const first = outputs.findIndex(([name]) => name === names[0]);
  const start = outputs.slice(0, first).reduce((sum, [, count]) => sum + count, 0);
  const own = outputs.slice(first, first + names.length);
  const count = own.reduce((sum, [, width]) => sum + width, 0);
  const inputs = weight.shape[1] ?? 0;
  return { weight: runtime.view(weight, [count, inputs], weight.strides, start * inputs), bias: bias === undefined ? undefined : runtime.view(bias, [count], [1], start), outputs: own };
}
