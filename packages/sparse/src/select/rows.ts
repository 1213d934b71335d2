import type { Integers, Runtime, Tensor } from '@heed/core';
import { AttentionError } from '@heed/core';
import { onRuntime } from './pooled-keys.ts';

/** What a selector looks at: the rows that attention will see, after their transforms (a rotation, a norm). */
export interface SelectorRows {
  /** [batch, heads, queryLength, dim]; of the runtime or of the host. */
  readonly query: Tensor;
  /** [batch, keyHeads, keyLength, dim]; query head h reads key head ⌊h · keyHeads / heads⌋ (L6). */
  readonly key: Tensor;
  /** Position of query row 0, key row 0 standing at 0; for all sequences, or one for each. Default: 0, or keyLength − queryLength with 'end'. */
  readonly queryOffset?: number | readonly number[] | 'end';
  /** Batch 1, rows of sequences one after another: the cumulative offsets. */
  readonly packed?: { readonly query: Integers; readonly key: Integers };
}

/** One sequence's rows: views of tensors on the runtime. */
export interface SequenceRows {
  readonly index: number;
  readonly query: Tensor;
  readonly key: Tensor;
  readonly offset: number;
}

export interface BoundRows {
  readonly sequences: readonly SequenceRows[];
  readonly heads: number;
  readonly keyHeads: number;
  readonly dim: number;
  /** Rows of the longest sequence. */
  readonly longest: number;
  /** Gives back what was uploaded. */
  readonly release: () => void;
}

/** Checks what a selector was given, and cuts it into sequences. @throws AttentionError `invalid-shape`, `invalid-argument`, `foreign-tensor` */
export function bindRows(runtime: Runtime, { query, key, queryOffset = 0, packed }: SelectorRows): BoundRows {
  const [batch = 0, heads = 0, rows = 0, dim = 0] = query.shape;
  const [keyBatch = 0, keyHeads = 0, keyRows = 0, keyDim = 0] = key.shape;
  if (query.shape.length !== 4 || key.shape.length !== 4 || batch !== keyBatch || dim !== keyDim || keyHeads === 0 || heads % keyHeads !== 0) {
    throw new AttentionError('invalid-shape', `Got query [${query.shape.join(', ')}] and key [${key.shape.join(', ')}].`, 'Expected [batch, heads, queryLength, dim] and [batch, keyHeads, keyLength, dim], heads a multiple of keyHeads.');
  }
  const queries = packed === undefined ? null : Array.from(packed.query);
  const keys = packed === undefined ? null : Array.from(packed.key);
  if (queries !== null && keys !== null && (batch !== 1 || queries.length !== keys.length || queries.at(-1) !== rows || keys.at(-1) !== keyRows)) {
    throw new AttentionError('invalid-argument', `Got packed offsets up to ${queries.at(-1) ?? 'none'} and ${keys.at(-1) ?? 'none'} for ${rows} queries and ${keyRows} keys of batch ${batch}.`, 'Expected batch 1 and cumulative offsets that end with the rows.');
  }
  const [q, k] = [onRuntime(runtime, query), onRuntime(runtime, key)];
  const cut = (source: Tensor, entry: number, from: number, to: number): Tensor => {
    const [, own = 0] = source.shape;
    const [stepB = 0, , stepL = 0] = source.strides;
    // An empty view starts anywhere, also where there is nothing.
    return runtime.view(source, [1, own, to - from, dim], source.strides, to === from ? 0 : entry * stepB + from * stepL);
  };
  const count = queries === null ? batch : queries.length - 1;
  const sequences = Array.from({ length: count }, (_, index): SequenceRows => {
    const [from, to] = queries === null ? [0, rows] : [queries[index] ?? 0, queries[index + 1] ?? 0];
    const [keyFrom, keyTo] = keys === null ? [0, keyRows] : [keys[index] ?? 0, keys[index + 1] ?? 0];
    const offset = queryOffset === 'end' ? keyTo - keyFrom - (to - from) : typeof queryOffset === 'number' ? queryOffset : (queryOffset[index] ?? Number.NaN);
    if (!Number.isSafeInteger(offset) || offset < 0) throw new AttentionError('invalid-argument', `The query offset of sequence ${index} is ${offset}.`, 'Expected an integer of 0 or more for each sequence.');
    const entry = queries === null ? index : 0;
    return { index, query: cut(q, entry, from, to), key: cut(k, entry, keyFrom, keyTo), offset };
  });
  return {
    sequences,
    heads,
    keyHeads,
    dim,
    longest: sequences.reduce((most, { query: own }) => Math.max(most, own.shape[2] ?? 0), 0),
    release: () => {
      if (q !== query) runtime.release(q);
      if (k !== key) runtime.release(k);
    },
  };
}

/**
 * Products of query rows start … start + count − 1 with rows of keys, by groups of heads.
 * @param keys [1, keyHeads, n, dim]
 * @returns [1, keyHeads, heads / keyHeads, count, n], for the caller to release
 */
export function groupedProducts(runtime: Runtime, query: Tensor, start: number, count: number, keys: Tensor): Tensor {
  const [, heads = 0, , dim = 0] = query.shape;
  const [, keyHeads = 1, n = 0] = keys.shape;
  const [stepB = 0, stepH = 0, stepL = 0, step = 1] = query.strides;
  const group = heads / keyHeads;
  const rows = runtime.view(query, [1, keyHeads, group, count, dim], [stepB, stepH * group, stepH, stepL, step], start * stepL);
  const [keyB = 0, keyH = 0, keyL = 0, keyStep = 1] = keys.strides;
  return runtime.operations.matmul(rows, runtime.view(keys, [1, keyHeads, 1, n, dim], [keyB, keyH, 0, keyL, keyStep]), { transposed: true, dtype: 'f32' });
}

/** The first rows of [1, heads, n, dim]. */
export function rowsUpTo(runtime: Runtime, rows: Tensor, count: number): Tensor {
  const [batch = 0, heads = 0, , dim = 0] = rows.shape;
  return runtime.view(rows, [batch, heads, count, dim], rows.strides);
}
