import type { Assessment, CallShape, FastWeightRequest, Refusal } from '@heed/core';
import { fastWeightDTypes, widthOf } from '@heed/core/compute';
import { commonRefusals, type Limits } from '../limits.ts';
import { describeTraining } from './describe.ts';
import { planOfTraining } from './plan-of.ts';
import { productsOf } from './plan.ts';

/** Whether a rule that trains while the sequence passes, or writes whole chunks, can be computed, and how. Pure. @param rate operations of one millisecond */
export function assessTraining(request: FastWeightRequest, limits: Limits, rate: number, shape?: CallShape): Assessment {
  const refusals = trainingRefusals(request, limits);
  if (refusals.length > 0) return { supported: false, refusals };
  const plan = planOfTraining(request);
  if (plan === null) throw new RangeError(`'${request.variant.rule.name}' trains nothing`);
  const description = describeTraining(plan)[0] ?? plan.name;
  if (shape === undefined) return { supported: true, plan: description };
  const tokens = shape.batch * shape.heads * shape.queryLength;
  const flops = 2 * tokens * productsOf(plan);
  return { supported: true, plan: description, cost: { flops, bytes: 4 * tokens * 2 * (plan.width + plan.valueDim), peakBytes: 4 * plan.size * shape.batch * shape.heads, milliseconds: flops / rate } };
}

function trainingRefusals(request: FastWeightRequest, limits: Limits): readonly Refusal[] {
  const { variant, dim, valueDim, gradients = [] } = request;
  const refusals = commonRefusals(fastWeightDTypes(request), { dim, valueDim, 'the width after transforms': widthOf(request) }, limits);
  if (gradients.length > 0) refusals.push({ stage: 'gradients', reason: `the rule '${variant.rule.name}' changes its weights while the sequence passes, and nothing here differentiates through that`, remedy: 'Prepare without gradients, or use a recurrent rule.' });
  return refusals;
}
