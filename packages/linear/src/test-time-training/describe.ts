import type { TrainingPlan } from './plan.ts';

/** The plan in sentences. */
export function describeTraining({ description, size }: TrainingPlan): readonly string[] {
  return [...description, `one sequence and value head after the other in ${((size * 4) / 1024).toFixed(0)} KiB of its own; weights and sums in float32`];
}
