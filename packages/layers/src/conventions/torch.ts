import { additiveBias, attention, AttentionError, booleanMask, causal, full, scaledDot, type Tensor } from '@heed/core';
import { checkNames, unsupported, type Names } from '@heed/core/compute';
import { rankOf, viewOf } from './axes.ts';
import { dimsOf, dtypesOf, type Conversion } from './conversion.ts';

/** The arguments of `torch.nn.functional.scaled_dot_product_attention`, by its own names. */
export interface TorchCall {
  /** [batch, heads, L, E], or without the first axes. */
  readonly query: Tensor;
  /** [batch, keyHeads, S, E] */
  readonly key: Tensor;
  /** [batch, keyHeads, S, Ev] */
  readonly value: Tensor;
  /** Broadcasts from the right to [batch, heads, L, S]. u8: true may attend. Floats are added to the scaled scores. */
  readonly attn_mask?: Tensor | null;
  /** Only 0: what torch drops depends on its own random numbers. */
  readonly dropout_p?: number;
  /** Query i sees keys 0 … i, from the top left, whatever the lengths. Default false. */
  readonly is_causal?: boolean;
  /** Default 1/√E. */
  readonly scale?: number | null;
  /** Fewer key heads than heads, each shared by neighbours. Default false: as many as heads. */
  readonly enable_gqa?: boolean;
}

const names: Names<TorchCall> = { query: true, key: true, value: true, attn_mask: true, dropout_p: true, is_causal: true, scale: true, enable_gqa: true };

/**
 * A call of PyTorch's scaled dot product attention. Its boolean masks say who may attend; those of `torch.nn.MultiheadAttention` say the opposite: turn them over first.
 *
 * @returns outputs: one tensor, of the query's rank
 * @throws AttentionError `unsupported` with every reason (dropout, a mask beside is_causal), `invalid-shape`, `invalid-argument` for an argument of another name
 */
export function fromTorch(call: TorchCall): Conversion<Tensor> {
  checkNames('the call of scaled_dot_product_attention', call, names);
  const { attn_mask = null, dropout_p = 0, is_causal = false, scale = null, enable_gqa = false } = call;
  const rank = call.query.shape.length;
  if (rank < 2 || rank > 4 || call.key.shape.length !== rank || call.value.shape.length !== rank) {
    throw new AttentionError('invalid-shape', `Got query [${call.query.shape.join(', ')}], key [${call.key.shape.join(', ')}], value [${call.value.shape.join(', ')}].`, 'Expected one rank of 2 to 4: [batch, heads, length, dim], or without the first axes.');
  }
  refuse({ attn_mask, dropout_p, is_causal });
  const [query, key, value] = [rankOf('query', call.query, 4), rankOf('key', call.key, 4), rankOf('value', call.value, 4)];
  const [heads = 0, keyHeads = 0] = [query.shape[1], key.shape[1]];
  if (!enable_gqa && heads !== keyHeads) {
    throw new AttentionError('invalid-shape', `Got ${heads} heads and ${keyHeads} key heads without enable_gqa.`, 'Pass enable_gqa: true to share key heads.');
  }
  const selects = attn_mask?.dtype === 'u8';
  const scoring = scaledDot(scale === null ? {} : { scale });
  const variant = attention({
    scoring: attn_mask === null || selects ? scoring : scoring.modify(additiveBias()),
    masking: is_causal ? causal() : selects ? booleanMask() : full(),
  });
  const table = attn_mask === null ? null : rankOf('attn_mask', attn_mask, 4);
  return {
    request: { variant, ...dimsOf(query, key, value), dtypes: dtypesOf(query, key, value) },
    inputs: { query, key, value, ...(is_causal ? { queryOffset: 'start' } : {}), ...(table === null ? {} : { tables: { [selects ? 'mask' : 'bias']: table } }) },
    outputs: ({ output }) => viewOf(output, output.shape.slice(4 - rank), output.strides.slice(4 - rank)),
    notes: attn_mask === null ? [] : ['A query that may attend to nothing gives zeros, as in torch since 2.5; older releases give NaN.'],
  };
}

function refuse({ attn_mask, dropout_p, is_causal }: { readonly attn_mask: Tensor | null; readonly dropout_p: number; readonly is_causal: boolean }): void {
  const refusals = [
    ...(dropout_p === 0 ? [] : [{ stage: 'normalization' as const, reason: `dropout_p is ${dropout_p}, and what torch drops depends on its own random numbers`, remedy: 'Reweigh a variant of your own by dropout({ … }), which has a seed.' }]),
    ...(is_causal && attn_mask !== null ? [{ stage: 'masking' as const, reason: 'attn_mask and is_causal are both given, which torch refuses too', remedy: 'Put one into the other.' }] : []),
  ];
  if (refusals.length > 0) throw unsupported(refusals);
}
