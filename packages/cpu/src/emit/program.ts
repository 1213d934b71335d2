import type { AttentionRequest } from '@heed/core';
import { ModuleBuilder, storeRow } from '@heed/runtime-wasm';
import type { Layouts } from '../layouts.ts';
import type { Plan, Purpose } from '../plan.ts';
import type { Emission } from './context.ts';
import { emitDecode } from './decode.ts';
import { emitFinish } from './finish.ts';
import { emitGuard } from './guard.ts';
import { emitPack, emitTransformKeys } from './pack.ts';
import { emitPairwiseScores } from './pairwise.ts';
import { emitPrefill } from './prefill.ts';
import { emitLoadQueries } from './queries.ts';
import { emitReduce, emitReweigh, emitRows, emitSettle } from './rows.ts';
import { emitProductScores, emitValues } from './scores.ts';
import { emitNormalizeRow } from './threshold.ts';
import { emitWeigh } from './weigh.ts';

/** The module of a plan for one purpose: every function that its calls need. */
export function emitProgram(purpose: Purpose, request: AttentionRequest, plan: Plan, layouts: Layouts): ModuleBuilder {
  const module = new ModuleBuilder(purpose === 'blocks' ? 'attention' : purpose);
  module.importMemory('env', 'memory', { shared: plan.machine.shared });
  const emission: Emission = { module, request, plan, layouts };
  if (purpose === 'keys') {
    emitTransformKeys(emission, (f, source, target, channelBytes) => {
      storeRow(f, plan.dtypes.key, plan.scoreDim, source, target, channelBytes);
    });
    return module;
  }
  const loadQueries = emitLoadQueries(emission);
  const values = emitValues(emission, plan.path === 'online' && request.variant.normalization.rule.kind === 'softmax');
  const guard = emitGuard(emission, values);
  const finish = emitFinish(emission);
  if (purpose === 'parts') {
    emitDecode(emission, { loadQueries, weigh: emitWeigh(emission), values, guard, finish });
    return module;
  }
  emitPack(emission);
  const scores = plan.scoring === 'product' ? emitProductScores(emission) : emitPairwiseScores(emission);
  if (plan.path === 'online') {
    const weigh = emitWeigh(emission);
    emitPrefill(emission, { loadQueries, scores, values, guard, weigh, finish });
  } else {
    const [settle, normalizeRow, reweigh, reduce] = [emitSettle(emission), emitNormalizeRow(emission), emitReweigh(emission), emitReduce(emission)];
    emitRows(emission, { loadQueries, scores, values, guard, settle, normalizeRow, reweigh, reduce, finish });
  }
  return module;
}
