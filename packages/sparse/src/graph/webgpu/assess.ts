import { transformedWidth, type Assessment, type AttentionRequest, type CallShape, type Capabilities, type CostEstimate, type Refusal, type Request } from '@heed/core';
import type { Machine } from '@heed/runtime-webgpu';
import { refusalsOf } from '../request-refusals.ts';
import { describePlan, nodeLanes, planOf, type Plan } from './plan.ts';

/** What this backend can do; `assess` refuses the rest. */
export const capabilities: Capabilities = Object.freeze({
  variants: ['attention'],
  dtypes: ['f32', 'f16', 'bf16'],
  logSumExp: true,
  partial: true,
  blocks: false,
  edges: true,
  packed: false,
  explicitPositions: true,
  transformKeys: true,
  observe: ['masked', 'weights'],
  keyMass: true,
  gradients: false,
  storage: ['contiguous'],
  abort: true,
  // WGSL lets a device assume that no value is NaN or ∞.
  nonFinite: 'unspecified',
  deterministic: true,
  maxDim: 1024,
} as const);

/** What the device can do, and what was chosen for all kernels. */
export interface GraphMachine extends Machine {
  /** Bytes of weights that wait at once, unless one node has more edges. */
  readonly scratchBytes: number;
}

/** Whether a request can be done, and how; or every reason why not. Pure. */
export function assess(request: Request, machine: GraphMachine, shape?: CallShape): Assessment {
  if (!isAttention(request)) return { supported: false, refusals: [{ stage: 'rule', reason: 'fast weights are not rows of weights', remedy: 'Use a backend of fast weights.' }] };
  const refusals = [...refusalsOf(request, capabilities), ...deviceRefusals(request, machine)];
  if (refusals.length > 0) return { supported: false, refusals };
  const plan = planOf(request);
  return { supported: true, plan: describePlan(plan)[0] ?? 'over edges', ...(shape === undefined ? {} : { cost: costOf(plan, shape, machine) }) };
}

function isAttention(request: Request): request is AttentionRequest {
  return request.variant.kind === 'attention';
}

/** Rows that are transformed stand in workgroup memory twice. */
function deviceRefusals({ variant, queryDim, keyDim }: AttentionRequest, { workgroupBytes, invocations }: Machine): readonly Refusal[] {
  const refusals: Refusal[] = [];
  if (invocations < 2 * nodeLanes) refusals.push({ stage: 'shape', reason: `workgroups of this device have ${invocations} lanes at most`, remedy: 'Use a device with the limits that WebGPU guarantees.' });
  for (const [side, transforms, dim] of [['query', variant.scoring.queryTransforms, queryDim], ['key', variant.scoring.keyTransforms, keyDim]] as const) {
    let width = dim;
    for (const transform of transforms) {
      width = transformedWidth(transform, width);
      const bytes = 8 * width + 512;
      if (bytes > workgroupBytes) refusals.push({ stage: 'dims', reason: `${transform.name} makes ${side} rows of ${width}, which take ${bytes} bytes of workgroup memory; maxComputeWorkgroupStorageSize of this device is ${workgroupBytes}`, remedy: 'Use narrower rows.' });
    }
  }
  return refusals;
}

function costOf(plan: Plan, { batch, heads, keyHeads, queryLength, keyLength, edges = queryLength * keyLength }: CallShape, { scratchBytes }: GraphMachine): CostEstimate {
  const pairs = batch * heads * edges;
  const rowBytes = 4 * batch * (heads * queryLength + keyHeads * keyLength) * (plan.scoreDim + plan.valueDim);
  const flops = 2 * pairs * (plan.scoreDim + plan.valueDim);
  return { flops, bytes: rowBytes + 4 * pairs * (plan.scoreDim + plan.valueDim), peakBytes: rowBytes + 4 * (edges + queryLength) + Math.min(4 * pairs, Math.max(scratchBytes, 4 * Math.min(edges, keyLength))), milliseconds: 0.1 + flops / 1e9 };
}
