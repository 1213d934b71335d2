import type { BoundCall } from '../../bind.ts';
import type { HostTable } from '../../place.ts';
import { hostTables, onHost } from '../../place.ts';
import { toFloat64 } from '../../tensor.ts';

/** Query, key and value as dense float64, and the tables: what every pass reads. */
export interface Operands {
  readonly call: BoundCall;
  /** [batch, heads, queryRows, queryDim] */
  readonly query: Float64Array;
  /** [batch, keyHeads, keyRows, keyDim] */
  readonly key: Float64Array;
  /** [batch, keyHeads, keyRows, valueDim] */
  readonly value: Float64Array;
  readonly queryDim: number;
  readonly keyDim: number;
  readonly valueDim: number;
  readonly tables: ReadonlyMap<string, HostTable>;
}

/** Decodes the inputs of a call. @throws AttentionError `foreign-tensor` */
export function operandsOf(call: BoundCall): Operands {
  const { query, key, value } = call.inputs;
  return {
    call,
    query: toFloat64(onHost('query', query)),
    key: toFloat64(onHost('key', key)),
    value: toFloat64(onHost('value', value)),
    queryDim: query.shape[3] ?? 0,
    keyDim: key.shape[3] ?? 0,
    valueDim: value.shape[3] ?? 0,
    tables: hostTables(call.tables),
  };
}

/** `count` rows of width `dim` that start at row `first` of head `head` of entry `batch` of a dense [batch, heads, rows, dim]. A view. */
export function rowsOf(dense: Float64Array, heads: number, rows: number, dim: number, batch: number, head: number, first: number, count: number): Float64Array {
  const start = ((batch * heads + head) * rows + first) * dim;
  return dense.subarray(start, start + count * dim);
}
