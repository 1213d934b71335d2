import { AttentionError, contiguousStrides, tensor, zeros, type AttentionInputs, type HostTensor, type Integers, type Refusal, type Tensor } from '@heed/core';
import { checkNames, unsupported, type Names } from '@heed/core/compute';
import { concatenate, dense, hostOf, joinHeads, permuted, rankOf, splitHeads, viewOf } from '../axes.ts';
import { dimsOf, dtypesOf, type Conversion } from '../conversion.ts';
import type { AttentionRules, OnnxAttentionOpset, OnnxRelease } from './releases.ts';
import { qkMatmulOutputOf, stageOf } from './score-output.ts';
import { onnxVariant, type OnnxStages } from './variant.ts';

/** Inputs of the operator Attention, by its own names. */
export interface OnnxAttentionInputs {
  /** [batch, q_num_heads, q_length, head_size], or [batch, q_length, q_num_heads · head_size]. */
  readonly Q: Tensor;
  /** [batch, kv_num_heads, kv_length, head_size], or of rank 3 as Q. */
  readonly K: Tensor;
  readonly V: Tensor;
  /** Broadcasts from the right to [batch, q_num_heads, q_length, total_length]; a shorter last axis is completed by keys that are not allowed. u8: true may attend; others are added. */
  readonly attn_mask?: Tensor | null;
  /** [batch, kv_num_heads, past_length, head_size] */
  readonly past_key?: Tensor | null;
  readonly past_value?: Tensor | null;
  /** Keys of each sequence that count, [batch]; since operator set 24. */
  readonly nonpad_kv_seqlen?: Integers | null;
}

/** Attributes of the operator Attention, by its own names. */
export interface OnnxAttentionAttributes {
  readonly is_causal?: boolean | 0 | 1;
  readonly kv_num_heads?: number;
  readonly q_num_heads?: number;
  /** What the output qk_matmul_output shows; the meaning of 1 and 2 depends on the release. Default 0. */
  readonly qk_matmul_output_mode?: 0 | 1 | 2 | 3;
  /** Default 1/√head_size. */
  readonly scale?: number;
  /** 0: none. Default 0. */
  readonly softcap?: number;
  /** ONNX's number of a type: 1 float32, 10 float16, 11 float64, 16 bfloat16. heed computes in float32. */
  readonly softmax_precision?: number;
  /** −1: open. Since operator set 25. */
  readonly left_window_size?: number;
  readonly right_window_size?: number;
}

/** Outputs that cost something. */
export interface OnnxAttentionWishes {
  /** The output qk_matmul_output, q_length × total_length numbers for each head. Default false. */
  readonly qk_matmul_output?: boolean;
}

export interface OnnxAttentionResult {
  /** Of Q's rank. */
  readonly Y: Tensor;
  /** [batch, kv_num_heads, past_length + kv_length, head_size] */
  readonly present_key: Tensor;
  readonly present_value: Tensor;
  /** [batch, q_num_heads, q_length, total_length] in float32. */
  readonly qk_matmul_output?: Tensor;
}

export type OnnxAttentionConversion = Conversion<OnnxAttentionResult>;

/** The operator set, and the release with what it says differently. */
export interface OnnxSetting {
  readonly opset: OnnxAttentionOpset;
  readonly release: OnnxRelease;
  readonly rules: AttentionRules;
}

const inputNames: Names<OnnxAttentionInputs> = { Q: true, K: true, V: true, attn_mask: true, past_key: true, past_value: true, nonpad_kv_seqlen: true };
const attributeNames: Names<OnnxAttentionAttributes> = {
  is_causal: true, kv_num_heads: true, q_num_heads: true, qk_matmul_output_mode: true, scale: true, softcap: true, softmax_precision: true, left_window_size: true, right_window_size: true,
};
const wishNames: Names<OnnxAttentionWishes> = { qk_matmul_output: true };

