import type { AttentionRequest } from './backend.ts';
import { input } from './expression/build.ts';
import { Aggregation } from './stages/aggregation/stage.ts';
import type { NormalizationRule } from './stages/normalization/stage.ts';
import { Normalization } from './stages/normalization/stage.ts';
import { attention } from './variant.ts';

/** The request whose results over some of the keys are partial results: without sink, division and finish, in float32. Names of tables and uniforms stay. */
export function partialRequestOf(request: AttentionRequest): AttentionRequest {
  const { variant, queryDim, keyDim, valueDim, dtypes } = request;
  const { normalization, aggregation } = variant;
  const { name, reweigh, uniforms, tables } = normalization;
  const stages = {
    scoring: variant.scoring,
    masking: variant.masking,
    normalization: new Normalization({ name, rule: partialRule(normalization.rule), reweigh, uniforms, tables }),
    aggregation: new Aggregation({
      name: aggregation.name,
      reduction: aggregation.reduction,
      prepare: aggregation.prepare,
      finish: input('output').node,
      uniforms: aggregation.uniforms,
      tables: aggregation.tables,
    }),
  };
  return { variant: attention(stages), queryDim, keyDim, valueDim, dtypes: { ...dtypes, output: 'f32' } };
}

function partialRule(rule: NormalizationRule): NormalizationRule {
  return rule.kind === 'softmax' ? { ...rule, sink: null } : rule;
}
