import type { AttentionInputs, AttentionRequest, AttentionVariant, Backend, FastWeightRequest, GradientName, HostTensor } from '@heed/core';
import {
  additive, additiveBias, addRow, alibi, attention, bilinear, causal, cosine, dot, dropout, eluFeatures, entmax, gaussian, gumbel, hardMax, headScale, isHostTensor, laser, layerNorm, mask, maximum, none, outputGate, positionWeight,
  projection, relu, reluSquared, rmsNorm, rope, rowSum, scaledDot, shaw, sigmoid, softcap, softmax, softmaxOffByOne, sparsemax, t5Bias, t5BucketTable, tensor, toFloat64, weightedSum, window,
} from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import type { CaseContext } from '../../context.ts';
import type { FastCall } from '../../fast-inputs.ts';
import { drawFastCall, recurrentRules } from '../../fast-inputs.ts';
import type { Shape, TableOptions } from '../../inputs.ts';
import { normals } from '../../inputs.ts';
import { exact, float32Gradient } from '../../tolerance.ts';
import type { Call } from '../../attend.ts';
import { drawCall, largest } from '../../attend.ts';

const shape: Shape = { batch: 1, heads: 2, keyHeads: 1, queryLength: 3, keyLength: 4, queryDim: 4, keyDim: 4, valueDim: 2 };

interface Differentiated {
  readonly variant: AttentionVariant;
  readonly tables?: TableOptions;
  readonly inputs?: Omit<Partial<AttentionInputs>, 'query' | 'key' | 'value'>;
}

const offset = { queryOffset: 1 } as const;

/** Variants at points where they are smooth. Between them: every kind of rule, reduction, transform and table. */
const differentiated: Readonly<Record<string, Differentiated>> = {
  softmax: { variant: attention() },
  causal: { variant: attention({ masking: causal() }), inputs: offset },
  softmaxSink: { variant: attention({ normalization: softmax({ sink: true }) }) },
  softmaxOffByOne: { variant: attention({ normalization: softmaxOffByOne() }) },
  temperature: { variant: attention({ normalization: softmax({ temperature: 0.6, sink: true }), masking: window({ left: 1, right: 1 }) }), inputs: offset },
  softcapAlibi: { variant: attention({ scoring: scaledDot().modify(softcap(1.5), alibi()) }), inputs: offset },
  additiveBias: { variant: attention({ scoring: scaledDot().modify(additiveBias()) }) },
  t5Bias: { variant: attention({ scoring: dot().modify(t5Bias({ buckets: 4, maxDistance: 4 })) }), tables: { fill: { t5Buckets: () => t5BucketTable({ buckets: 4, maxDistance: 4, bidirectional: true }) } }, inputs: offset },
  shaw: { variant: attention({ scoring: scaledDot().modify(shaw({ maxOffset: 2 })) }), inputs: offset },
  headScale: { variant: attention({ scoring: cosine().modify(headScale()) }) },
  additive: { variant: attention({ scoring: additive({ width: 3, bias: true }) }), tables: { scoreDim: 3 } },
  bilinear: { variant: attention({ scoring: bilinear({ width: 4, scale: 0.3 }) }) },
  gaussian: { variant: attention({ scoring: gaussian({ bandwidth: 1.5 }) }) },
  cosine: { variant: attention({ scoring: cosine({ scale: 3 }) }) },
  projection: { variant: attention({ scoring: scaledDot({ scale: 0.2 }).transformQuery(projection({ width: 3, table: 'queryMatrix', perHead: 'head', bias: true })).transformKey(projection({ width: 3, table: 'keyMatrix' })) }), tables: { axes: { queryMatrixInput: 4, keyMatrixInput: 4 } } },
  ropeHalf: { variant: attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })) }), inputs: offset },
  ropeInterleaved: { variant: attention({ scoring: scaledDot().transform(rope({ pairing: 'interleaved', width: 2, magnitude: 1.2 })) }), inputs: offset },
  rmsNorm: { variant: attention({ scoring: scaledDot().transformQuery(rmsNorm({ weight: 'queryNorm' })).transformKey(rmsNorm({ weight: 'keyNorm', onePlusWeight: true })) }) },
  layerNorm: { variant: attention({ scoring: scaledDot().transform(layerNorm({ weight: 'gain', bias: 'shift' })) }) },
  addRow: { variant: attention({ scoring: scaledDot().transformQuery(addRow({ table: 'content', perHead: 'head' })) }) },
  sigmoid: { variant: attention({ normalization: sigmoid() }) },
  relu: { variant: attention({ normalization: relu({ length: 4 }) }) },
  reluSquared: { variant: attention({ normalization: reluSquared({ length: 4 }) }) },
  none: { variant: attention({ normalization: none(), masking: causal() }), inputs: offset },
  rowSum: { variant: attention({ scoring: dot().transform(eluFeatures()), normalization: rowSum() }) },
  sparsemax: { variant: attention({ scoring: dot(), normalization: sparsemax() }) },
  entmax15: { variant: attention({ scoring: dot(), normalization: entmax(1.5) }) },
  entmax13: { variant: attention({ normalization: entmax(1.3) }) },
  hardMax: { variant: attention({ normalization: hardMax() }) },
  gumbel: { variant: attention({ normalization: gumbel({ seed: 2, temperature: 0.8 }) }), inputs: offset },
  dropout: { variant: attention({ normalization: softmax().reweighBy(dropout({ probability: 0.4, seed: 4 })) }), inputs: offset },
  positionWeight: { variant: attention({ normalization: softmax().reweighBy(positionWeight({ deviation: 2 })) }), inputs: offset },
  laser: { variant: attention({ aggregation: laser(), masking: causal() }), inputs: offset },
  maximum: { variant: attention({ normalization: none(), aggregation: maximum() }) },
  outputGate: { variant: attention({ aggregation: weightedSum().finishBy(outputGate()) }) },
};

