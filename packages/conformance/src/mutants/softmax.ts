import type { AttentionInputs, AttentionRequest, Expression } from '@heed/core';
import { constant, operation, rewrite, tensor, toFloat64 } from '@heed/core';
import { changedNormalization, changedScoring, onHost, overwrite, withStages } from './alter.ts';
import type { Mutant } from './mutant.ts';
import { mutant } from './mutant.ts';

/** Wrong scales, sums, sinks and orders. */
export const softmaxMutants: readonly Mutant[] = [
  mutant({ name: 'not-scaled', plan: 'leaves out the default scale', names: ['L18', 'golden'], controls: ['identities/shift', 'golden/row', 'scoring/dot'] }, () => ({
    request: (request) => (request.variant.uniforms['scale']?.value === 'inverseSqrtDim' ? withStages(request, { scoring: changedScoring(request.variant.scoring, { uniforms: { ...request.variant.scoring.uniforms, scale: { type: 'f32', value: 1 } } }) }) : request),
  })),
  mutant({ name: 'scale-by-value-dim', plan: 'scales by the width of the values', names: ['L18', 'L5'], controls: ['golden', 'identities/shift'] }, () => ({
    request: (request) => (request.variant.uniforms['scale']?.value === 'inverseSqrtDim' ? withStages(request, { scoring: changedScoring(request.variant.scoring, { uniforms: { ...request.variant.scoring.uniforms, scale: { type: 'f32', value: request.valueDim ** -0.5 } } }) }) : request),
  })),
  mutant({ name: 'log-base-2', plan: 'reports logSumExp in base 2', names: ['L5', 'L18'], controls: ['L12', 'normalization/sigmoid', 'errors/request'] }, () => ({
    outputs: (outputs) => {
      overwrite(outputs.logSumExp, (value) => value / Math.LN2);
      return outputs;
    },
  })),
  mutant({ name: 'log-without-sink', plan: 'leaves the sink out of logSumExp', names: ['L5', 'L7'], controls: ['golden/row?normalization=softmax', 'L4', 'L3'] }, () => ({
    outputs: (outputs, inputs, request) => {
      const sink = inputs.tables?.['sink'];
      const { rule } = request.variant.normalization;
      if (rule.kind !== 'softmax' || rule.sink === null || sink === undefined || outputs.logSumExp === undefined) return outputs;
      const sinks = toFloat64(onHost(sink));
      const [, heads = 1, rows = 1] = outputs.logSumExp.shape;
      overwrite(outputs.logSumExp, (value, index) => {
        const rest = Math.exp(value) - Math.exp(sinks[Math.floor(index / rows) % heads] ?? 0);
        return rest > 0 ? Math.log(rest) : -Infinity;
      });
      return outputs;
    },
  })),
  mutant({ name: 'not-normalized', plan: 'does not divide by the sum of the exponentials', names: ['golden', 'normalization'], controls: ['golden/two-classes', 'L12-recurrence-chunks', 'normalization/sigmoid'] }, () => ({
    request: (request) => {
      const { rule } = request.variant.normalization;
      return rule.kind === 'softmax' && rule.sink === null ? withStages(request, { normalization: changedNormalization(request.variant.normalization, { rule: { kind: 'elementwise', score: operation('exp', [rule.score]) } }) }) : request;
    },
  })),
  mutant({ name: 'modifiers-reversed', plan: 'applies modifiers last to first: bias before softcap', names: ['L2'], controls: ['golden', 'L3', 'L7'] }, () => ({
    request: (request) => withStages(request, { scoring: changedScoring(request.variant.scoring, { modifiers: [...request.variant.scoring.modifiers].reverse() }) }),
  })),
  mutant({ name: 'scale-after-modifiers', plan: 'scales after the modifiers', names: ['L2'], controls: ['golden/pairs?variant=causal', 'L3', 'L6'] }, () => ({
    request: (request) => {
      const { scoring } = request.variant;
      if (scoring.modifiers.length === 0 || scoring.modifiers.some((modifier) => modifier.name !== 'softcap')) return request;
      // cap · tanh(s / cap) on the sum, then scaled: the same as a cap of scale · cap.
      const scaled = scoring.modifiers.map((modifier) => ({ ...modifier, expression: rewrite(modifier.expression, (node) => (isUniform(node, 'softcap.cap') ? operation('mul', [node, scoring.scale]) : node)) }));
      return withStages(request, { scoring: changedScoring(scoring, { modifiers: scaled }) });
    },
  })),
  mutant({ name: 'transforms-reversed', plan: 'applies row transforms last to first', names: ['L2'], controls: ['golden', 'L3', 'L7'] }, () => ({
    request: (request) => {
      const { scoring } = request.variant;
      return withStages(request, { scoring: changedScoring(scoring, { queryTransforms: [...scoring.queryTransforms].reverse(), keyTransforms: [...scoring.keyTransforms].reverse() }) });
    },
  })),
  mutant({ name: 'sink-scaled', plan: 'multiplies the sink by the scale', names: ['L7', 'L5'], controls: ['golden', 'L3', 'L4'] }, () => ({ inputs: (inputs, request) => withSinks(inputs, request, (sinks) => sinks.map((sink) => sink * request.queryDim ** -0.5)) })),
  mutant({ name: 'sink-per-key-head', plan: 'gives all query heads of a group the sink of the first', names: ['L7'], controls: ['golden', 'L3', 'L4'] }, () => ({
    inputs: (inputs, request) =>
      withSinks(inputs, request, (sinks) => {
        const group = (inputs.query.shape[1] ?? 1) / (inputs.key.shape[1] ?? 1);
        return sinks.map((_, head) => sinks[Math.floor(head / group) * group] ?? 0);
      }),
  })),
  mutant({ name: 'sink-modified', plan: 'divides the sink by the temperature as well', names: ['L7'], controls: ['golden', 'L3', 'L7-sink-off-by-one', 'L7-sink-not-scaled'] }, () => ({
    inputs: (inputs, request) => {
      const temperature = request.variant.uniforms['softmax.temperature']?.value;
      return typeof temperature === 'number' ? withSinks(inputs, request, (sinks) => sinks.map((sink) => sink / temperature)) : withSinks(inputs, request, (sinks) => (request.variant.scoring.modifiers.length > 0 ? sinks.map((sink) => Math.tanh(sink)) : sinks));
    },
  })),
  mutant({ name: 'sink-has-value', plan: 'adds the mean of the values for the sink', names: ['L7', 'golden/pairs'], controls: ['L3', 'L4', 'golden/row?normalization=softmax'] }, () => ({
    outputs: (outputs, _inputs, request) => {
      const { rule } = request.variant.normalization;
      if (rule.kind !== 'softmax' || rule.sink === null) return outputs;
      overwrite(outputs.output, (value) => value + 0.05);
      return outputs;
    },
  })),
  mutant({ name: 'ties-to-the-last', plan: 'of equal scores, the higher key index wins', names: ['identities/hard-max-ties'], controls: ['golden', 'L3', 'L4'] }, () => ({
    request: (request) => {
      const { rule } = request.variant.normalization;
      if (rule.kind !== 'hardMax') return request;
      const later = operation('mul', [operation('toF32', [{ kind: 'input', type: 'i32', name: 'keyIndex' }]), constant(1e-9).node]);
      return withStages(request, { normalization: changedNormalization(request.variant.normalization, { rule: { ...rule, score: operation('add', [rule.score, later]) } }) });
    },
  })),
  mutant({ name: 'alibi-signed', plan: 'subtracts the signed distance, so that keys after the query gain', names: ['L2', 'packed'], controls: ['golden', 'L3', 'L7'] }, () => ({
    request: (request) => withStages(request, { scoring: changedScoring(request.variant.scoring, { modifiers: request.variant.scoring.modifiers.map((modifier) => ({ ...modifier, expression: rewrite(modifier.expression, (node) => (node.kind === 'operation' && node.operator === 'abs' && node.type === 'i32' ? (node.operands[0] ?? node) : node)) })) }) }),
  })),
  mutant({ name: 'laser-without-weights', plan: 'takes the logarithm of the sum of exponentials of the values, unweighted', names: ['golden', 'aggregation'], controls: ['L3', 'L7', 'golden/row'] }, () => ({
    request: (request) => {
      const { aggregation, normalization } = request.variant;
      const zero = constant(0).node;
      return aggregation.reduction === 'logSumExp' && normalization.rule.kind === 'softmax' ? withStages(request, { normalization: changedNormalization(normalization, { rule: { ...normalization.rule, score: operation('add', [operation('mul', [normalization.rule.score, zero]), zero]) } }) }) : request;
    },
  })),
];

function isUniform(node: Expression, name: string): boolean {
  return node.kind === 'uniform' && node.name === name;
}

function withSinks(inputs: AttentionInputs, request: AttentionRequest, change: (sinks: Float64Array) => Float64Array): AttentionInputs {
  const sink = inputs.tables?.['sink'];
  const { rule } = request.variant.normalization;
  if (sink === undefined || rule.kind !== 'softmax' || rule.sink === null) return inputs;
  return { ...inputs, tables: { ...inputs.tables, sink: tensor(Float32Array.from(change(toFloat64(onHost(sink)))), sink.shape) } };
}
