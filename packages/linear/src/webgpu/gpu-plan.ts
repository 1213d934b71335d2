import type { LinearPlan } from '../plan.ts';

/** Inputs of a rule beside query, key and value, in the order in which they stand in one buffer. */
export const ruleInputs = ['logDecay', 'writeStrength', 'removalKey', 'removalWeight'] as const;
export type RuleInput = (typeof ruleInputs)[number];

/** A linear plan with its workgroups. Plain data. */
export interface GpuPlan extends LinearPlan {
  /** Columns of G that are kept: those of the values, and one more for the row sum. */
  readonly columns: number;
  /** Lanes of a workgroup of the recurrent form: each holds `rows` rows of one column of G; `groups` of them share a column. */
  readonly rows: number;
  readonly groups: number;
  readonly blockColumns: number;
}

/** Lanes of a workgroup. */
export const lanes = 64;
/** Rows of G that a lane holds in registers. */
const mostRows = 32;

export function gpuPlan(plan: LinearPlan): GpuPlan {
  const columns = plan.valueDim + (plan.epsilon === null ? 0 : 1);
  let groups = 1;
  while (plan.width > groups * mostRows && groups < lanes) groups *= 2;
  return { ...plan, columns, groups, rows: Math.ceil(plan.width / groups), blockColumns: lanes / groups };
}

/** The inputs that a plan reads. */
export function inputsOfPlan({ decay, recall, strength }: LinearPlan): readonly RuleInput[] {
  const reads: Readonly<Record<RuleInput, boolean>> = {
    logDecay: decay !== null,
    writeStrength: strength || recall?.strength === 'writeStrength',
    removalKey: recall !== null && (recall.by === 'removalKey' || recall.along === 'removalKey'),
    removalWeight: recall?.strength === 'removalWeight',
  };
  return ruleInputs.filter((name) => reads[name]);
}