const needs = ['attention', 'gradients', 'dtype:f32'] as const;
const evenQueries = mask('evenQueries', ({ queryPosition }) => queryPosition.mod(2).eq(0));

/** L19: gradients are central differences of the float64 reference. */
export const gradientCases: readonly Case[] = [
  ...Object.entries(differentiated).map(([name, { variant, tables, inputs }]) =>
    lawCase(
      'L19',
      { parameters: { variant: name }, needs, plan: `The gradients of ${name} for query, key, value${Object.keys(variant.tables).length > 0 ? ` and ${Object.keys(variant.tables).join(', ')}` : ''} are central differences of the float64 reference, for a random gradient of the output.`, tolerance: float32Gradient },
      async (context) => {
        const call = drawCall(context, variant, shape, { ...tables, ...(inputs === undefined ? {} : { inputs }) });
        await matchDifferences(context, call, false);
      },
    ),
  ),
  ...(['softmax', 'softmaxSink', 'softcapAlibi', 'causal'] as const).map((name) =>
    lawCase('L19', { name: 'logSumExp', parameters: { variant: name }, laws: ['L5'], needs: [...needs, 'logSumExp'], plan: `The logSumExp of ${name} has a gradient too, here beside that of the output.`, tolerance: float32Gradient }, async (context) => {
      const chosen = differentiated[name];
      if (chosen === undefined) return;
      const call = drawCall(context, chosen.variant, shape, { ...chosen.tables, ...(chosen.inputs === undefined ? {} : { inputs: chosen.inputs }) });
      await matchDifferences(context, call, true);
    }),
  ),
  lawCase('L19', { name: 'grouped', laws: ['L6'], needs, plan: 'Four query heads on two key heads: the gradients of keys and values are summed over their group.', tolerance: float32Gradient }, async (context) => {
    await matchDifferences(context, drawCall(context, attention({ masking: causal() }), { ...shape, batch: 2, heads: 4, keyHeads: 2 }, { inputs: offset }), false);
  }),
  lawCase('L19', { name: 'empty-rows', laws: ['L1'], needs, plan: 'A row that sees no key has gradient 0 exactly and adds nothing to that of keys and values, in softmax with a sink.', tolerance: float32Gradient }, async (context) => {
    const call = drawCall(context, attention({ masking: evenQueries, normalization: softmax({ sink: true }) }), shape, { inputs: { queryOffset: 0 } });
    const gradients = await matchDifferences(context, call, false);
    const query = gradients.query ?? new Float64Array([Number.NaN]);
    context.zero('gradient of the query of an empty row', query.filter((_, index) => Math.floor(index / 4) % 3 === 1));
  }),
  lawCase('L19', { name: 'key-lengths', laws: ['L10'], needs, plan: 'Keys that are padding have gradient 0 exactly, even if they hold NaN.', tolerance: float32Gradient }, async (context) => {
    const call = drawCall(context, attention(), shape, { inputs: { keyLengths: [2] } });
    const clean = await matchDifferences(context, call, false);
    const key = call.inputs.key.view();
    const value = call.inputs.value.view();
    for (let row = 2; row < 4; row++) {
      key.fill(Number.NaN, row * 4, row * 4 + 4);
      value.fill(Number.NaN, row * 2, row * 2 + 2);
    }
    const poisoned = await gradientsOf(context, { ...call.request, gradients: ['query', 'key', 'value'] }, call.inputs, outputGradient(context, call.shape), null);
    context.zero('gradient of padding keys', (poisoned.key ?? new Float64Array([Number.NaN])).subarray(8));
    context.zero('gradient of padding values', (poisoned.value ?? new Float64Array([Number.NaN])).subarray(4));
    context.check(!(poisoned.query ?? []).some(Number.isNaN), () => 'A NaN of the padding reached the gradient of the query.');
    context.check(clean.query !== undefined, () => 'There is no gradient of the query.');
  }),
  lawCase('L19', { name: 'outside-support', needs, plan: 'Outside the support of sparsemax, keys and values have gradient 0 exactly.', tolerance: exact }, async (context) => {
    // One query, far from keys 1 and 3: only keys 0 and 2 are in the support.
    const request: AttentionRequest = { variant: attention({ scoring: dot(), normalization: sparsemax() }), queryDim: 1, keyDim: 1, valueDim: 2, gradients: ['query', 'key', 'value'] };
    const inputs = { query: tensor([1], [1, 1, 1, 1]), key: tensor([1, -3, 0.75, -2], [1, 1, 4, 1]), value: tensor([1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 4, 2]) };
    const gradients = await gradientsOf(context, request, inputs, tensor([0.5, -2], [1, 1, 1, 2]), null);
    const outside = (values: Float64Array | undefined, width: number): Float64Array => (values ?? new Float64Array([Number.NaN])).filter((_, index) => Math.floor(index / width) % 2 === 1);
    context.zero('keys outside the support', outside(gradients.key, 1));
    context.zero('values outside the support', outside(gradients.value, 2));
    context.check((gradients.value ?? [])[0] !== 0, () => 'A value inside the support has gradient 0.');
  }),
  lawCase('L19', { name: 'unknown', laws: ['L20'], needs, plan: 'A gradient of a table that the variant lacks is refused by prepare with unknown-table.', tolerance: exact }, async (context) => {
    const call = drawCall(context, attention(), shape);
    await context.refuses('prepare', () => context.backend.prepare({ ...call.request, gradients: ['tables.sink'] }), 'unknown-table');
  }),
  ...Object.entries(recurrentRules).map(([name, make]) =>
    lawCase('L19', { name: 'fast-weights', parameters: { rule: name }, laws: ['L12'], needs: ['fastWeights', 'gradients'], plan: `The gradients of ${name} for each of its inputs and its first state, through output and final state, are central differences of the float64 reference.`, tolerance: float32Gradient }, async (context) => {
      const call = drawFastCall(context.random, make(), { batch: 1, heads: 1, valueHeads: 2, length: 4, dim: 3, valueDim: 2 });
      await matchFastDifferences(context, call);
    }),
  ),
];

