import type { FastWeightRequest } from '@heed/core';
import { chunkPlan } from './chunk-plan.ts';
import { trainingPlan, type TrainingPlan } from './plan.ts';

/** The plan of a rule that changes weights by training or by chunks; null for a rule that is linear in its state. */
export function planOfTraining(request: FastWeightRequest): TrainingPlan | null {
  const { rule } = request.variant;
  switch (rule.kind) {
    case 'recurrent':
      return null;
    case 'gradient':
      return trainingPlan(request, rule);
    case 'chunk':
      return chunkPlan(request, rule);
  }
}
