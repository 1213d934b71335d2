import type { Assessment, CallShape, Capabilities, CostEstimate, Request } from '@heed/core';
import { refusalsOf } from '../request-refusals.ts';
import { scratchBytes } from './emit/context.ts';
import { describePlan, planOf, type GraphMachine, type Plan } from './plan/plan.ts';

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
  nonFinite: 'exact',
  deterministic: true,
  maxDim: 8192,
} as const);

/** Whether a request can be done, and how; or every reason why not. Pure. */
export function assess(request: Request, machine: GraphMachine, shape?: CallShape, known?: KnownCall): Assessment {
  if (request.variant.kind !== 'attention') {
    return { supported: false, refusals: [{ stage: 'rule', reason: 'fast weights are not rows of weights', remedy: 'Use a backend of fast weights.' }] };
  }
  if (!('queryDim' in request)) throw new RangeError('a request for attention has dims');
  const refusals = refusalsOf(request, capabilities);
  if (refusals.length > 0) return { supported: false, refusals };
  const plan = planOf(request, machine);
  return { supported: true, plan: describePlan(plan)[0] ?? plan.scoring, ...(shape === undefined ? {} : { cost: costOf(plan, shape, known) }) };
}

/** What a call says beside its shape. */
export interface KnownCall {
  /** Most edges of one node. */
  readonly busiest: number;
  readonly threads: number;
}

/** Most threads that a guess of memory counts. */
const guessedThreads = 64;

function costOf(plan: Plan, { batch, heads, keyHeads, queryLength, keyLength, edges = queryLength * keyLength }: CallShape, known?: KnownCall): CostEstimate {
  const pairs = batch * heads * edges;
  const rows = batch * heads * queryLength;
  const gathered = 4 * pairs * (plan.scoreDim + plan.valueDim);
  const prepared = 4 * batch * keyHeads * keyLength * ((plan.preparesKeys ? plan.scoreFloats : 0) + (plan.preparesValues ? plan.valueFloats : 0));
  // Two passes keep the weights and keys of one head's edges, and the edges of each node.
  const kept = keyLength * 4 * (plan.scoreDim + plan.valueDim) > plan.passBytes ? 8 * edges + 4 * queryLength : 0;
  const records = 8 * (queryLength + keyLength) * batch + 16 * (edges / plan.taskEdges + 1) * batch * keyHeads;
  return {
    flops: 2 * pairs * (plan.scoreDim + plan.valueDim),
    bytes: gathered + 4 * rows * (plan.scoreDim + plan.valueDim) + 4 * (edges + queryLength),
    // Unless it is known, the busiest node may have any edge that a node can have.
    peakBytes: prepared + kept + records + (known?.threads ?? guessedThreads) * scratchBytes(plan, known?.busiest ?? Math.min(edges, keyLength), 0),
    milliseconds: (gathered / 8e6 + rows / 8000) / 2,
  };
}
