import type { AttentionRequest, AttentionVariant, DType, StorageForm } from '@heed/core';
import { alibi, attention, causal, documents, entmax, hardMax, laser, none, outputGate, rope, scaledDot, shaw, sigmoid, softcap, softmax, sparsemax, weightedSum, window } from '@heed/core';
import { plainRequest } from '../../capability.ts';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import { smallShape } from '../../inputs.ts';
import { exact, float32Attention } from '../../tolerance.ts';
import { toleranceOf } from '../../variants.ts';
import { drawCall, matchReference } from '../../attend.ts';

/** Variants that combine what backends are tempted to leave out. */
const exotic: Readonly<Record<string, () => AttentionVariant>> = {
  sparsemaxShaw: () => attention({ scoring: scaledDot().modify(shaw({ maxOffset: 2 })), normalization: sparsemax(), masking: causal() }),
  entmaxGated: () => attention({ normalization: entmax(1.7), aggregation: weightedSum().finishBy(outputGate()), masking: documents() }),
  hardMaxSoftcap: () => attention({ scoring: scaledDot().modify(softcap(1)), normalization: hardMax() }),
  laserRope: () => attention({ scoring: scaledDot().transform(rope({ pairing: 'interleaved' })), aggregation: laser(), masking: window({ left: 3, right: 1 }) }),
  noneAlibi: () => attention({ scoring: scaledDot().modify(alibi()), normalization: none() }),
  sigmoidSoftcapDocuments: () => attention({ scoring: scaledDot().modify(softcap(2)), normalization: sigmoid(), masking: documents().and(causal()) }),
  sinkEverything: () => attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })).modify(softcap(4), alibi()), masking: causal().and(window({ left: 4, right: 0 })), normalization: softmax({ sink: true, temperature: 1.5 }), aggregation: weightedSum().finishBy(outputGate()) }),
};