/** Compares the gradients for all inputs of floats with central differences; returns them. */
async function matchDifferences(context: CaseContext, call: Call, withLogSumExp: boolean): Promise<Readonly<Record<string, Float64Array>>> {
  const { request, inputs } = call;
  const floats = Object.entries(request.variant.tables).filter(([, table]) => table.type === 'f32');
  const names: readonly GradientName[] = ['query', 'key', 'value', ...floats.map(([name]): GradientName => `tables.${name}`)];
  const output = outputGradient(context, call.shape);
  const { batch, heads, queryLength } = call.shape;
  const logSumExp = withLogSumExp ? tensor(Float32Array.from(normals(context.random, [batch, heads, queryLength])), [batch, heads, queryLength]) : null;
  const got = await gradientsOf(context, { ...request, gradients: names }, inputs, output, logSumExp);
  const loss = await lossOf(context.reference, request, output, logSumExp);
  for (const name of names) {
    const want = await differences(sourceOf(inputs, name), (moved) => loss(replaced(inputs, name, moved)));
    context.close(`gradient of ${name}`, got[name], want, float32Gradient.bound({ length: call.shape.keyLength, dim: call.shape.queryDim, dtype: 'f32', magnitude: largest(want) }));
  }
  return got;
}

function outputGradient(context: CaseContext, sizes: Shape): HostTensor {
  const dims = [sizes.batch, sizes.heads, sizes.queryLength, sizes.valueDim];
  return tensor(Float32Array.from(normals(context.random, dims)), dims);
}

