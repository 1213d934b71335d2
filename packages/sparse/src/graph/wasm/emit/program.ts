import type { AttentionRequest } from '@heed/core';
import { ModuleBuilder } from '@heed/runtime-wasm';
import type { Layouts } from '../plan/layouts.ts';
import type { Plan } from '../plan/plan.ts';
import { isObserving, type Emission } from './context.ts';
import { emitFinish, emitStatistics } from './finish.ts';
import { emitGraph } from './graph.ts';
import { emitObserve } from './observe.ts';
import { emitPasses } from './passes.ts';
import { emitPrepare, emitTransformKeys } from './prepare.ts';
import { emitLoadQuery } from './query.ts';
import { gathers, type Parts } from './row.ts';
import { emitCombinedScores, emitProductScores } from './scores.ts';
import { emitCompact, emitSelect } from './select.ts';
import { emitReduce, emitValues } from './values.ts';
import { emitNormalize, emitReweigh, emitSettle, emitTerms, needsTerms } from './weigh.ts';

/** The module of a plan: every function that its calls need. */
export function emitProgram(request: AttentionRequest, plan: Plan, layouts: Layouts): ModuleBuilder {
  const module = new ModuleBuilder('graph');
  module.importMemory('env', 'memory', { shared: plan.machine.shared });
  const emission: Emission = { module, request, plan, layouts };
  emitPrepare(emission);
  emitTransformKeys(emission);
  const { normalization, aggregation } = request.variant;
  const parts: Parts = {
    select: emitSelect(emission),
    loadQuery: emitLoadQuery(emission),
    scores: gathers(plan.dtypes.key, (storage) => (plan.scoring === 'product' ? emitProductScores(emission, storage) : emitCombinedScores(emission, storage))),
    settle: emitSettle(emission),
    compact: emitCompact(emission),
    terms: needsTerms(emission) ? emitTerms(emission) : null,
    normalize: emitNormalize(emission),
    reweigh: normalization.reweigh.kind === 'input' ? null : emitReweigh(emission),
    values: gathers(plan.dtypes.value, (storage) => (aggregation.reduction === 'sum' ? emitValues(emission, storage) : emitReduce(emission, storage))),
    statistics: emitStatistics(emission),
    finish: emitFinish(emission),
  };
  if (isObserving(plan)) emitObserve(emission, parts);
  else {
    emitGraph(emission, parts);
    emitPasses(emission, parts);
  }
  return module;
}
