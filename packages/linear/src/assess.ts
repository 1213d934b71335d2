import type { Assessment, AttentionRequest, CallShape, CostEstimate, FastWeightRequest, Refusal, Request } from '@heed/core';
import { fastWeightDTypes, requestDTypes, widthOf } from '@heed/core/compute';
import { commonRefusals, type Limits } from './limits.ts';
import { fastWeightPlan, pairPlan, type LinearPlan } from './plan.ts';
import { recognise } from './recognise.ts';
import { assessTraining } from './test-time-training/assess.ts';

/** A request read for this package: its plan, or every reason why there is none. Pure. */
export function readRequest(request: Request, limits: Limits): { readonly plan: LinearPlan; readonly refusals: readonly [] } | { readonly plan: null; readonly refusals: readonly Refusal[] } {
  return isFastWeights(request) ? readFastWeights(request, limits) : readPairs(request, limits);
}

export function isFastWeights(request: Request): request is FastWeightRequest {
  return request.variant.kind === 'fastWeights';
}

function readFastWeights(request: FastWeightRequest, limits: Limits): ReturnType<typeof readRequest> {
  const { rule } = request.variant;
  const refusals = commonRefusals(fastWeightDTypes(request), { dim: request.dim, valueDim: request.valueDim, 'the width after transforms': widthOf(request) }, limits);
  if (request.gradients !== undefined && request.gradients.length > 0 && !limits.gradients) refusals.push({ stage: 'gradients', reason: 'this runtime computes no gradients', remedy: 'Use the backend on runtime-wasm.' });
  if (rule.kind !== 'recurrent') {
    refusals.push({ stage: 'rule', reason: `the rule '${rule.name}' is not linear in its state`, remedy: 'Prepare it with a backend of this package, which computes rules that train while the sequence passes on a plan of their own, or use the reference.' });
    return { plan: null, refusals };
  }
  return refusals.length > 0 ? { plan: null, refusals } : { plan: fastWeightPlan(request, rule), refusals: [] };
}

function readPairs(request: AttentionRequest, limits: Limits): ReturnType<typeof readRequest> {
  const { storage = 'contiguous', observe, gradients } = request;
  const read = recognise(request);
  const refusals = [...read.refusals, ...commonRefusals({ ...requestDTypes(request) }, { queryDim: request.queryDim, keyDim: request.keyDim, valueDim: request.valueDim, ...(read.reading === null ? {} : { 'the width after transforms': read.reading.width }) }, limits)];
  if (storage !== 'contiguous') refusals.push({ stage: 'storage', reason: `keys and values are ${storage}`, remedy: 'Gather them to one tensor; views with any strides are read in place.' });
  if (observe !== undefined) refusals.push({ stage: 'observe', reason: 'there are no rows of scores to look at: a sum over keys is kept instead', remedy: 'Look at them with a dense backend, which computes the same function.' });
  if (gradients !== undefined && gradients.length > 0) refusals.push({ stage: 'gradients', reason: 'gradients are computed for the fast-weight reading alone', remedy: 'Prepare fastWeights({ rule: additiveRule(), transformQuery, transformKey, rowSum }) with the same maps.' });
  return refusals.length > 0 || read.reading === null ? { plan: null, refusals } : { plan: pairPlan(request, read.reading), refusals: [] };
}

/** Whether a request can be done, and how; or every reason why not. Pure. @param rate operations of one millisecond */
export function assessLinear(request: Request, limits: Limits, rate: number, shape?: CallShape): Assessment {
  if (isFastWeights(request) && request.variant.rule.kind !== 'recurrent') return assessTraining(request, limits, rate, shape);
  const { plan, refusals } = readRequest(request, limits);
  if (plan === null) return { supported: false, refusals };
  return { supported: true, plan: describePlan(plan)[0] ?? plan.reading, ...(shape === undefined ? {} : { cost: costOf(plan, shape, rate) }) };
}

/** The plan in sentences. */
export function describePlan(plan: LinearPlan): readonly string[] {
  const { rule, width, valueDim, chunk, subChunk, decay, epsilon } = plan;
  const what = plan.reading === 'fastWeights' ? `the rule '${rule.name}'` : `linear attention over ${plan.causal ? 'the keys so far' : 'all keys'}`;
  return [
    `${what} on a state of ${width} × ${valueDim}${epsilon === null ? '' : ' and its row sums'}, linear in length`,
    chunk === null ? 'token by token: the order of its steps has no chunked form' : `token by token for few tokens, else in chunks of ${chunk}${subChunk < chunk ? ` with decays factored within ${subChunk}` : ''}`,
    `state and sums in float32${decay === null ? '' : '; decays stay logarithms until differences are taken'}`,
  ];
}

function costOf({ width, valueDim, recall, chunk }: LinearPlan, { batch, heads, queryLength, keyLength }: CallShape, rate: number): CostEstimate {
  const tokens = batch * heads * Math.max(queryLength, keyLength);
  const within = Math.min(chunk ?? 1, Math.max(queryLength, keyLength));
  const flops = tokens * ((recall === null ? 4 : 6) * width * valueDim + (recall === null ? 1 : 2) * within * (width + valueDim));
  return { flops, bytes: 4 * tokens * 2 * (width + valueDim), peakBytes: 4 * batch * heads * width * valueDim, milliseconds: flops / rate };
}
