import { additiveBias, attention, AttentionError, booleanMask, causal, full, scaledDot, window, type Integers, type Masking, type Tensor } from '@heed/core';
import { checkNames, type Names } from '@heed/core/compute';
import { permuted, rankOf, viewOf } from './axes.ts';
import { dimsOf, dtypesOf, type Conversion } from './conversion.ts';

/** The arguments of `jax.nn.dot_product_attention`, by its own names. */
export interface JaxCall {
  /** [B, T, N, H], or without B. */
  readonly query: Tensor;
  /** [B, S, K, H], N a multiple of K. */
  readonly key: Tensor;
  /** [B, S, K, H] */
  readonly value: Tensor;
  /** Added to the scaled scores; broadcasts from the right to [B, N, T, S]. */
  readonly bias?: Tensor | null;
  /** u8, true may attend; broadcasts from the right to [B, N, T, S]. */
  readonly mask?: Tensor | null;
  /** Default 1/√H. */
  readonly scale?: number | null;
  /** Query i sees keys 0 … i, from the top left. Default false. */
  readonly is_causal?: boolean;
  /** Queries of each sequence that count; the rows behind give zeros. */
  readonly query_seq_lengths?: Integers | null;
  /** Keys of each sequence that count. */
  readonly key_value_seq_lengths?: Integers | null;
  /** Keys seen on the left and on the right of a query's own row, not counting it; one number for both. */
  readonly local_window_size?: number | readonly [left: number, right: number] | null;
  /** Also the logSumExp, [B, T, N]. Default false. */
  readonly return_residual?: boolean;
}

const names: Names<JaxCall> = {
  query: true, key: true, value: true, bias: true, mask: true, scale: true, is_causal: true, query_seq_lengths: true, key_value_seq_lengths: true, local_window_size: true, return_residual: true,
};

export interface JaxResult {
  /** [B, T, N, H], as the query was given. */
  readonly output: Tensor;
  /** [B, T, N] in float32; only with return_residual. */
  readonly residual?: Tensor;
}

/**
 * A call of JAX's dot product attention.
 * @throws AttentionError `invalid-shape`, `invalid-argument` (another name, a negative window)
 */
export function fromJax(call: JaxCall): Conversion<JaxResult> {
  checkNames('the call of dot_product_attention', call, names);
  const { bias, mask, scale, is_causal = false, query_seq_lengths, key_value_seq_lengths, local_window_size, return_residual = false } = call;
  const rank = call.query.shape.length;
  if (rank < 3 || rank > 4 || call.key.shape.length !== rank || call.value.shape.length !== rank) {
    throw new AttentionError('invalid-shape', `Got query [${call.query.shape.join(', ')}], key [${call.key.shape.join(', ')}], value [${call.value.shape.join(', ')}].`, 'Expected [B, length, heads, dim] each, or all without B.');
  }
  const heads = (what: string, tensor: Tensor): Tensor => permuted(rankOf(what, tensor, 4), [0, 2, 1, 3]);
  const [query, key, value] = [heads('query', call.query), heads('key', call.key), heads('value', call.value)];
  const maskings: readonly Masking[] = [
    ...(is_causal ? [causal()] : []),
    ...(local_window_size === undefined || local_window_size === null ? [] : [window(sidesOf(local_window_size))]),
    ...(mask === undefined || mask === null ? [] : [booleanMask()]),
  ];
  const scoring = scaledDot(scale === undefined || scale === null ? {} : { scale });
  const variant = attention({
    scoring: bias === undefined || bias === null ? scoring : scoring.modify(additiveBias()),
    masking: maskings.reduce((all, one) => all.and(one), full()),
  });
  const tables = { ...(bias === undefined || bias === null ? {} : { bias: rankOf('bias', bias, 4) }), ...(mask === undefined || mask === null ? {} : { mask: rankOf('mask', mask, 4) }) };
  const squeezed = (tensor: Tensor): Tensor => (rank === 4 ? tensor : viewOf(tensor, tensor.shape.slice(1), tensor.strides.slice(1)));
  return {
    request: { variant, ...dimsOf(query, key, value), dtypes: dtypesOf(query, key, value) },
    inputs: {
      query, key, value, tables, queryOffset: 'start',
      ...(query_seq_lengths === undefined || query_seq_lengths === null ? {} : { queryLengths: query_seq_lengths }),
      ...(key_value_seq_lengths === undefined || key_value_seq_lengths === null ? {} : { keyLengths: key_value_seq_lengths }),
    },
    outputs: ({ output, logSumExp }) => ({
      output: squeezed(permuted(output, [0, 2, 1, 3])),
      ...(return_residual && logSumExp !== undefined ? { residual: squeezed(permuted(logSumExp, [0, 2, 1])) } : {}),
    }),
    notes: maskings.length === 0 && (key_value_seq_lengths === undefined || key_value_seq_lengths === null) ? [] : ['A query that may attend to nothing gives zeros; JAX gives the mean of the values, since it masks by a large finite number.'],
  };
}

function sidesOf(size: number | readonly [left: number, right: number]): { readonly left: number; readonly right: number } {
  const [left, right] = typeof size === 'number' ? [size, size] : size;
  return { left, right };
}
