import { additiveRule, AttentionError, contiguousStrides, decayRule, deltaRule, fastWeights, gatedDeltaRule, kdaRule, type FastWeightInputs, type FastWeightOutputs, type FastWeightRequest, type FastWeightRule, type Tensor } from '@heed/core';
import { checkNames, type Names } from '@heed/core/compute';
import { dense, joinHeads, permuted, splitHeads, viewOf } from '../axes.ts';
import type { Conversion } from '../conversion.ts';

/** Inputs of the operator LinearAttention, by its own names. */
export interface OnnxLinearAttentionInputs {
  /** [batch, length, q_num_heads · d_k] */
  readonly query: Tensor;
  /** [batch, length, kv_num_heads · d_k] */
  readonly key: Tensor;
  /** [batch, length, kv_num_heads · d_v] */
  readonly value: Tensor;
  /** [batch, kv_num_heads, d_k, d_v]. Default zeros. */
  readonly past_state?: Tensor | null;
  /** Natural logarithm of the decay, [batch, length, kv_num_heads] or [batch, length, kv_num_heads · d_k]; of the rules gated and gated_delta. */
  readonly decay?: Tensor | null;
  /** [batch, length, kv_num_heads] or [batch, length, 1]; of the rules delta and gated_delta. */
  readonly beta?: Tensor | null;
}

/** Attributes of the operator LinearAttention, by its own names. */
export interface OnnxLinearAttentionAttributes {
  readonly q_num_heads: number;
  readonly kv_num_heads: number;
  /** Default 'gated_delta'. */
  readonly update_rule?: 'linear' | 'gated' | 'delta' | 'gated_delta';
  /** 0: 1/√d_k. Default 0. */
  readonly scale?: number;
  /** A hint that changes nothing; heed chooses its own. */
  readonly chunk_size?: number;
}

export interface OnnxLinearAttentionResult {
  /** [batch, length, q_num_heads · d_v] */
  readonly output: Tensor;
  /** [batch, kv_num_heads, d_k, d_v], float32 or wider. */
  readonly present_state: Tensor;
}

export type OnnxLinearAttentionConversion = Conversion<OnnxLinearAttentionResult, FastWeightRequest, FastWeightInputs, FastWeightOutputs>;

const inputNames: Names<OnnxLinearAttentionInputs> = { query: true, key: true, value: true, past_state: true, decay: true, beta: true };
const attributeNames: Names<OnnxLinearAttentionAttributes> = { q_num_heads: true, kv_num_heads: true, update_rule: true, scale: true, chunk_size: true };

/** A call of LinearAttention in heed's terms. Query heads that share a state each get a copy of it: one for every query head. */
export function fromOnnxLinearAttention(given: OnnxLinearAttentionInputs, attributes: OnnxLinearAttentionAttributes): OnnxLinearAttentionConversion {
  checkNames('the inputs of LinearAttention', given, inputNames);
  checkNames('the attributes of LinearAttention', attributes, attributeNames);
  const { q_num_heads: heads, kv_num_heads: stateHeads, update_rule: rule = 'gated_delta', scale = 0 } = attributes;
  checkInputs(given, rule);
  if (!Number.isSafeInteger(heads) || heads < 1 || !Number.isSafeInteger(stateHeads) || stateHeads < 1 || heads % stateHeads !== 0) {
    throw new AttentionError('invalid-argument', `Got q_num_heads ${heads}, kv_num_heads ${stateHeads}.`, 'Expected positive integers, the first a multiple of the second.');
  }
  const repeats = heads / stateHeads;
  const query = splitHeads('query', given.query, heads);
  const key = repeated(splitHeads('key', given.key, stateHeads), repeats);
  const value = repeated(splitHeads('value', given.value, stateHeads), repeats);
  const dim = query.shape[3] ?? 0;
  const decay = given.decay ?? null;
  const byChannel = decay !== null && decay.shape[2] !== stateHeads;
  const inputs: FastWeightInputs = {
    query,
    key,
    value,
    ...(decay === null ? {} : { logDecay: byChannel ? repeated(splitHeads('decay', decay, stateHeads), repeats) : repeated(permuted(decay, [0, 2, 1]), repeats) }),
    ...(given.beta === undefined || given.beta === null ? {} : { writeStrength: strengthOf(given.beta, stateHeads, repeats) }),
    ...(given.past_state === undefined || given.past_state === null ? {} : { state: { memory: repeated(given.past_state, repeats) } }),
  };
  const variant = fastWeights({ rule: ruleOf(rule, byChannel), ...(scale === 0 ? {} : { scale }) });
  return {
    request: { variant, dim, valueDim: value.shape[3] ?? 0, dtypes: { query: query.dtype, key: key.dtype, value: value.dtype } },
    inputs,
    outputs: ({ output, state }) => {
      const memory = state['memory'];
      if (memory === undefined) throw new AttentionError('invalid-argument', 'The outputs have no state.', 'Pass what the kernel prepared for this request returned.');
      const [stride = 0, headStride = 0, ...rest] = memory.strides;
      const [batch = 0, , ...sizes] = memory.shape;
      return { output: joinHeads(output), present_state: viewOf(memory, [batch, stateHeads, ...sizes], [stride, repeats * headStride, ...rest]) };
    },
    notes: [
      'The state is float32 or wider, not rounded to the dtype of past_state or query.',
      ...(decay === null ? [] : ['Log decays above 0 are refused: such a state grows without bound.']),
    ],
  };
}

