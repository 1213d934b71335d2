import type { FastWeightInputs, HostTensor } from '@heed/core';
import { additiveRule, attention, causal, dot, eluFeatures, fastWeights, gatedDeltaRule, isHostTensor, kdaRule, l2Norm, deltaRule, rowSum, slice, tensor, toFloat64 } from '@heed/core';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import type { CaseContext, FastNumbers } from '../../context.ts';
import type { FastCall, FastShape } from '../../fast-inputs.ts';
import { drawFastCall, recurrentRules, smallFastShape, trainingRules } from '../../fast-inputs.ts';
import type { PlainRecurrence } from '../../plain-recurrence.ts';
import { plainRecurrence } from '../../plain-recurrence.ts';
import { float32Attention, float32Recurrence } from '../../tolerance.ts';
import { largest } from '../../attend.ts';

const needs = ['fastWeights'] as const;
const plainRules = ['additive', 'decayByHead', 'decayByStep', 'decayByChannel', 'delta', 'gatedDelta', 'kda', 'rwkv7'] as const;
const trainingShape: FastShape = { batch: 2, heads: 2, valueHeads: 2, length: 13, dim: 6, valueDim: 6 };

/** L12: decay, write, read; state in, state out; chunks change nothing. */
export const recurrenceCases: readonly Case[] = [
  ...plainRules.flatMap((name) =>
    [1, 17, 65].map((length) =>
      lawCase('L12', { parameters: { rule: name, length }, needs, plan: `${name} over ${length} tokens, from a state that is not zero, is its recurrence written out token by token: output and final state.`, tolerance: float32Recurrence }, async (context) => {
        const variant = recurrentRules[name]?.() ?? fastWeights({ rule: additiveRule() });
        const call = drawFastCall(context.random, variant, { ...smallFastShape, length });
        const state = tensor(Float32Array.from({ length: 2 * 4 * 8 * 6 }, () => 0.5 * context.random.normal()), [2, 4, 8, 6]);
        const inputs = { ...call.inputs, state: { memory: state } };
        const want = plainOf(call, name, toFloat64(state));
        compareFast(context, call, await context.runFast(call.request, inputs), want);
      }),
    ),
  ),
  ...Object.entries({ ...recurrentRules, ...trainingRules }).flatMap(([name, make]) =>
    [[1], [6, 7], [4, 8, 12]].map((cuts) =>
      lawCase('L12', { name: 'segments', parameters: { rule: name, cuts: cuts.join('-') }, needs, plan: `${name}: a sequence cut at ${cuts.join(', ')}, the state of each part handed to the next, gives the output and state of the whole.`, tolerance: float32Recurrence }, async (context) => {
        const call = drawFastCall(context.random, make(), name in trainingRules ? trainingShape : { ...smallFastShape, length: 13 });
        const whole = await context.expectedFast(call.request, call.inputs);
        compareFast(context, call, await runSegments(context, call, cuts), whole);
      }),
    ),
  ),
  ...Object.entries(recurrentRules).map(([name, make]) =>
    lawCase('L12', { name: 'chunks', parameters: { rule: name, length: 130 }, needs, plan: `${name} over 130 tokens, more than two chunks of 64 and a ragged tail, is the reference's recurrence.`, tolerance: float32Recurrence }, async (context) => {
      const call = drawFastCall(context.random, make(), { batch: 1, heads: 1, valueHeads: 2, length: 130, dim: 8, valueDim: 5 });
      compareFast(context, call, await context.runFast(call.request, call.inputs), await context.expectedFast(call.request, call.inputs));
    }),
  ),
  ...Object.entries(trainingRules).map(([name, make]) =>
    lawCase('L12', { name: 'training', parameters: { rule: name }, needs, plan: `${name} over 13 tokens, output and every tensor of its state.`, tolerance: float32Recurrence }, async (context) => {
      const call = drawFastCall(context.random, make(), trainingShape);
      compareFast(context, call, await context.runFast(call.request, call.inputs), await context.expectedFast(call.request, call.inputs));
    }),
  ),
  ...[0, -1e-6, -20, -Infinity].flatMap((logDecay) =>
    [0, 1, 2].map((strength) =>
      lawCase('L12', { name: 'extremes', parameters: { logDecay, strength }, needs, plan: `Gated delta with every log decay ${logDecay} and every write strength ${strength}, 33 tokens: finite and right.`, tolerance: float32Recurrence }, async (context) => {
        const variant = fastWeights({ rule: gatedDeltaRule(), transformKey: [l2Norm()] });
        const call = drawFastCall(context.random, variant, { ...smallFastShape, length: 33 }, { logDecay, strength });
        compareFast(context, call, await context.runFast(call.request, call.inputs), plainOf(call, 'gatedDelta'));
      }),
    ),
  ),
  ...(['delta', 'kda'] as const).map((name) =>
    lawCase('L12', { name: 'near-duplicate-keys', parameters: { rule: name }, needs, plan: `${name} with 65 keys that are almost the same: the worst case for a triangular solve inside chunks.`, tolerance: float32Recurrence }, async (context) => {
      const call = drawFastCall(context.random, recurrentRules[name]?.() ?? fastWeights({ rule: deltaRule() }), { ...smallFastShape, length: 65 }, { nearDuplicateKeys: true });
      compareFast(context, call, await context.runFast(call.request, call.inputs), plainOf(call, name));
    }),
  ),
  lawCase('L12', { name: 'last-write-wins', needs, plan: 'Writing one unit key twice with strength 1 keeps only the second value: delta reads it back, where the additive rule has the sum.', tolerance: float32Recurrence }, async (context) => {
    const shape = { batch: 1, heads: 1, valueHeads: 1, length: 2, dim: 4, valueDim: 3 };
    const row = [0, 1, 0, 0];
    const inputs = { query: tensor([...row, ...row], [1, 1, 2, 4]), key: tensor([...row, ...row], [1, 1, 2, 4]), value: tensor([1, 2, 3, -4, 5, 6], [1, 1, 2, 3]) };
    const delta = await context.runFast({ variant: fastWeights({ rule: deltaRule(), scale: 1 }), dim: shape.dim, valueDim: shape.valueDim }, { ...inputs, writeStrength: tensor([1, 1], [1, 1, 2]) });
    const bound = float32Recurrence.bound({ length: 2, dim: 4, dtype: 'f32', magnitude: 8 });
    context.close('delta', delta.output, [1, 2, 3, -4, 5, 6], bound);
    const additive = await context.runFast({ variant: fastWeights({ rule: additiveRule(), scale: 1 }), dim: 4, valueDim: 3 }, inputs);
    context.close('additive', additive.output, [1, 2, 3, -3, 7, 9], bound);
  }),
  lawCase('L12', { name: 'equal-channels', needs, plan: 'KDA whose channels decay alike is gated delta; gated delta that does not decay is delta.', tolerance: float32Recurrence }, async (context) => {
    const call = drawFastCall(context.random, fastWeights({ rule: gatedDeltaRule(), transformKey: [l2Norm()] }), smallFastShape);
    const gated = await context.runFast(call.request, call.inputs);
    const decay = toFloat64(hostOf(call.inputs.logDecay));
    const channels = tensor(Float32Array.from({ length: decay.length * 8 }, (_, index) => decay[Math.floor(index / 8)] ?? 0), [2, 4, 17, 8]);
    const kda = await context.runFast({ ...call.request, variant: fastWeights({ rule: kdaRule(), transformKey: [l2Norm()] }) }, { ...call.inputs, logDecay: channels });
    compareFast(context, call, kda, gated);
    const still = await context.runFast(call.request, { ...call.inputs, logDecay: tensor(new Float32Array(decay.length), [2, 4, 17]) });
    const { logDecay: _none, ...withoutDecay } = call.inputs;
    compareFast(context, call, await context.runFast({ ...call.request, variant: fastWeights({ rule: deltaRule(), transformKey: [l2Norm()] }) }, withoutDecay), still);
  }),
  lawCase('L12', { name: 'two-readings', needs: ['fastWeights', 'attention'], plan: 'Linear attention is one function: elu + 1 features with a causal mask and a row sum, as pairs and as the additive rule.', tolerance: float32Attention }, async (context) => {
    const shape = { ...smallFastShape, valueHeads: 2, length: 33 };
    const call = drawFastCall(context.random, fastWeights({ rule: additiveRule(), transformQuery: [eluFeatures()], transformKey: [eluFeatures()], rowSum: { epsilon: 1e-6 }, scale: 1 }), shape);
    const pairs = await context.run({ variant: attention({ scoring: dot().transform(eluFeatures()), masking: causal(), normalization: rowSum() }), queryDim: 8, keyDim: 8, valueDim: 6 }, { query: call.inputs.query, key: call.inputs.key, value: call.inputs.value });
    const fast = await context.runFast(call.request, call.inputs);
    context.close('output', fast.output, pairs.output, float32Attention.bound({ length: 33, dim: 8, dtype: 'f32', magnitude: 4 }));
  }),
  ...Object.entries(recurrentRules).map(([name, make]) =>
    lawCase('L12', { name: 'packed', parameters: { rule: name }, laws: ['L15'], needs: ['fastWeights', 'packed'], plan: `${name}: packed sequences of 5, 1 and 7 tokens each begin anew and end with a state of their own.`, tolerance: float32Recurrence }, async (context) => {
      const ends = [0, 5, 6, 13];
      const call = drawFastCall(context.random, make(), { ...smallFastShape, batch: 1, length: 13 });
      const packed = await context.runFast(call.request, { ...call.inputs, packed: ends });
      for (const [index, start] of ends.slice(0, -1).entries()) {
        const end = ends[index + 1] ?? start;
        const alone = await context.expectedFast(call.request, tokens(call, start, end));
        const rows = Float64Array.from({ length: 4 * (end - start) * 6 }, (_, flat) => packed.output[(Math.floor(flat / ((end - start) * 6)) * 13 + start) * 6 + (flat % ((end - start) * 6))] ?? 0);
        const state = Object.fromEntries(Object.entries(packed.state).map(([part, values]) => [part, values.subarray((index * values.length) / 3, ((index + 1) * values.length) / 3)]));
        compareFast(context, call, { output: rows, state }, alone);
      }
    }),
  ),
];

