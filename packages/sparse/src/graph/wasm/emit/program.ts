import type { AttentionRequest } from '@heed/core';
import { ModuleBuilder, type FloatStorage } from '@heed/runtime-wasm';
import type { Layouts } from '../layouts.ts';
import type { Plan } from '../plan.ts';
import type { Callee, Emission } from './context.ts';
import { emitFinish } from './finish.ts';
import { emitGraph } from './graph.ts';
import { emitObserve } from './observe.ts';
import { emitPrepare, emitTransformKeys } from './prepare.ts';
import { emitLoadQuery } from './query.ts';
import type { Gathers, Parts } from './row.ts';
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
    finish: emitFinish(emission),
  };
  if (plan.observed.length > 0 || plan.observesMass) emitObserve(emission, parts);
  else emitGraph(emission, parts);
  return module;
}

function gathers(storage: FloatStorage, emit: (storage: FloatStorage) => Callee): Gathers {
  const inPlace = emit(storage);
  return { inPlace, prepared: storage === 'f32' ? inPlace : emit('f32') };
}