/** A call of Attention in heed's terms. */
export function fromOnnxAttention(setting: OnnxSetting, given: OnnxAttentionInputs, attributes: OnnxAttentionAttributes, wishes: OnnxAttentionWishes): OnnxAttentionConversion {
  checkNames('the inputs of Attention', given, inputNames);
  checkNames('the attributes of Attention', attributes, attributeNames);
  checkNames('the outputs wished for', wishes, wishNames);
  const { rules } = setting;
  checkCall(setting, given, attributes);
  const { softcap = 0, qk_matmul_output_mode: mode = 0 } = attributes;
  const { query, newKey, newValue } = rank4(given, attributes, rules);
  const key = given.past_key === undefined || given.past_key === null ? newKey : concatenate(given.past_key, newKey, 2);
  const value = given.past_value === undefined || given.past_value === null ? newValue : concatenate(given.past_value, newValue, 2);
  const mask = given.attn_mask === undefined || given.attn_mask === null ? null : completed(rankOf('attn_mask', given.attn_mask, 4), key.shape[2] ?? 0);
  const groups = groupsOf(query, key, rules);
  const stages: OnnxStages = {
    causal: Boolean(attributes.is_causal),
    window: { left: sideOf(attributes.left_window_size), right: sideOf(attributes.right_window_size) },
    mask: mask === null ? null : mask.dtype === 'u8' ? 'boolean' : 'additive',
    padding: given.nonpad_kv_seqlen !== undefined && given.nonpad_kv_seqlen !== null,
    scale: attributes.scale ?? null,
    softcap: softcap > 0 ? { cap: softcap, isFirst: rules.softcapFirst } : null,
  };
  const wanted = wishes.qk_matmul_output === true ? stageOf(mode, stages, rules) : null;
  const grouped = groups === null ? query : regrouped(query, groups);
  const tables: Record<string, Tensor> = {};
  if (mask !== null) tables[stages.mask === 'boolean' ? 'mask' : 'bias'] = groups === null || mask.shape[1] === 1 ? mask : regrouped(mask, groups);
  const nonpad = given.nonpad_kv_seqlen ?? null;
  if (nonpad !== null) tables['keyCounts'] = tensor(Int32Array.from(nonpad), [nonpad.length]);
  const inputs: AttentionInputs = { query: grouped, key, value, tables, queryOffset: offsetOf(given, query, rules) };
  const pairs = grouped.shape.slice(0, 3).reduce((product, size) => product * size, key.shape[2] ?? 0);
  return {
    request: {
      variant: onnxVariant(stages),
      ...dimsOf(query, key, value),
      dtypes: dtypesOf(query, key, value),
      ...(wanted === null ? {} : { observe: { stages: [wanted.stage], byteBudget: 4 * pairs } }),
    },
    inputs,
    outputs: ({ output, observed }) => {
      const headsApart = groups === null ? output : ungrouped(output, groups);
      const seen = wanted === null ? undefined : observed?.[wanted.stage];
      if (wanted !== null && seen === undefined) throw new AttentionError('invalid-argument', 'The outputs show no stage.', 'Pass what the kernel prepared for this request returned.');
      return {
        Y: given.Q.shape.length === 3 ? joinHeads(headsApart) : headsApart,
        present_key: key,
        present_value: value,
        ...(wanted === null || seen === undefined ? {} : { qk_matmul_output: qkMatmulOutputOf(groups === null ? seen : ungrouped(seen, groups), wanted) }),
      };
    },
    notes: notesOf(attributes, given),
  };
}

function sideOf(size: number | undefined): number {
  return size === undefined || size === -1 ? Infinity : size;
}