async function gradientsOf(context: CaseContext, request: AttentionRequest, inputs: AttentionInputs, output: HostTensor, logSumExp: HostTensor | null): Promise<Readonly<Record<string, Float64Array>>> {
  const kernel = await context.kernel(request);
  const { saved } = await kernel.run(inputs);
  if (saved === undefined) {
    context.check(false, () => 'A forward call of a request with gradients saved nothing.');
    return {};
  }
  const gradients = await kernel.backward(inputs, saved, { output, ...(logSumExp === null ? {} : { logSumExp }) });
  const values: Record<string, Float64Array> = {};
  for (const [name, gradient] of Object.entries(gradients)) values[name] = await context.values(gradient);
  return values;
}

/** Σ gradient · output of the float64 reference, as a function of the inputs. */
async function lossOf(reference: Backend, request: AttentionRequest, output: HostTensor, logSumExp: HostTensor | null): Promise<(inputs: AttentionInputs) => Promise<number>> {
  const kernel = await reference.prepare({ ...request, dtypes: { query: 'f64', key: 'f64', value: 'f64', output: 'f64' } });
  const outputWeights = toFloat64(output);
  const logWeights = logSumExp === null ? null : toFloat64(logSumExp);
  return async (inputs) => {
    const result = await kernel.run({ ...inputs, query: wide(inputs.query), key: wide(inputs.key), value: wide(inputs.value) });
    const main = weighted(hostOf(result.output), outputWeights);
    return logWeights === null || result.logSumExp === undefined ? main : main + weighted(hostOf(result.logSumExp), logWeights);
  };
}

function weighted(values: HostTensor, weights: Float64Array): number {
  return toFloat64(values).reduce((sum, value, index) => sum + (weights[index] === 0 ? 0 : value * (weights[index] ?? 0)), 0);
}

/** (f(x + h) − f(x − h)) / 2h for each element. */
async function differences(source: HostTensor, loss: (moved: HostTensor) => Promise<number>): Promise<Float64Array> {
  const values = toFloat64(source);
  const step = 1e-5;
  const result = new Float64Array(values.length);
  for (let index = 0; index < values.length; index++) {
    const at = async (value: number): Promise<number> => loss(tensor(Float64Array.from(values, (old, other) => (other === index ? value : old)), source.shape));
    const here = values[index] ?? 0;
    result[index] = ((await at(here + step)) - (await at(here - step))) / (2 * step);
  }
  return result;
}

