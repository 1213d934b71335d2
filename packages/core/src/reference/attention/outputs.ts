import { elementCount } from '../../tensor.ts';
import type { HostPartial, MergeClass } from '../../partial.ts';
import type { DType, HostTensor } from '../../tensor.ts';
import { denseTensor } from '../../dense-tensor.ts';
import { Forward } from './forward.ts';
import type { Head } from './forward.ts';
import type { Operands } from './operands.ts';
import type { Steps } from './slices.ts';

/** A dense float64 array with the offsets of its query rows: [batch, heads, queryRows] then `width` numbers each. */
export class RowMajor {
  readonly data: Float64Array;
  readonly shape: readonly number[];
  readonly #width: number;

  constructor(shape: readonly number[], width: number, fill: number = 0) {
    this.shape = shape;
    this.#width = width;
    this.data = new Float64Array(elementCount(shape)).fill(fill);
  }

  /** The numbers of one query row. A view. */
  row(head: Head, query: number): Float64Array {
    const [, heads = 0, rows = 0] = this.shape;
    const start = ((head.sequence.tensorBatch * heads + head.head) * rows + head.sequence.queryStart + query) * this.#width;
    return this.data.subarray(start, start + this.#width);
  }

  toTensor(dtype: DType): HostTensor {
    return denseTensor(this.data, this.shape, dtype);
  }
}

/** Output and, for the softmax family, logSumExp of a whole call. */
export function* computeOutputs(operands: Operands): Steps<{ readonly output: RowMajor; readonly logSumExp: RowMajor | null }> {
  const { call, valueDim } = operands;
  const forward = new Forward(operands);
  const output = new RowMajor(call.outputShape, valueDim);
  const logSumExp = call.request.variant.normalization.rule.kind === 'softmax' ? new RowMajor(call.rowShape, 1, -Infinity) : null;
  for (const head of forward.heads()) {
    for (let query = 0; query < head.sequence.queryRows; query++) {
      const row = forward.row(head, query);
      logSumExp?.row(head, query).fill(row.poisoned ? Number.NaN : row.normalized.logSumExp);
      if (row.keys.length > 0) output.row(head, query).set(forward.finish(head, query, forward.aggregate(head, row)));
      yield;
    }
  }
  return { output, logSumExp };
}

/** The result over the keys given, before sink and finish (partial.ts says what each class holds). */
export function* computePartial(operands: Operands, mergeClass: MergeClass): Steps<HostPartial> {
  const { call, valueDim } = operands;
  const forward = new Forward(operands);
  const isExtreme = mergeClass === 'max' || mergeClass === 'logSumExpOfValues';
  const accumulator = new RowMajor(call.outputShape, valueDim, isExtreme ? -Infinity : 0);
  const { rule } = call.request.variant.normalization;
  const logSumExp = rule.kind === 'softmax' ? new RowMajor(call.rowShape, 1, -Infinity) : null;
  const denominator = rule.kind === 'rowSum' ? new RowMajor(call.rowShape, 1) : null;
  const count = rule.kind === 'softmax' ? null : new RowMajor(call.rowShape, 1);
  for (const head of forward.heads()) {
    for (let query = 0; query < head.sequence.queryRows; query++) {
      const row = forward.row(head, query, 'partial');
      const { normalized } = row;
      yield;
      if (row.keys.length === 0) continue;
      logSumExp?.row(head, query).fill(row.poisoned ? Number.NaN : normalized.logSumExp);
      denominator?.row(head, query).fill(row.normalizedFrom.reduce((sum, value) => sum + value, 0));
      count?.row(head, query).fill(row.keys.length);
      const shift = mergeClass === 'logSumExpOfValues' && rule.kind === 'softmax' ? normalized.logSumExp : 0;
      accumulator.row(head, query).set(forward.aggregate(head, row).map((value) => value + shift));
    }
  }
  return {
    mergeClass,
    accumulator: accumulator.toTensor('f64'),
    statistics: {
      ...(logSumExp === null ? {} : { logSumExp: logSumExp.toTensor('f64') }),
      ...(denominator === null ? {} : { denominator: denominator.toTensor('f64') }),
      ...(count === null ? {} : { count: count.toTensor('f64') }),
    },
  };
}