/** Output and every tensor of the state. */
function compareFast(context: CaseContext, call: FastCall, got: FastNumbers, want: FastNumbers): void {
  const setting = { length: call.shape.length, dim: call.shape.dim, dtype: call.request.dtypes?.output ?? 'f32' };
  context.close('output', got.output, want.output, float32Recurrence.bound({ ...setting, magnitude: largest(want.output) }));
  for (const [name, state] of Object.entries(want.state)) {
    // Gathered tokens past the number that are filled mean nothing.
    if (name === 'keys' || name === 'values') continue;
    context.close(`state ${name}`, got.state[name], state, float32Recurrence.bound({ ...setting, dtype: 'f32', magnitude: largest(state) }));
  }
}

/** The recurrence of each value head, written out. */
function plainOf(call: FastCall, rule: (typeof plainRules)[number], state?: Float64Array): FastNumbers {
  const { batch, heads, valueHeads, length, dim, valueDim } = call.shape;
  const normalized = rule === 'delta' || rule === 'gatedDelta' || rule === 'kda';
  const part = (source: HostTensor, lane: number, width: number): Float64Array => toFloat64(source).subarray(lane * length * width, (lane + 1) * length * width);
  const output = new Float64Array(batch * valueHeads * length * valueDim);
  const memory = new Float64Array(batch * valueHeads * dim * valueDim);
  const { logDecay, writeStrength, removalKey, removalWeight } = call.inputs;
  const decays = logDecay === undefined ? null : toFloat64(hostOf(logDecay));
  const strengths = writeStrength === undefined ? null : toFloat64(hostOf(writeStrength));
  for (let lane = 0; lane < batch * valueHeads; lane++) {
    const valueHead = lane % valueHeads;
    const source = Math.floor(lane / valueHeads) * heads + Math.floor((valueHead * heads) / valueHeads);
    const key = part(call.inputs.key, source, dim);
    const decayAt = (token: number, channel: number): number => {
      if (rule === 'decayByHead') return Math.exp(decays?.[valueHead] ?? 0);
      if (rule === 'decayByStep' || rule === 'gatedDelta') return Math.exp(decays?.[lane * length + token] ?? 0);
      return Math.exp(decays?.[(lane * length + token) * dim + channel] ?? 0);
    };
    const plain: PlainRecurrence = {
      length,
      width: dim,
      valueDim,
      scale: rule === 'additive' || rule === 'decayByStep' || rule === 'rwkv7' ? 1 : dim ** -0.5,
      query: part(call.inputs.query, source, dim),
      key: normalized ? unitRows(key, dim) : key,
      value: part(call.inputs.value, lane, valueDim),
      delta: normalized,
      ...(decays === null ? {} : { decay: decayAt }),
      ...(strengths === null ? {} : { strength: (token: number) => strengths[lane * length + token] ?? 0 }),
      ...(removalKey === undefined || removalWeight === undefined ? {} : { removal: { key: part(hostOf(removalKey), lane, dim), weight: part(hostOf(removalWeight), lane, dim) } }),
      ...(state === undefined ? {} : { state: state.subarray(lane * dim * valueDim, (lane + 1) * dim * valueDim) }),
    };
    const result = plainRecurrence(plain);
    output.set(result.output, lane * length * valueDim);
    memory.set(result.state, lane * dim * valueDim);
  }
  return { output, state: { memory } };
}

