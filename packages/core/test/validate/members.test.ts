import { describe, expect, test } from 'vitest';
import type { AttentionInputs } from '../../src/backend.ts';
import { bind } from '../../src/bind.ts';
import type { Axis } from '../../src/expression/declarations.ts';
import * as core from '../../src/index.ts';
import type { HostTensor } from '../../src/tensor.ts';
import { zeros } from '../../src/tensor.ts';
import { inputsOf, requestOf } from './calls.ts';

const { attention, causal, full, scaledDot, softmax, weightedSum } = core;

/** Every member of core that reads a table or divides by a uniform, so that something is to be proven of it. */
const variants = {
  alibi: { scoring: scaledDot().modify(core.alibi()) },
  t5Bias: { scoring: scaledDot().modify(core.t5Bias()) },
  shaw: { scoring: scaledDot().modify(core.shaw({ maxOffset: 3 })) },
  shawPerHead: { scoring: scaledDot().modify(core.shaw({ maxOffset: 3, perHead: true })) },
  decomposedBias: { scoring: scaledDot().modify(core.decomposedBias({ height: 2, width: 3 })) },
  headScale: { scoring: scaledDot().modify(core.headScale()) },
  additiveBias: { scoring: scaledDot().modify(core.additiveBias()) },
  temperatureTuning: { scoring: scaledDot().modify(core.temperatureTuning()) },
  projection: { scoring: scaledDot().transform(core.projection({ width: 6, bias: true })) },
  favor: { scoring: scaledDot().transform(core.favor({ features: 8 })) },
  cosformer: { scoring: scaledDot().transform(core.cosformer({ horizon: 9 })) },
  additive: { scoring: core.additive({ width: 5, bias: true }) },
  sink: { normalization: softmax({ sink: true }) },
  chunkedLocal: { masking: core.chunkedLocal(2) },
  dilated: { masking: core.dilated({ keys: 2, dilation: 2 }) },
  documents: { masking: core.documents() },
  prefix: { masking: causal().or(core.prefix()) },
  neighbourhood: { masking: core.neighbourhood({ shape: [2, 3], kernel: 1, dilation: 2 }) },
  tree: { masking: core.tree() },
  globalTokens: { masking: core.globalTokens() },
  booleanMask: { masking: core.booleanMask() },
  outputGate: { aggregation: weightedSum().finishBy(core.outputGate()) },
} satisfies Record<string, core.AttentionStages>;

const known: Readonly<Record<string, number>> = { batch: 2, head: 4, keyHead: 2, queryLength: 6, keyLength: 6, queryDim: 4, keyDim: 4, valueDim: 3 };

/** Zeros of the shape that a variant declares; its free axes are as wide as query rows. */
function tablesOf(stages: core.AttentionStages): NonNullable<AttentionInputs['tables']> {
  const variant = attention(stages);
  const scoreDim = variant.scoring.queryTransforms.reduce((width, transform) => core.transformedWidth(transform, width), 4);
  const size = (axis: Axis): number => (typeof axis === 'number' ? axis : axis === 'scoreDim' ? scoreDim : (known[axis] ?? 4));
  const entries = Object.entries(variant.tables).map(([name, { type, axes }]): [string, HostTensor] => [name, zeros(axes.map(size), type === 'f32' ? 'f32' : type === 'i32' ? 'i32' : 'u8')]);
  return Object.fromEntries(entries);
}

describe('tables of the shapes that are declared bind, and every read of theirs is proven', () => {
  test.each(Object.entries(variants))('%s', (_, stages: core.AttentionStages) => {
    const call = bind(requestOf({ masking: full(), ...stages }), { ...inputsOf({ queryLength: 6 }), tables: tablesOf(stages) });
    expect(Object.keys(call.tables)).toEqual(Object.keys(call.request.variant.tables));
  });
});
