import type { Assessment, AttentionRequest, CallShape, Capabilities, Refusal, Request } from '@heed/core';
import { readsEdges } from '@heed/core/compute';
import { planOf, type Machine, type Plan } from './plan.ts';

/** What this backend can do; `assess` refuses the rest. */
export const capabilities: Capabilities = Object.freeze({
  variants: ['attention'],
  dtypes: ['f32', 'f16', 'bf16'],
  logSumExp: true,
  partial: true,
  blocks: true,
  edges: false,
  packed: true,
  explicitPositions: true,
  transformKeys: true,
  observe: ['scores', 'modified', 'masked', 'weights'],
  keyMass: true,
  gradients: false,
  storage: ['contiguous'],
  abort: true,
  nonFinite: 'exact',
  deterministic: true,
  maxDim: 8192,
} as const);

/** Whether a request can be done, and how; or every reason why not. Pure. */
export function assess(request: Request, machine: Machine, shape?: CallShape): Assessment {
  if (!isAttention(request)) {
    return { supported: false, refusals: [{ stage: 'rule', reason: 'fast weights are not rows of weights', remedy: 'Use the reference backend, which computes them.' }] };
  }
  const refusals = refusalsOf(request);
  if (refusals.length > 0) return { supported: false, refusals };
  const plan = planOf(request, machine);
  return { supported: true, plan: describePlan(plan)[0] ?? plan.path, ...(shape === undefined ? {} : { cost: costOf(plan, shape) }) };
}

function isAttention(request: Request): request is AttentionRequest {
  return request.variant.kind === 'attention';
}

function refusalsOf({ variant, dtypes = {}, storage = 'contiguous', gradients, queryDim, keyDim, valueDim }: AttentionRequest): readonly Refusal[] {
  const refusals: Refusal[] = [];
  if (readsEdges(variant)) refusals.push({ stage: 'scoring', reason: 'the variant reads the edges of a graph', remedy: 'Use the graph backend of @heed/sparse.' });
  for (const [role, dtype] of Object.entries(dtypes)) {
    if (!capabilities.dtypes.includes(dtype)) refusals.push({ stage: 'dtype', reason: `${role} is ${dtype}`, remedy: `Use one of ${capabilities.dtypes.join(', ')}.` });
  }
  if (storage !== 'contiguous') refusals.push({ stage: 'storage', reason: `keys and values are ${storage}`, remedy: 'Gather them to one tensor; views with any strides are read in place.' });
  if (gradients !== undefined && gradients.length > 0) refusals.push({ stage: 'gradients', reason: 'this backend computes no gradients', remedy: 'Use the reference backend for gradients.' });
  for (const [role, dim] of Object.entries({ queryDim, keyDim, valueDim })) {
    if (dim > capabilities.maxDim) refusals.push({ stage: 'dims', reason: `${role} is ${dim}`, remedy: `Use at most ${capabilities.maxDim}.` });
  }
  return refusals;
}

/** The plan in sentences. */
export function describePlan(plan: Plan): readonly string[] {
  const { tile, blockQuery, blockKey, machine } = plan;
  return [
    `${plan.path === 'online' ? 'one walk over the keys with running statistics' : 'whole rows of scores, a few queries at a time'}; scores by ${plan.scoring === 'product' ? 'matrix product' : 'a sum over channels'}`,
    `blocks of ${blockQuery} queries, tiles of up to ${blockKey} keys, masks classified every ${plan.stepKey} keys, register tiles of ${tile.rows} × ${tile.columns}`,
    `${machine.wide ? '256-bit' : '128-bit'} vectors, ${machine.fused ? 'fused multiply-add' : 'multiply, then add'}; keys and values packed as float32 once for each key head`,
    'sums, statistics and weights in float32; bits do not depend on the number of threads',
  ];
}

function costOf(plan: Plan, { batch, heads, keyHeads, queryLength, keyLength }: CallShape): { readonly flops: number; readonly bytes: number; readonly peakBytes: number; readonly milliseconds: number } {
  const pairs = batch * heads * queryLength * keyLength;
  const flops = 2 * pairs * (plan.scoreDim + plan.valueDim);
  const rows = batch * (heads * queryLength + keyHeads * keyLength);
  const packed = 4 * batch * keyHeads * keyLength * (plan.scoreDim + plan.valueStride);
  return { flops, bytes: 4 * rows * (plan.scoreDim + plan.valueDim), peakBytes: packed, milliseconds: (flops + pairs * 120) / 4e7 };
}