/** Position of query row 0: behind the keys that were there before. */
function offsetOf({ past_key, nonpad_kv_seqlen }: OnnxAttentionInputs, query: Tensor, rules: AttentionRules): number | readonly number[] {
  if (past_key !== undefined && past_key !== null) return rules.pastOffset ? (past_key.shape[2] ?? 0) : 0;
  if (nonpad_kv_seqlen === undefined || nonpad_kv_seqlen === null || !rules.nonpadOffset) return 0;
  return Array.from(nonpad_kv_seqlen, (filled) => filled - (query.shape[2] ?? 0));
}

/** Query, key and value as [batch, heads, length, dim]. */
function rank4({ Q, K, V }: OnnxAttentionInputs, { q_num_heads, kv_num_heads }: OnnxAttentionAttributes, rules: AttentionRules): { readonly query: Tensor; readonly newKey: Tensor; readonly newValue: Tensor } {
  if (Q.shape.length === 4) return { query: Q, newKey: K, newValue: V };
  if (q_num_heads === undefined || kv_num_heads === undefined) {
    throw new AttentionError('invalid-argument', `q_num_heads is ${q_num_heads}, kv_num_heads ${kv_num_heads}.`, 'Inputs of rank 3 need both.');
  }
  const split = (what: string, source: Tensor, heads: number): Tensor => {
    const apart = splitHeads(what, source, heads);
    return rules.rank3 === 'split' ? apart : viewOf(dense(source), apart.shape, contiguousStrides(apart.shape));
  };
  return { query: split('Q', Q, q_num_heads), newKey: split('K', K, kv_num_heads), newValue: split('V', V, kv_num_heads) };
}

/** The mask with a last axis of `total` keys; those that it lacks are not allowed. */
function completed(mask: Tensor, total: number): Tensor {
  const numbers = mask.dtype === 'u8' || mask.dtype.startsWith('f') || mask.dtype === 'bf16' ? mask : asFloats(mask);
  const length = numbers.shape[3] ?? 0;
  // An axis of 1 repeats where there are more keys than one.
  if (length >= total || (length === 1 && total > 1)) return numbers;
  const rest = zeros([...numbers.shape.slice(0, 3), total - length], numbers.dtype);
  if (numbers.dtype !== 'u8') fillWithNegativeInfinity(rest);
  return concatenate(numbers, numbers.runtime === null ? rest : numbers.runtime.upload(rest), 3);
}

function asFloats(mask: Tensor): Tensor {
  if (mask.runtime !== null) return mask.runtime.operations.copy(mask, { dtype: 'f32' });
  return tensor(Float32Array.from(hostOf(dense(mask)).view()), mask.shape);
}

function fillWithNegativeInfinity(target: HostTensor): void {
  const bits: Readonly<Partial<Record<Tensor['dtype'], number>>> = { f16: 0xfc00, bf16: 0xff80 };
  target.view().fill(bits[target.dtype] ?? -Infinity);
}

/** Heads as [repeats, keyHeads] where head h reads key head h mod keyHeads; null where the order is heed's own. */
interface HeadGroups {
  readonly repeats: number;
  readonly keyHeads: number;
}

function groupsOf(query: Tensor, key: Tensor, rules: AttentionRules): HeadGroups | null {
  const [heads = 0, keyHeads = 0] = [query.shape[1], key.shape[1]];
  const repeats = heads / keyHeads;
  return rules.keyHeads === 'neighbours' || keyHeads <= 1 || repeats === 1 || !Number.isSafeInteger(repeats) ? null : { repeats, keyHeads };
}

/** Heads that share a key head beside each other: [batch, repeats · keyHeads, …] → [batch, keyHeads · repeats, …], a copy. */
function regrouped(source: Tensor, { repeats, keyHeads }: HeadGroups): Tensor {
  return headsSwapped(source, repeats, keyHeads);
}

/** The way back. */
function ungrouped(source: Tensor, { repeats, keyHeads }: HeadGroups): Tensor {
  return headsSwapped(source, keyHeads, repeats);
}

