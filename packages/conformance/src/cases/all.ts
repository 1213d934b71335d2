import type { Case } from '../case.ts';
import { errorCases } from './errors.ts';
import { exampleCases } from './examples.ts';
import { fastWeightCases } from './fast-weights.ts';
import { formatCases } from './formats.ts';
import { goldenCases } from './golden.ts';
import { identityCases } from './identities.ts';
import { determinismCases } from './laws/determinism.ts';
import { edgeCases } from './laws/edges.ts';
import { emptyAxesCases } from './laws/empty-axes.ts';
import { emptyRowCases } from './laws/empty-row.ts';
import { gradientCases } from './laws/gradient.ts';
import { groupedHeadCases } from './laws/grouped-heads.ts';
import { logSumExpCases } from './laws/log-sum-exp.ts';
import { maskSelectCases } from './laws/masks-select.ts';
import { mergeCases } from './laws/merge.ts';
import { noLeakCases } from './laws/no-leak.ts';
import { noPositionCases } from './laws/no-position.ts';
import { nothingSilentCases } from './laws/nothing-silent.ts';
import { observedStageCases } from './laws/observed-stages.ts';
import { orderCases } from './laws/order.ts';
import { positionCases } from './laws/positions.ts';
import { precisionCases } from './laws/precision.ts';
import { recurrenceCases } from './laws/recurrence.ts';
import { scaleCases } from './laws/scale.ts';
import { sinkCases } from './laws/sink.ts';
import { windowCases } from './laws/window.ts';
import { lifecycleCases } from './lifecycle.ts';
import { operationCases } from './operations.ts';
import { stageCases } from './stages.ts';

export interface CaseSelection {
  /** How many examples, or all. */
  readonly examples: number | 'all';
  readonly seed: number;
}

/** L1 to L20, in their order. */
const lawCases: readonly Case[] = [
  emptyRowCases, orderCases, positionCases, windowCases, logSumExpCases, groupedHeadCases, sinkCases, observedStageCases, precisionCases, maskSelectCases,
  emptyAxesCases, recurrenceCases, mergeCases, determinismCases, noLeakCases, noPositionCases, edgeCases, scaleCases, gradientCases, nothingSilentCases,
].flat();

/** Every case of the suite: all laws, all of the lifecycle, and the chosen examples. */
export function allCases(selection: CaseSelection): readonly Case[] {
  return [...lawCases, ...goldenCases, ...stageCases, ...identityCases, ...formatCases, ...fastWeightCases, ...operationCases, ...lifecycleCases, ...errorCases, ...exampleCases(selection.examples, selection.seed)];
}
