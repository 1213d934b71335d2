import type { TrainingPlan } from './plan.ts';

/** The plan in sentences. */
export function describeTraining({ rule, width, valueDim, block, size }: TrainingPlan): readonly string[] {
  const { model, miniBatch, optimizer } = rule;
  return [
    `the rule '${rule.name}' trains a ${model.layers === 1 ? 'linear' : 'two-layer'} model from ${width} to ${valueDim} channels while the sequence passes`,
    `in its dual form: pieces of at most ${block} tokens of each mini-batch of ${miniBatch} as matrix products, ${optimizer.kind === 'momentum' ? 'momentum and decay' : 'the sum of gradients'} carried beside the weights`,
    `one sequence and value head after the other in ${(size * 4 / 1024).toFixed(0)} KiB of its own; weights and sums in float32`,
  ];
}