function sourceOf(inputs: AttentionInputs, name: GradientName): HostTensor {
  return hostOf(name === 'query' || name === 'key' || name === 'value' ? inputs[name] : inputs.tables?.[name.slice('tables.'.length)]);
}

function replaced(inputs: AttentionInputs, name: GradientName, moved: HostTensor): AttentionInputs {
  if (name === 'query' || name === 'key' || name === 'value') return { ...inputs, [name]: moved };
  return { ...inputs, tables: { ...inputs.tables, [name.slice('tables.'.length)]: moved } };
}

function hostOf(source: AttentionInputs['query'] | undefined): HostTensor {
  if (source === undefined || !isHostTensor(source)) throw new Error('The suite draws host tensors, and the reference returns them.');
  return source;
}

function wide(source: AttentionInputs['query']): HostTensor {
  const host = hostOf(source);
  return host.dtype === 'f64' ? host : tensor(toFloat64(host), host.shape);
}

async function matchFastDifferences(context: CaseContext, call: FastCall): Promise<void> {
  const { random } = context;
  const { length } = call.shape;
  const forward = await context.expectedFast(call.request, call.inputs);
  const state = Object.fromEntries(Object.entries(stateSizes(call)).map(([name, sizes]) => [name, tensor(Float32Array.from(normals(random, sizes), (value) => (name === 'normalizer' ? 2 + Math.abs(value) : 0.5 * value)), sizes)]));
  const names = [...(['query', 'key', 'value', 'logDecay', 'writeStrength', 'removalKey', 'removalWeight'] as const).filter((name) => call.inputs[name] !== undefined), ...Object.keys(state).map((name) => `state.${name}` as const)];
  const request: FastWeightRequest = { ...call.request, gradients: names };
  const outputSizes = [1, 2, length, 2];
  const output = tensor(Float32Array.from(normals(random, outputSizes)), outputSizes);
  const finalState = Object.fromEntries(Object.entries(stateSizes(call)).map(([name, sizes]) => [name, tensor(Float32Array.from(normals(random, sizes)), sizes)]));
  const inputs = { ...call.inputs, state };
  const kernel = await context.fastKernel(request);
  const { saved } = await kernel.run(inputs);
  context.check(forward.output.length > 0 && saved !== undefined, () => 'A forward call of a request with gradients saved nothing.');
  if (saved === undefined) return;
  const gradients = await kernel.backward(inputs, saved, { output, state: finalState });
  const reference = await context.reference.prepare({ ...call.request, dtypes: { query: 'f64', key: 'f64', value: 'f64', output: 'f64' } });
  const loss = async (moved: typeof inputs): Promise<number> => {
    const result = await reference.run({ ...moved, query: wide(moved.query), key: wide(moved.key), value: wide(moved.value) });
    let sum = weighted(hostOf(result.output), toFloat64(output));
    for (const [name, part] of Object.entries(result.state)) sum += weighted(hostOf(part), toFloat64(hostOf(finalState[name])));
    return sum;
  };
  for (const name of names) {
    const part = name.startsWith('state.') ? name.slice('state.'.length) : null;
    const source = hostOf(part === null ? call.inputs[name as 'query'] : state[part]);
    const want = await differences(source, (moved) => loss(part === null ? { ...inputs, [name]: moved } : { ...inputs, state: { ...state, [part]: moved } }));
    const gradient = gradients[name];
    context.close(`gradient of ${name}`, gradient === undefined ? null : await context.values(gradient), want, float32Gradient.bound({ length, dim: 3, dtype: 'f32', magnitude: largest(want) }));
  }
}

function stateSizes(call: FastCall): Readonly<Record<string, readonly number[]>> {
  const width = call.shape.dim;
  const memory = [1, 2, width, call.shape.valueDim];
  return call.request.variant.rowSum === null ? { memory } : { memory, normalizer: [1, 2, width] };
}
