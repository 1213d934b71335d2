import type { AttentionRequest, DecayAxis, DType, Expression, FastWeightRequest, RecurrentRule, RowTransform } from '@heed/core';
import { fastWeightDTypes, requestDTypes, widthOf } from '@heed/core/compute';
import { isChunkable, recallOf, type Recall } from './order.ts';
import type { LinearReading } from './recognise.ts';

/** Storage of floats that kernels read and write. */
export type FloatStorage = 'f32' | 'f16' | 'bf16';

/**
 * What a call computes, however the request said it: rows of queries and keys after their transforms, a rule over the matrix G [width, valueDim], and what is read. Plain data: equal plans and equal
 * structures give equal code. Tiles, threads and workgroups are each runtime's own.
 */
export interface LinearPlan {
  /** fastWeights: every token writes and reads, the state comes and goes. pairs: a pairwise variant; rows read what keys have written, under a mask. */
  readonly reading: 'fastWeights' | 'pairs';
  /** pairs: whether row i reads only keys up to its own position. */
  readonly causal: boolean;
  readonly rule: RecurrentRule;
  readonly queryTransforms: readonly RowTransform[];
  readonly keyTransforms: readonly RowTransform[];
  readonly positionPeriod: number | null;
  /** Widths of query and key rows before their transforms. */
  readonly queryDim: number;
  readonly keyDim: number;
  /** Width of both after their transforms: rows of G. */
  readonly width: number;
  readonly valueDim: number;
  readonly dtypes: { readonly query: FloatStorage; readonly key: FloatStorage; readonly value: FloatStorage; readonly output: FloatStorage };
  /** Factor of what is read, and what is added to the row sum (null: no row sum): uniforms or constants. */
  readonly scale: Expression;
  readonly epsilon: Expression | null;
  readonly decay: DecayAxis | null;
  /** What is removed before a token is written; null: nothing. */
  readonly recall: Recall | null;
  /** Whether writes are multiplied by writeStrength. */
  readonly strength: boolean;
  /** Tokens of one chunk of the chunked form; null where the order of the steps leaves only the recurrent form. */
  readonly chunk: number | null;
  /** Tokens of one sub-chunk, inside which decays by channel are factored around one reference; the chunk where decays are scalars. */
  readonly subChunk: number;
}

/** The plan of a fast-weight request that `assess` lets through. */
export function fastWeightPlan(request: FastWeightRequest, rule: RecurrentRule): LinearPlan {
  const { variant, dim, valueDim } = request;
  if (variant.scale === null) throw new RangeError('a recurrent rule has a scale');
  return {
    ...ruleParts(rule),
    reading: 'fastWeights',
    causal: true,
    queryTransforms: variant.queryTransforms,
    keyTransforms: variant.keyTransforms,
    positionPeriod: variant.positionPeriod,
    queryDim: dim,
    keyDim: dim,
    width: widthOf(request),
    valueDim,
    dtypes: storages(fastWeightDTypes(request)),
    scale: variant.scale,
    epsilon: variant.rowSum?.epsilon ?? null,
  };
}

/** The plan of a pairwise request that was recognised as linear. */
export function pairPlan(request: AttentionRequest, reading: LinearReading): LinearPlan {
  const { variant, queryDim, keyDim, valueDim } = request;
  return {
    ...ruleParts(reading.rule),
    reading: 'pairs',
    causal: reading.causal,
    queryTransforms: variant.scoring.queryTransforms,
    keyTransforms: variant.scoring.keyTransforms,
    positionPeriod: null,
    queryDim,
    keyDim,
    width: reading.width,
    valueDim,
    dtypes: storages(requestDTypes(request)),
    scale: variant.scoring.scale,
    epsilon: reading.epsilon,
  };
}

/** Tokens of a chunk: products within a chunk grow with it, those with the state do not. */
const chunkTokens = 64;
/** Decays of up to −5 for each token stay within float32 over this many (Kimi Team 2025). */
const subChunkTokens = 16;

function ruleParts(rule: RecurrentRule): Pick<LinearPlan, 'rule' | 'decay' | 'recall' | 'strength' | 'chunk' | 'subChunk'> {
  const decay = rule.steps.find((step) => step.step === 'decay')?.by ?? null;
  return {
    rule,
    decay,
    recall: recallOf(rule),
    strength: rule.steps.some((step) => step.step === 'write' && step.strength !== null),
    chunk: isChunkable(rule) ? chunkTokens : null,
    subChunk: decay === 'channel' ? subChunkTokens : chunkTokens,
  };
}

function storages<Roles extends string>(dtypes: Readonly<Record<Roles, DType>>): Readonly<Record<Roles, FloatStorage>> {
  for (const dtype of Object.values<DType>(dtypes)) if (dtype !== 'f32' && dtype !== 'f16' && dtype !== 'bf16') throw new RangeError(`kernels store no ${dtype}`);
  return dtypes as Readonly<Record<Roles, FloatStorage>>;
}