function headsSwapped(source: Tensor, outer: number, inner: number): Tensor {
  const [batch = 0, heads = 0, ...rest] = source.shape;
  const [batchStride = 0, headStride = 0, ...strides] = source.strides;
  const apart = viewOf(source, [batch, outer, inner, ...rest], [batchStride, inner * headStride, headStride, ...strides]);
  const shape = [batch, heads, ...rest];
  return viewOf(dense(permuted(apart, [0, 2, 1, ...rest.map((_, axis) => axis + 3)])), shape, contiguousStrides(shape));
}

function checkCall({ opset, release }: OnnxSetting, { Q, K, V, past_key, past_value, nonpad_kv_seqlen }: OnnxAttentionInputs, attributes: OnnxAttentionAttributes): void {
  const given = (input: unknown): boolean => input !== undefined && input !== null;
  const wrong = (message: string, hint: string): AttentionError => new AttentionError('invalid-argument', message, hint);
  const ranks = [Q, K, V].map(({ shape }) => shape.length);
  if (ranks.some((rank) => rank !== ranks[0]) || (ranks[0] !== 3 && ranks[0] !== 4)) throw new AttentionError('invalid-shape', `Q, K and V have ranks ${ranks.join(', ')}.`, 'Expected 3 each or 4 each.');
  if (given(past_key) !== given(past_value)) throw wrong('Got one of past_key and past_value.', 'Pass both, or none.');
  if (given(nonpad_kv_seqlen) && given(past_key)) throw wrong('Got nonpad_kv_seqlen beside past_key.', 'A cache is kept inside the operator, or outside.');
  if (given(nonpad_kv_seqlen) && opset < 24) throw wrong(`Operator set ${opset} has no nonpad_kv_seqlen.`, 'Expected opset 24 or later.');
  const { left_window_size: left = -1, right_window_size: right = -1, qk_matmul_output_mode: mode = 0, q_num_heads, kv_num_heads } = attributes;
  if ((left !== -1 || right !== -1) && opset < 25) throw wrong(`Operator set ${opset} of release ${release} has no windows.`, 'Expected opset 25 and release 1.23 or later.');
  for (const [name, size] of Object.entries({ left_window_size: left, right_window_size: right })) {
    if (!Number.isSafeInteger(size) || size < -1) throw wrong(`${name} is ${size}.`, 'Expected −1 or an integer of 0 or more.');
  }
  if (![0, 1, 2, 3].includes(mode)) throw wrong(`qk_matmul_output_mode is ${mode}.`, 'Expected 0, 1, 2 or 3.');
  if (opset >= 25 && ranks[0] === 4 && (q_num_heads !== undefined || kv_num_heads !== undefined)) throw wrong('Got q_num_heads or kv_num_heads beside inputs of rank 4.', 'Leave them out: the shapes say it.');
  const refusals: readonly Refusal[] = [
    ...(attributes.softmax_precision === 11 ? [{ stage: 'dtype' as const, reason: 'softmax_precision is float64, and weights are computed in float32', remedy: 'Leave softmax_precision out; the reference backend computes in float64 whatever it says.' }] : []),
  ];
  if (refusals.length > 0) throw unsupported(refusals);
}

function notesOf({ softmax_precision, is_causal }: OnnxAttentionAttributes, { attn_mask, nonpad_kv_seqlen, Q }: OnnxAttentionInputs): readonly string[] {
  const masks = Boolean(is_causal) || (attn_mask !== undefined && attn_mask !== null) || (nonpad_kv_seqlen !== undefined && nonpad_kv_seqlen !== null);
  const isHalf = softmax_precision === 10 || softmax_precision === 16 || (softmax_precision === undefined && (Q.dtype === 'f16' || Q.dtype === 'bf16'));
  return [
    ...(masks ? ['A query that may attend to nothing gives zeros in every release here; releases before 1.23 give NaN in some cases.'] : []),
    ...(isHalf ? ['Scores and weights are float32, not rounded to half precision on the way.'] : []),
  ];
}
