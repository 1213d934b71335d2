import type { RecurrentRule } from '@heed/core';

/** What a rule recalls and removes before it writes. */
export interface Recall {
  readonly by: 'key' | 'removalKey';
  readonly along: 'key' | 'removalKey';
  readonly strength: 'writeStrength' | 'removalWeight' | null;
  /** Recalled from the state as it was before the decay (RWKV-7). */
  readonly beforeDecay: boolean;
  /** What is removed is what is written, so that one difference, value − recalled, serves both (the delta rules). */
  readonly isDelta: boolean;
}

export function recallOf(rule: RecurrentRule): Recall | null {
  const order = rule.steps.map(({ step }) => step);
  const recall = rule.steps.find((step) => step.step === 'recall');
  const remove = rule.steps.find((step) => step.step === 'remove');
  const write = rule.steps.find((step) => step.step === 'write');
  if (recall === undefined || remove === undefined || write === undefined) return null;
  const decay = order.indexOf('decay');
  return {
    by: recall.by,
    along: remove.along,
    strength: remove.strength,
    beforeDecay: decay >= 0 && order.indexOf('recall') < decay,
    isDelta: remove.along === 'key' && remove.strength === write.strength,
  };
}

/** Whether the chunked form computes the rule: [recall] decay [recall] remove write read, as every rule of core does. Other orders are computed token by token. */
export function isChunkable(rule: RecurrentRule): boolean {
  const order = rule.steps.map(({ step }) => step).filter((step) => step !== 'recall');
  const inOrder = ['decay', 'remove', 'write', 'read'].filter((step) => order.includes(step as (typeof order)[number]));
  return order.join() === inOrder.join();
}