/** L20: what cannot be computed as asked is refused before running, with the reason. */
export const nothingSilentCases: readonly Case[] = [
  ...Object.entries(exotic).map(([name, make]) =>
    lawCase('L20', { parameters: { variant: name }, plan: `${name} is either refused with the reason or computed as asked; nothing simpler is computed in its place.`, tolerance: toleranceOf(make()) }, async (context) => {
      await matchReference(context, drawCall(context, make(), smallShape, { inputs: { queryOffset: 2 } }), toleranceOf(make()));
    }),
  ),
  lawCase('L20', { name: 'undeclared', plan: 'Every storage type, form of storage and observed stage that the capabilities do not list is refused by assess, naming its stage, and by prepare.', tolerance: exact }, async (context) => {
    const { capabilities } = context.backend;
    for (const dtype of ['f64', 'f16', 'bf16'] as const satisfies readonly DType[]) {
      if (!capabilities.dtypes.includes(dtype)) await context.properlyRefused(context.backend, { ...plainRequest, dtypes: { query: dtype, key: dtype, value: dtype, output: 'f32' } }, 'dtype');
    }
    for (const storage of ['contiguous', 'paged', 'quantised'] as const satisfies readonly StorageForm[]) {
      if (!capabilities.storage.includes(storage)) await context.properlyRefused(context.backend, { ...plainRequest, storage }, 'storage');
    }
    for (const stage of ['scores', 'modified', 'masked', 'weights'] as const) {
      if (!capabilities.observe.includes(stage)) await context.properlyRefused(context.backend, { ...plainRequest, observe: { stages: [stage] } }, 'observe');
    }
  }),
  lawCase('L20', { name: 'widest', plan: 'Rows wider than maxDim are refused by assess, naming the dims.', tolerance: exact }, async (context) => {
    const wide = context.backend.capabilities.maxDim + 1;
    if (!Number.isFinite(wide)) return;
    for (const dims of [{ queryDim: wide, keyDim: wide }, { valueDim: wide }]) {
      const assessment = context.backend.assess({ ...plainRequest, ...dims });
      context.check(!assessment.supported, () => `assess supports ${JSON.stringify(dims)}, beyond maxDim ${wide - 1}.`);
      if (!assessment.supported) context.check(assessment.refusals.some((refusal) => refusal.stage === 'dims'), () => 'No refusal names the dims.');
    }
  }),
  ...(['i32', 'i8', 'u8'] as const).map((dtype) =>
    lawCase('L20', { name: 'integers', parameters: { dtype }, plan: `${dtype} query rows are refused with invalid-dtype.`, tolerance: exact }, async (context) => {
      await context.refuses('prepare', () => context.backend.prepare({ ...plainRequest, dtypes: { query: dtype, output: 'f32' } }), 'invalid-dtype', 'unsupported');
    }),
  ),
  lawCase('L20', { name: 'unknown-names', plan: 'A table or a uniform that the variant does not declare is refused, not ignored.', tolerance: exact }, async (context) => {
    const call = drawCall(context, attention({ scoring: scaledDot().modify(softcap(2)) }), smallShape);
    const kernel = await context.kernel(call.request);
    await context.refuses('an unknown table', () => kernel.run({ ...call.inputs, tables: { slopes: call.inputs.query } }), 'unknown-table');
    await context.refuses('an unknown uniform', () => kernel.run({ ...call.inputs, uniforms: { 'softcap.limit': 3 } }), 'unknown-uniform');
  }),
  lawCase('L20', { name: 'overrides', plan: 'Bound uniforms and tables are used at each call, whatever the calls before bound: nothing is kept by structure.', tolerance: float32Attention }, async (context) => {
    const make = (cap: number): AttentionVariant => attention({ scoring: scaledDot().modify(softcap(cap), alibi()), normalization: softmax({ sink: true }) });
    const call = drawCall(context, make(2), smallShape, { inputs: { queryOffset: 1 } });
    const kernel = await context.kernel(call.request);
    for (const uniforms of [{}, { 'softcap.cap': 0.5 }, { scale: 2 }, {}]) {
      const other = drawCall(context, make(2), smallShape, { inputs: { queryOffset: 1, uniforms }, fill: { slopes: (random, [heads = 1]) => Array.from({ length: heads }, () => random.uniform()) } });
      const want = await context.expected(other.request, other.inputs);
      const got = await context.numbers(await kernel.run(other.inputs));
      context.close('output', got.output, want.output, float32Attention.bound({ length: 7, dim: 8, dtype: 'f32', score: 10, magnitude: 4 }));
    }
    // Another variant of the same structure: its defaults are its own.
    const second: AttentionRequest = { ...call.request, variant: make(0.25) };
    const got = await context.run(second, call.inputs);
    const want = await context.expected(second, call.inputs);
    context.close('a variant of equal structure', got.output, want.output, float32Attention.bound({ length: 7, dim: 8, dtype: 'f32', magnitude: 4 }));
  }),
  lawCase('L20', { name: 'assess', plan: 'assess is pure: asked twice, before and after prepare, it says the same; with a shape it may add a cost with finite numbers.', tolerance: exact }, async (context) => {
    const first = context.backend.assess(plainRequest);
    await context.kernel(plainRequest);
    const again = context.backend.assess(plainRequest);
    context.check(JSON.stringify(first) === JSON.stringify(again), () => 'assess changed its mind.');
    const withShape = context.backend.assess(plainRequest, { batch: 2, heads: 4, keyHeads: 2, queryLength: 5, keyLength: 7 });
    context.check(withShape.supported === first.supported, () => 'A shape changes whether the request is supported.');
    if (!withShape.supported || withShape.cost === undefined) return;
    const { cost } = withShape;
    context.check([cost.flops, cost.bytes, cost.peakBytes, cost.milliseconds].every((number) => Number.isFinite(number) && number >= 0), () => `The cost is ${JSON.stringify(cost)}.`);
    context.check(cost.flops === 2 * 2 * 4 * 5 * 7 * (8 + 6), () => `The cost counts ${cost.flops} FLOPs; 2 · pairs · (scoreDim + valueDim) is ${2 * 2 * 4 * 5 * 7 * 14}.`);
  }),
];