function ruleOf(rule: 'linear' | 'gated' | 'delta' | 'gated_delta', byChannel: boolean): FastWeightRule {
  switch (rule) {
    case 'linear':
      return additiveRule();
    case 'gated':
      return decayRule({ by: byChannel ? 'channel' : 'step' });
    case 'delta':
      return deltaRule();
    case 'gated_delta':
      return byChannel ? kdaRule() : gatedDeltaRule();
  }
}

function checkInputs({ query, key, value, decay, beta }: OnnxLinearAttentionInputs, rule: string): void {
  for (const [name, { shape }] of Object.entries({ query, key, value })) {
    if (shape.length !== 3) throw new AttentionError('invalid-shape', `${name} has shape [${shape.join(', ')}].`, 'Expected [batch, length, heads · dim].');
  }
  const rules: Readonly<Record<string, { readonly decay: boolean; readonly beta: boolean }>> = {
    linear: { decay: false, beta: false }, gated: { decay: true, beta: false }, delta: { decay: false, beta: true }, gated_delta: { decay: true, beta: true },
  };
  const takes = rules[rule];
  if (takes === undefined) throw new AttentionError('invalid-argument', `update_rule is '${rule}'.`, `Expected one of ${Object.keys(rules).join(', ')}.`);
  for (const [name, input] of Object.entries({ decay, beta })) {
    const isTaken = name === 'decay' ? takes.decay : takes.beta;
    if ((input !== undefined && input !== null) !== isTaken) throw new AttentionError('invalid-argument', `The rule '${rule}' ${isTaken ? 'needs' : 'takes no'} ${name}.`, isTaken ? 'Pass it.' : 'Leave it out.');
  }
}

/** [batch, length, heads | 1] → [batch, heads · repeats, length]. */
function strengthOf(beta: Tensor, stateHeads: number, repeats: number): Tensor {
  const [batch = 0, length = 0, width = 0] = beta.shape;
  const [batchStride = 0, rowStride = 0, stride = 0] = beta.strides;
  if (width !== stateHeads && width !== 1) throw new AttentionError('invalid-shape', `beta has shape [${beta.shape.join(', ')}].`, `Expected [batch, length, ${stateHeads}] or [batch, length, 1].`);
  if (width === 1) return viewOf(beta, [batch, stateHeads * repeats, length], [batchStride, 0, rowStride]);
  return repeated(viewOf(beta, [batch, stateHeads, length], [batchStride, stride, rowStride]), repeats);
}

/** Each head `repeats` times, beside itself: [batch, heads, …] → [batch, heads · repeats, …]. A view where one stride can say it. */
function repeated(source: Tensor, repeats: number): Tensor {
  if (repeats === 1) return source;
  const [batch = 0, heads = 0, ...rest] = source.shape;
  const [batchStride = 0, headStride = 0, ...strides] = source.strides;
  const shape = [batch, heads * repeats, ...rest];
  if (heads === 1) return viewOf(source, shape, [batchStride, 0, ...strides]);
  return viewOf(dense(viewOf(source, [batch, heads, repeats, ...rest], [batchStride, headStride, 0, ...strides])), shape, contiguousStrides(shape));
}
