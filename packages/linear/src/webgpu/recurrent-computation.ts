import type { FastWeightRequest } from '@heed/core';
import type { WebGpuRuntime } from '@heed/runtime-webgpu';
import { describePlan } from '../assess.ts';
import type { LinearPlan } from '../plan.ts';
import type { Computation } from '../gpu/computation.ts';
import { gpuPlan } from './gpu-plan.ts';
import { LinearStages, programsOf, sourcesOf } from './stages.ts';
import { fastWork } from './work.ts';

/** Rules that are linear in their state. */
export function recurrentComputation(runtime: WebGpuRuntime, request: FastWeightRequest, plan: LinearPlan): Computation {
  const programs = programsOf(gpuPlan(plan), request.variant);
  return {
    programs: sourcesOf(programs),
    outputDtype: plan.dtypes.output,
    plan: describePlan(plan),
    start: (call, output, state) => new LinearStages(runtime, programs, fastWork(programs.plan, call), output, state),
  };
}
