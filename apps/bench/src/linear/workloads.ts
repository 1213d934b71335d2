import type { FastWeightVariant } from '@heed/core';
import { additiveRule, decayRule, deltaRule, eluFeatures, fastWeights, gatedDeltaRule, kdaRule, l2Norm, rwkv7Rule } from '@heed/core';

/** One call of a fast-weight variant. */
export interface LinearWorkload {
  readonly id: string;
  /** recurrent: one token onto a state. */
  readonly phase: 'prefill' | 'recurrent';
  readonly variant: FastWeightVariant;
  readonly heads: number;
  readonly length: number;
  /** Of keys and of values. */
  readonly dim: number;
  /** Who else computes it, beside dense attention of the same shape. */
  readonly plain: boolean;
}

const variants = {
  elu: fastWeights({ rule: additiveRule(), transformQuery: [eluFeatures()], transformKey: [eluFeatures()], rowSum: true, scale: 1 }),
  retention: fastWeights({ rule: decayRule({ by: 'head' }) }),
  mamba2: fastWeights({ rule: decayRule({ by: 'step', strength: true }), scale: 1 }),
  gla: fastWeights({ rule: decayRule({ by: 'channel' }) }),
  delta: fastWeights({ rule: deltaRule(), transformKey: [l2Norm()] }),
  gatedDelta: fastWeights({ rule: gatedDeltaRule(), transformKey: [l2Norm()] }),
  kda: fastWeights({ rule: kdaRule(), transformKey: [l2Norm()] }),
  rwkv7: fastWeights({ rule: rwkv7Rule(), scale: 1 }),
} as const;

type Name = keyof typeof variants;

const prefill = (name: Name, length: number, plain = false): LinearWorkload => ({ id: `linear/${name}?heads=8,length=${length},dim=64`, phase: 'prefill', variant: variants[name], heads: 8, length, dim: 64, plain });
const decode = (name: Name): LinearWorkload => ({ id: `recurrent/${name}?heads=16,length=1,dim=128`, phase: 'recurrent', variant: variants[name], heads: 16, length: 1, dim: 128, plain: false });

export const linearWorkloads: readonly LinearWorkload[] = [
  prefill('elu', 16_384, true),
  prefill('retention', 16_384, true),
  prefill('gatedDelta', 16_384, true),
  ...(['mamba2', 'gla', 'delta', 'kda', 'rwkv7'] as const).map((name) => prefill(name, 16_384)),
  ...[8192, 32_768, 65_536].flatMap((length) => [prefill('retention', length), prefill('gatedDelta', length)]),
  ...(Object.keys(variants) as Name[]).map(decode),
];

/** Tokens of a chunk as the chunked form is counted. */
const countedChunk = 64;

/**
 * Operations of the chunked form with chunks of 64: what is written into and read from the state, and the pairs of a chunk, of which half are wanted; rules that remove recall from the state too, and
 * solve for what they write. One token's are those of the recurrent form.
 */
export function usefulFlops({ variant, heads, length, dim }: LinearWorkload): number {
  const removes = variant.rule.kind === 'recurrent' && variant.rule.steps.some(({ step }) => step === 'remove');
  const within = length === 1 ? 0 : countedChunk * 2 * dim;
  return heads * length * (removes ? 6 * dim * dim + 2 * within : 4 * dim * dim + within);
}

/** Bytes that must move: inputs and output once; of a single token its state, which is read once and written once, each counted. */
export function leastBytes({ heads, length, dim, phase }: LinearWorkload): number {
  return phase === 'recurrent' ? 2 * 4 * heads * dim * dim : 4 * heads * length * 4 * dim;
}
