import { transformedWidth, type Assessment, type AttentionRequest, type CallShape, type Capabilities, type Refusal, type Request } from '@heed/core';
import { readsEdges } from '@heed/core/compute';
import type { Machine } from '@heed/runtime-webgpu';
import { blockKeyOf, blockQueryOf, laneKeys, tileRefusal } from './tiles.ts';
import { planOf, type Plan } from './plan.ts';

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
  // WGSL lets a device assume that no value is NaN or ∞.
  nonFinite: 'unspecified',
  deterministic: true,
  maxDim: 1024,
} as const);

/** Whether a request can be done, and how; or every reason why not. Pure. */
export function assess(request: Request, machine: Machine, shape?: CallShape): Assessment {
  if (!isAttention(request)) {
    return { supported: false, refusals: [{ stage: 'rule', reason: 'fast weights are not rows of weights', remedy: 'Use the reference backend, which computes them.' }] };
  }
  const refusals = refusalsOf(request, machine);
  if (refusals.length > 0) return { supported: false, refusals };
  const plan = planOf(request, machine);
  return { supported: true, plan: describePlan(plan)[0] ?? plan.path, ...(shape === undefined ? {} : { cost: costOf(plan, shape) }) };
}

function isAttention(request: Request): request is AttentionRequest {
  return request.variant.kind === 'attention';
}

function refusalsOf(request: AttentionRequest, machine: Machine): readonly Refusal[] {
  const { variant, dtypes = {}, storage = 'contiguous', gradients, queryDim, keyDim, valueDim } = request;
  const refusals: Refusal[] = [];
  if (readsEdges(variant)) refusals.push({ stage: 'scoring', reason: 'the variant reads the edges of a graph', remedy: 'Use the graph backend of @heed/sparse.' });
  for (const [role, dtype] of Object.entries(dtypes)) {
    if (!capabilities.dtypes.includes(dtype)) refusals.push({ stage: 'dtype', reason: `${role} is ${dtype}`, remedy: `Use one of ${capabilities.dtypes.join(', ')}.` });
  }
  const tile = tileRefusal(machine);
  if (tile !== null) refusals.push({ stage: 'shape', reason: `the smallest tile does not fit: ${tile}`, remedy: 'Use another backend, or a device with the limits that WebGPU guarantees.' });
  if (storage !== 'contiguous') refusals.push({ stage: 'storage', reason: `keys and values are ${storage}`, remedy: 'Gather them to one tensor.' });
  if (gradients !== undefined && gradients.length > 0) refusals.push({ stage: 'gradients', reason: 'this backend computes no gradients', remedy: 'Use the reference backend for gradients.' });
  for (const [role, dim] of Object.entries({ queryDim, keyDim, valueDim })) {
    if (dim > capabilities.maxDim) refusals.push({ stage: 'dims', reason: `${role} is ${dim}`, remedy: `Use at most ${capabilities.maxDim}.` });
  }
  for (const [side, transforms, dim] of [['query', variant.scoring.queryTransforms, queryDim], ['key', variant.scoring.keyTransforms, keyDim]] as const) {
    let width = dim;
    for (const transform of transforms) {
      width = transformedWidth(transform, width);
      const bytes = 8 * width + 512;
      if (bytes > machine.workgroupBytes) refusals.push({ stage: 'dims', reason: `${transform.name} makes ${side} rows of ${width}, which take ${bytes} bytes of workgroup memory; maxComputeWorkgroupStorageSize of this device is ${machine.workgroupBytes}`, remedy: 'Use narrower rows.' });
    }
  }
  return refusals;
}

/** The plan in sentences. */
export function describePlan(plan: Plan): readonly string[] {
  const { path, tile, subgroup } = plan;
  return [
    path === 'online' ? 'one walk over the keys with running statistics' : 'whole rows of scores in a scratch buffer, a few blocks of queries at a time',
    `workgroups of ${blockQueryOf(tile)} queries × ${blockKeyOf(tile)} keys: ${tile.teams} teams of ${tile.lanes} lanes, ${tile.rows} × ${laneKeys} pairs each`,
    subgroup > 1 ? `rows reduce over ${subgroup} neighbouring lanes by subgroup operations` : 'rows reduce through workgroup memory',
    'sums, statistics and weights in float32; rows that are transformed or stored narrower are made float32 first, linear in tokens',
    'masked scores are −10³⁰, and scores from there down count as −∞; tiles that the mask empties are not computed, and those it fills run no mask code',
  ];
}

function costOf(plan: Plan, { batch, heads, keyHeads, queryLength, keyLength }: CallShape): { readonly flops: number; readonly bytes: number; readonly peakBytes: number; readonly milliseconds: number } {
  const pairs = batch * heads * queryLength * keyLength;
  const flops = 2 * pairs * (plan.scoreDim + plan.valueDim);
  const rows = batch * (heads * queryLength + keyHeads * keyLength);
  const bytes = 4 * rows * (plan.scoreDim + plan.valueDim);
  return { flops, bytes, peakBytes: bytes, milliseconds: 0.1 + flops / 1e9 };
}
