import { alibi, attention, AttentionError, causal, full, modifier, scaledDot, softcap as capped, window, type AttentionInputs, type Integers, type Masking, type Modifier, type Tensor } from '@heed/core';
import { checkNames, unsupported, type Names } from '@heed/core/compute';
import { permuted, viewOf } from './axes.ts';
import { dimsOf, dtypesOf, type Conversion } from './conversion.ts';

/**
 * The arguments of FlashAttention's Python functions, by their own names: `flash_attn_func`, with `cu_seqlens_q` and `cu_seqlens_k` `flash_attn_varlen_func`, and with
 * `cache_seqlens` `flash_attn_with_kvcache` where the cache already holds the new rows.
 */
export interface FlashAttentionCall {
  /** [batch, seqlen_q, nheads, headdim]; with cu_seqlens_q [total_q, nheads, headdim]. */
  readonly q: Tensor;
  /** [batch, seqlen_k, nheads_k, headdim]; with cu_seqlens_k [total_k, nheads_k, headdim]. */
  readonly k: Tensor;
  readonly v: Tensor;
  /** Cumulative offsets [0, …, total] of packed sequences. */
  readonly cu_seqlens_q?: Integers;
  readonly cu_seqlens_k?: Integers;
  /** Rows of each sequence's cache that are filled. */
  readonly cache_seqlens?: Integers;
  /** Only 0: what is dropped depends on the device's random numbers. */
  readonly dropout_p?: number;
  /** Default 1/√headdim. */
  readonly softmax_scale?: number | null;
  /** The last query sees every key: aligned to the bottom right. Default false. */
  readonly causal?: boolean;
  /** Keys seen on each side, not counting the query's own; −1 opens a side. Default (−1, −1). */
  readonly window_size?: readonly [left: number, right: number];
  /** 0 leaves scores as they are. Default 0. */
  readonly softcap?: number;
  /** [nheads] or [batch, nheads], float32. */
  readonly alibi_slopes?: Tensor | null;
}

const names: Names<FlashAttentionCall> = {
  q: true, k: true, v: true, cu_seqlens_q: true, cu_seqlens_k: true, cache_seqlens: true, dropout_p: true, softmax_scale: true, causal: true, window_size: true, softcap: true, alibi_slopes: true,
};

export interface FlashAttentionResult {
  /** [batch, seqlen_q, nheads, headdim], or [total_q, nheads, headdim]. */
  readonly out: Tensor;
  /** Natural logarithm, [batch, nheads, seqlen_q], or [nheads, total_q]. */
  readonly softmax_lse: Tensor;
}

/**
 * A call of FlashAttention: order of scores scale, softcap, ALiBi; causal, window and ALiBi aligned to the bottom right, each sequence by its own lengths.
 * @throws AttentionError `unsupported` (dropout), `invalid-shape`, `invalid-argument`
 */
export function fromFlashAttention(call: FlashAttentionCall): Conversion<FlashAttentionResult> {
  checkNames('the call of FlashAttention', call, names);
  const { cu_seqlens_q, cu_seqlens_k, cache_seqlens, dropout_p = 0, softmax_scale = null, alibi_slopes = null, softcap = 0 } = call;
  if (dropout_p !== 0) {
    throw unsupported([{ stage: 'normalization', reason: `dropout_p is ${dropout_p}, and what is dropped depends on the device's random numbers`, remedy: 'Reweigh a variant of your own by dropout({ … }), which has a seed.' }]);
  }
  const packed = packedOf(cu_seqlens_q, cu_seqlens_k);
  const rank = packed === null ? 4 : 3;
  for (const [name, tensor] of Object.entries({ q: call.q, k: call.k, v: call.v })) {
    if (tensor.shape.length !== rank) throw new AttentionError('invalid-shape', `${name} has shape [${tensor.shape.join(', ')}].`, packed === null ? 'Expected [batch, seqlen, nheads, headdim].' : 'Expected [total, nheads, headdim] with cu_seqlens.');
  }
  const [query, key, value] = [headsFirst(call.q), headsFirst(call.k), headsFirst(call.v)];
  const slopesBySequence = alibi_slopes !== null && alibi_slopes.shape.length === 2;
  const modifiers: readonly Modifier[] = [...(softcap > 0 ? [capped(softcap)] : []), ...(alibi_slopes === null ? [] : [slopesBySequence ? alibiBySequence() : alibi()])];
  const variant = attention({ scoring: scaledDot(softmax_scale === null ? {} : { scale: softmax_scale }).modify(...modifiers), masking: maskingOf(call) });
  const rows = query.shape[2] ?? 0;
  const inputs: AttentionInputs = {
    query, key, value,
    queryOffset: cache_seqlens === undefined ? 'end' : Array.from(cache_seqlens, (filled) => filled - rows),
    ...(cache_seqlens === undefined ? {} : { keyLengths: cache_seqlens }),
    ...(packed === null ? {} : { packed }),
    ...(alibi_slopes === null ? {} : { tables: { slopes: alibi_slopes } }),
  };
  return {
    request: { variant, ...dimsOf(query, key, value), dtypes: dtypesOf(query, key, value) },
    inputs,
    outputs: ({ output, logSumExp }) => {
      if (logSumExp === undefined) throw new AttentionError('invalid-argument', 'The outputs have no logSumExp.', 'Pass what the prepared kernel returned.');
      return { out: batchless(permuted(output, [0, 2, 1, 3]), rank), softmax_lse: batchless(logSumExp, rank) };
    },
    notes: ['The logSumExp of a query that may attend to nothing is −∞ here; FlashAttention 2 says +∞ unless it splits keys.'],
  };
}

/** [batch, length, heads, dim] or [length, heads, dim] → [batch, heads, length, dim]. */
function headsFirst(tensor: Tensor): Tensor {
  const whole = tensor.shape.length === 4 ? tensor : viewOf(tensor, [1, ...tensor.shape], [0, ...tensor.strides]);
  return permuted(whole, [0, 2, 1, 3]);
}

function batchless(tensor: Tensor, rank: number): Tensor {
  return rank === 4 ? tensor : viewOf(tensor, tensor.shape.slice(1), tensor.strides.slice(1));
}

function packedOf(query: Integers | undefined, key: Integers | undefined): { readonly query: Integers; readonly key: Integers } | null {
  if (query === undefined && key === undefined) return null;
  if (query === undefined || key === undefined) throw new AttentionError('invalid-argument', 'Got one of cu_seqlens_q and cu_seqlens_k.', 'Pass both, or none.');
  return { query, key };
}

/** causal is a window with nothing on the right. */
function maskingOf({ causal: isCausal = false, window_size = [-1, -1] }: FlashAttentionCall): Masking {
  const side = (size: number): number => (size === -1 ? Infinity : size);
  const [left, right] = window_size;
  const seen = left === -1 && right === -1 ? full() : window({ left: side(left), right: side(right) });
  return isCausal ? causal().and(seen) : seen;
}

/** ALiBi with slopes of each sequence, [batch, head]. */
function alibiBySequence(): Modifier {
  return modifier('alibiBySequence', ({ score, batch, head, queryPosition, keyPosition, table }) =>
    score.sub(table('slopes', ['batch', 'head']).at(batch, head).mul(queryPosition.sub(keyPosition).abs().toF32())));
}
