import type { BoundCall } from '../../bind.ts';
import type { HostTable } from '../../place.ts';
import { hostTables, onHost } from '../../place.ts';
import type { Tensor } from '../../tensor.ts';
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

/** Decodes the inputs of a call; keys and values in pages are laid out one after another. @throws AttentionError `foreign-tensor` */
export function operandsOf(given: BoundCall): Operands {
  const { query, key, value, pages } = given.inputs;
  const call = pages === undefined ? given : { ...given, keyRows: (pages.pages.shape[1] ?? 0) * pages.pageLength };
  return {
    call,
    query: toFloat64(onHost('query', query)),
    key: unpaged(call, 'key', key),
    value: unpaged(call, 'value', value),
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

/** Rows [batch, keyHeads, keyRows, dim] of keys or values that stand as they are, or in pages [pages, keyHeads, pageLength, dim]. Pages past a sequence's length are never looked at. */
function unpaged({ inputs: { pages }, sequences, keyHeads, keyRows }: BoundCall, name: 'key' | 'value', given: Tensor): Float64Array {
  const source = toFloat64(onHost(name, given));
  if (pages === undefined) return source;
  const table = toFloat64(onHost('pages.pages', pages.pages));
  const { pageLength } = pages;
  const dim = given.shape[3] ?? 0;
  const result = new Float64Array(sequences.length * keyHeads * keyRows * dim);
  for (const { tensorBatch, keyLength } of sequences) {
    for (let first = 0; first < keyLength; first += pageLength) {
      const page = table[(tensorBatch * keyRows + first) / pageLength] ?? 0;
      for (let head = 0; head < keyHeads; head++) {
        const from = (page * keyHeads + head) * pageLength * dim;
        result.set(source.subarray(from, from + pageLength * dim), ((tensorBatch * keyHeads + head) * keyRows + first) * dim);
      }
    }
  }
  return result;
}