function unitRows(rows: Float64Array, dim: number): Float64Array {
  return rows.map((value, index) => {
    const row = rows.subarray(index - (index % dim), index - (index % dim) + dim);
    return value / Math.sqrt(row.reduce((sum, one) => sum + one * one, 0));
  });
}

function hostOf(source: FastWeightInputs['query'] | undefined): HostTensor {
  if (source === undefined || !isHostTensor(source)) throw new Error('The suite draws host tensors.');
  return source;
}

/** Tokens start … end − 1 of a call. A decay by head has no tokens. */
function tokens(call: FastCall, start: number, end: number): FastWeightInputs {
  const parts: Record<string, HostTensor> = {};
  for (const name of ['query', 'key', 'value', 'logDecay', 'writeStrength', 'removalKey', 'removalWeight', 'momentum'] as const) {
    const source = call.inputs[name];
    if (source === undefined) continue;
    const host = hostOf(source);
    parts[name] = host.shape[2] === 1 && call.shape.length !== 1 ? host : slice(host, 2, start, end);
  }
  return { ...call.inputs, ...parts };
}

async function runSegments(context: CaseContext, call: FastCall, cuts: readonly number[]): Promise<FastNumbers> {
  const kernel = await context.fastKernel(call.request);
  const { batch, valueHeads, length, valueDim } = call.shape;
  const output = new Float64Array(batch * valueHeads * length * valueDim);
  const ends = [0, ...cuts, length];
  let state: FastWeightInputs['state'];
  let last: FastNumbers = { output, state: {} };
  for (const [index, start] of ends.slice(0, -1).entries()) {
    const end = ends[index + 1] ?? start;
    const outputs = await kernel.run({ ...tokens(call, start, end), ...(state === undefined ? {} : { state }) });
    last = await context.fastNumbers(outputs);
    const rows = (end - start) * valueDim;
    for (let lane = 0; lane < batch * valueHeads; lane++) output.set(last.output.subarray(lane * rows, (lane + 1) * rows), (lane * length + start) * valueDim);
    ({ state } = outputs);
  }
  return { output, state: last.state };
}
