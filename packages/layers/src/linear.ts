import { AttentionError, isContiguous, type DType, type Runtime, type Tensor } from '@heed/core';
import type { Temporaries } from './temporaries.ts';

export interface Linear {
  /** [outputs, inputs] */
  readonly weight: Tensor;
  /** [outputs] */
  readonly bias?: Tensor | undefined;
  readonly dtype?: DType | undefined;
}

/**
 * Rows x [… , inputs] · weightᵀ + bias → [rows, outputs]. All leading axes are rows of one product, so that the weight is read once.
 * @returns a new tensor, which the caller releases
 */
export function linearRows(temporaries: Temporaries, x: Tensor, { weight, bias, dtype }: Linear): Tensor {
  checkWidth(x, weight);
  return temporaries.runtime.operations.matmul(flatRows(temporaries, x), weight, { transposed: true, ...(bias === undefined ? {} : { bias }), ...(dtype === undefined ? {} : { dtype }) });
}

/**
 * x [batch, length, inputs] · weightᵀ + bias → [batch, length, outputs].
 * @returns a new tensor, which the caller releases
 */
export function linear(temporaries: Temporaries, x: Tensor, { weight, bias, dtype }: Linear): Tensor {
  const { runtime } = temporaries;
  const [batch = 0, length = 0] = x.shape;
  const [outputs = 0, inputs = 0] = weight.shape;
  if (batch === 1) {
    checkWidth(x, weight);
    return runtime.operations.matmul(x, runtime.view(weight, [1, outputs, inputs], [0, ...weight.strides]), { transposed: true, ...(bias === undefined ? {} : { bias }), ...(dtype === undefined ? {} : { dtype }) });
  }
  const rows = temporaries.keep(linearRows(temporaries, x, { weight, bias, dtype }));
  return runtime.operations.copy(runtime.view(rows, [batch, length, outputs]));
}

function checkWidth(x: Tensor, weight: Tensor): void {
  if (weight.shape[1] !== x.shape.at(-1)) throw new AttentionError('invalid-shape', `Rows [${x.shape.join(', ')}] met a weight [${weight.shape.join(', ')}].`, 'Expected [outputs, inputs], as many inputs as the rows have channels.');
}

/** [… , dim] as rows [count, dim], without a copy where the rows lie one after another. */
export function flatRows(temporaries: Temporaries, x: Tensor): Tensor {
  const { runtime } = temporaries;
  const dim = x.shape.at(-1) ?? 0;
  const count = x.shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const dense = isContiguous(x) ? x : temporaries.keep(runtime.operations.copy(x));
  return runtime.view(dense, [count, dim]);
}

/**
 * Rows of heads side by side, as their projection makes them, seen as attention takes them: [batch · length, heads · dim + …] → [batch, heads, length, dim].
 * @param start channel where the first head begins; default 0
 */
export function splitHeads(runtime: Runtime, rows: Tensor, { batch, heads, length, dim, start = 0 }: HeadSizes & { readonly start?: number }): Tensor {
  const width = rows.shape.at(-1) ?? 0;
  return runtime.view(rows, [batch, heads, length, dim], [length * width, dim, width, 1], batch * length === 0 ? 0 : start);
}

export interface HeadSizes {
  readonly batch: number;
  readonly heads: number;
  readonly length: number;
  readonly dim: number;
}
