import type { Case } from '../case.ts';
import { errorCases } from './errors.ts';
import { lifecycleCases } from './lifecycle.ts';
import { exampleCases } from './examples.ts';
import { formatCases } from './formats.ts';
import { identityCases } from './identities.ts';
import { stageCases } from './stages.ts';
import { goldenCases } from './golden.ts';
import { emptyRowCases } from './laws/empty-row.ts';
import { orderCases } from './laws/order.ts';
import { positionCases } from './laws/positions.ts';
import { windowCases } from './laws/window.ts';
import { determinismCases } from './laws/determinism.ts';
import { edgeCases } from './laws/edges.ts';
import { emptyAxesCases } from './laws/empty-axes.ts';
import { groupedHeadCases } from './laws/grouped-heads.ts';
import { logSumExpCases } from './laws/log-sum-exp.ts';
import { maskSelectCases } from './laws/masks-select.ts';
import { mergeCases } from './laws/merge.ts';
import { noLeakCases } from './laws/no-leak.ts';
import { noPositionCases } from './laws/no-position.ts';
import { observedStageCases } from './laws/observed-stages.ts';
import { precisionCases } from './laws/precision.ts';
import { recurrenceCases } from './laws/recurrence.ts';
import { gradientCases } from './laws/gradient.ts';
import { nothingSilentCases } from './laws/nothing-silent.ts';
import { scaleCases } from './laws/scale.ts';
import { sinkCases } from './laws/sink.ts';

export interface CaseSelection {
  /** How many examples, or all. */
  readonly examples: number | 'all';
  readonly seed: number;
}

/** Every case of the suite: all laws, all of the lifecycle, and the chosen examples. */
export function allCases(selection: CaseSelection): readonly Case[] {
  return [...emptyRowCases, ...orderCases, ...positionCases, ...windowCases, ...logSumExpCases, ...groupedHeadCases, ...sinkCases, ...observedStageCases, ...precisionCases, ...maskSelectCases, ...emptyAxesCases, ...mergeCases, ...determinismCases, ...noLeakCases, ...noPositionCases, ...edgeCases, ...scaleCases, ...recurrenceCases, ...gradientCases, ...nothingSilentCases, ...goldenCases, ...stageCases, ...identityCases, ...formatCases, ...lifecycleCases, ...errorCases, ...exampleCases(selection.examples, selection.seed)];
}
