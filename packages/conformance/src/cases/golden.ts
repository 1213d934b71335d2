import type { AttentionVariant, FastWeightVariant, HostTensor } from '@heed/core';
import {
  additiveRule, alibi, attention, based, causal, decayRule, deltaRule, dot, eluFeatures, entmax, fastWeights, gatedDeltaRule, kdaRule, laser, modifier, none, rope, rowSum, rwkv7Rule,
  scaledDot, sigmoid, slice, softcap, softmax, softmaxOffByOne, sparsemax, tensor, window,
} from '@heed/core';
import { finalize, merge } from '@heed/core/compute';
import type { Case, Law } from '../case.ts';
import { defineCase } from '../case.ts';
import { sixDecimals } from '../tolerance.ts';
import { hostPartial } from '../shards.ts';

const bound = sixDecimals.bound({ length: 3, dim: 2, dtype: 'f32' });
const sizes = [1, 1, 3, 2] as const;
const query = tensor([1, 0, 0.5, 1, -1, 2], sizes);
const key = tensor([1, 0, 0.6, 0.8, 0, 1], sizes);
const value = tensor([1, -2, 3, 0.5, -1, 4], sizes);
const first = [1, -2] as const;

interface Golden {
  readonly variant: AttentionVariant;
  readonly output: readonly number[];
  readonly logSumExp?: readonly number[];
  readonly laws?: readonly Law[];
  readonly tables?: Readonly<Record<string, HostTensor>>;
}

/** 1 + s + s²/2 of the scaled score, the polynomial that `based` features multiply out. */
const taylor = modifier('taylor', ({ score }) => score.add(1).add(score.mul(score).mul(0.5)));

/** Three queries, three keys, width 2 (VARIANTS 13): computed outside of this project to six decimals. */
const pairs: Readonly<Record<string, Golden>> = {
  full: { variant: attention(), output: [1.231957, 0.15538, 1.052799, 1.128555, 0.37142, 2.484149], logSumExp: [1.516572, 1.727923, 1.892273], laws: ['L5', 'L18'] },
  causal: { variant: attention({ masking: causal() }), output: [...first, 2.209006, -0.488742, 0.37142, 2.484149], logSumExp: [0.707107, 1.281166, 1.892273], laws: ['L3', 'L5'] },
  causalWindow: { variant: attention({ masking: window({ left: 1, right: 0 }) }), output: [...first, 2.209006, -0.488742, 0.320954, 2.844165], laws: ['L4'] },
  sinkZero: { variant: attention({ masking: causal(), normalization: softmax({ sink: true }) }), tables: { sink: tensor([0], [1]) }, output: [0.669762, -1.339523, 1.728875, -0.382513, 0.32277, 2.158761], laws: ['L7'] },
  offByOne: { variant: attention({ masking: causal(), normalization: softmaxOffByOne() }), output: [0.669762, -1.339523, 1.728875, -0.382513, 0.32277, 2.158761], laws: ['L7'] },
  alibi: { variant: attention({ masking: causal(), scoring: scaledDot().modify(alibi()) }), tables: { slopes: tensor([0.5], [1]) }, output: [...first, 2.43182, -0.210225, -0.043716, 3.023714], laws: ['L2', 'L3'] },
  softcap: { variant: attention({ masking: causal(), scoring: scaledDot().modify(softcap(0.5)) }), output: [...first, 2.076314, -0.654607, 0.956415, 1.578977], laws: ['L2'] },
  laser: { variant: attention({ masking: causal(), aggregation: laser() }), output: [...first, 2.581492, 0.048963, 1.882537, 3.537013] },
  eluRowSum: { variant: attention({ scoring: dot().transform(eluFeatures()), masking: causal(), normalization: rowSum({ epsilon: 0 }) }), output: [...first, 2.090909, -0.636364, 0.952863, 1.304622] },
  none: { variant: attention({ scoring: dot(), masking: causal(), normalization: none() }), output: [...first, 3.8, -0.45, 0, 10.5] },
  based: { variant: attention({ scoring: dot().transform(based()), masking: causal(), normalization: rowSum({ epsilon: 0 }) }), output: [...first, 2.189987, -0.512517, 0.507253, 2.291027] },
  basedPolynomial: { variant: attention({ scoring: scaledDot().modify(taylor), masking: causal(), normalization: rowSum({ epsilon: 0 }) }), output: [...first, 2.189987, -0.512517, 0.507253, 2.291027], laws: ['L2'] },
};

/** One query that gives the scores z = [1, ½, −0.2, −1] and the values of the identity, so that the output is the row of weights (VARIANTS 5). */
const scores = [1, 0.5, -0.2, -1] as const;
const rows: Readonly<Record<string, Golden>> = {
  softmax: { variant: attention({ scoring: dot() }), output: [0.489462, 0.296874, 0.147423, 0.066241], logSumExp: [1.714449], laws: ['L5'] },
  offByOne: { variant: attention({ scoring: dot(), normalization: softmaxOffByOne() }), output: [0.414776, 0.251574, 0.124928, 0.056134], laws: ['L7'] },
  sparsemax: { variant: attention({ scoring: dot(), normalization: sparsemax() }), output: [0.75, 0.25, 0, 0] },
  entmax15: { variant: attention({ scoring: dot(), normalization: entmax(1.5) }), output: [0.649015, 0.308708, 0.042277, 0] },
  entmax2: { variant: attention({ scoring: dot(), normalization: entmax(2) }), output: [0.75, 0.25, 0, 0] },
  sigmoid: { variant: attention({ scoring: dot(), normalization: sigmoid() }), output: [0.40461, 0.291875, 0.169906, 0.084224] },
  exponentialRowSum: { variant: attention({ scoring: dot().modify(modifier('exponential', ({ score }) => score.exp())), normalization: rowSum({ epsilon: 0 }) }), output: [0.489462, 0.296874, 0.147423, 0.066241] },
};

const scalarGates = tensor([Math.log(0.9), Math.log(0.8), Math.log(0.5)], [1, 1, 3]);
const channelGates = tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4].map(Math.log), sizes);
const strengths = tensor([1, 0.5, 0.25], [1, 1, 3]);

interface FastGolden {
  readonly variant: FastWeightVariant;
  readonly inputs?: Readonly<Record<string, HostTensor>>;
  readonly output: readonly number[];
  readonly state?: readonly number[];
}

/** The same queries, keys and values through recurrences with scale 1 (VARIANTS 13). */
const fast: Readonly<Record<string, FastGolden>> = {
  linear: { variant: fastWeights({ rule: additiveRule(), scale: 1 }), output: [...first, 3.8, -0.45, 0, 10.5] },
  linearRowSum: { variant: fastWeights({ rule: additiveRule(), transformQuery: [eluFeatures()], transformKey: [eluFeatures()], rowSum: true, scale: 1 }), output: [...first, 2.090909, -0.636364, 0.952863, 1.304622] },
  retention: { variant: fastWeights({ rule: decayRule({ by: 'head' }), scale: 1 }), inputs: { logDecay: tensor([Math.log(0.9)], [1, 1, 1]) }, output: [...first, 3.75, -0.35, -0.11, 10.07] },
  gla: { variant: fastWeights({ rule: decayRule({ by: 'channel' }), scale: 1 }), inputs: { logDecay: channelGates }, output: [...first, 3.65, -0.15, -1.33, 8.87] },
  delta: { variant: fastWeights({ rule: deltaRule(), scale: 1 }), inputs: { writeStrength: strengths }, output: [...first, 1.82, -0.065, -0.78, 4.51], state: [1.72, -1.49, 0.47, 1.51] },
  gatedDelta: { variant: fastWeights({ rule: gatedDeltaRule(), scale: 1 }), inputs: { writeStrength: strengths, logDecay: scalarGates }, output: [...first, 1.786, 0.003, -0.522, 3.019], state: [0.778, -0.581, 0.128, 1.219] },
  kda: { variant: fastWeights({ rule: kdaRule(), scale: 1 }), inputs: { writeStrength: strengths, logDecay: channelGates }, output: [...first, 1.769, 0.037, -0.6178, 2.8206], state: [0.737, -0.499, 0.0596, 1.1608] },
  rwkv7: {
    variant: fastWeights({ rule: rwkv7Rule(), scale: 1 }),
    inputs: { logDecay: channelGates, removalKey: key, removalWeight: tensor([1, 1, 0.5, 0.5, 0.25, 0.25], sizes) },
    output: [...first, 3.32, 0.51, -2.512, 8.634],
  },
};

/** Constants computed outside of this project. */
export const goldenCases: readonly Case[] = [
  ...Object.entries(pairs).map(([name, golden]) =>
    defineCase({ name: 'golden/pairs', parameters: { variant: name }, laws: golden.laws ?? [], plan: `Three tokens of width 2 under ${name}: the published rows${golden.logSumExp === undefined ? '' : ' and logSumExp'}.`, tolerance: sixDecimals }, async (context) => {
      const got = await context.run({ variant: golden.variant, queryDim: 2, keyDim: 2, valueDim: 2 }, { query, key, value, ...(golden.tables === undefined ? {} : { tables: golden.tables }) });
      context.close('output', got.output, golden.output, bound);
      if (golden.logSumExp !== undefined && context.backend.capabilities.logSumExp) context.close('logSumExp', got.logSumExp, golden.logSumExp, bound);
    }),
  ),
  ...Object.entries(rows).map(([name, golden]) =>
    defineCase({ name: 'golden/row', parameters: { normalization: name }, laws: golden.laws ?? [], plan: `The scores 1, ½, −0.2, −1 under ${name}: the published weights.`, tolerance: sixDecimals }, async (context) => {
      const identity = tensor(Float32Array.from({ length: 16 }, (_, index) => (index % 5 === 0 ? 1 : 0)), [1, 1, 4, 4]);
      const got = await context.run({ variant: golden.variant, queryDim: 1, keyDim: 1, valueDim: 4 }, { query: tensor([1], [1, 1, 1, 1]), key: tensor(scores, [1, 1, 4, 1]), value: identity });
      context.close('weights', got.output, golden.output, bound);
      if (golden.logSumExp !== undefined && context.backend.capabilities.logSumExp) context.close('logSumExp', got.logSumExp, golden.logSumExp, bound);
    }),
  ),
  ...([['sparsemax', 0.5, 0.75], ['sparsemax', 2, 1], ['entmax15', 1, 0.830719], ['entmax15', 2.5, 1]] as const).map(([name, gap, want]) =>
    defineCase({ name: 'golden/two-classes', parameters: { normalization: name, gap }, plan: `${name} of the scores ${gap} and 0 gives the first ${want}: the closed form for two keys.`, tolerance: sixDecimals }, async (context) => {
      const variant = attention({ scoring: dot(), normalization: name === 'sparsemax' ? sparsemax() : entmax(1.5) });
      const got = await context.run({ variant, queryDim: 1, keyDim: 1, valueDim: 1 }, { query: tensor([1], [1, 1, 1, 1]), key: tensor([gap, 0], [1, 1, 2, 1]), value: tensor([1, 0], [1, 1, 2, 1]) });
      context.close('first weight', got.output, [want], bound);
    }),
  ),
  ...Object.entries(fast).map(([name, golden]) =>
    defineCase({ name: 'golden/recurrence', parameters: { rule: name }, laws: ['L12'], needs: ['fastWeights'], plan: `Three tokens of width 2 through ${name}: the published rows${golden.state === undefined ? '' : ' and final state'}.`, tolerance: sixDecimals }, async (context) => {
      const got = await context.runFast({ variant: golden.variant, dim: 2, valueDim: 2 }, { query, key, value, ...golden.inputs });
      context.close('output', got.output, golden.output, bound);
      if (golden.state !== undefined) context.close('state', got.state['memory'], golden.state, bound);
    }),
  ),
  defineCase({ name: 'golden/merge', laws: ['L13', 'L5'], needs: ['attention', 'partial', 'logSumExp'], plan: 'Query 2 over key 0 and over keys 1 and 2: the published rows and logSumExp of each, and of both merged.', tolerance: sixDecimals }, async (context) => {
    const request = { variant: attention(), queryDim: 2, keyDim: 2, valueDim: 2 };
    const kernel = await context.kernel(request);
    const last = slice(query, 2, 2, 3);
    const part = async (start: number, end: number): ReturnType<typeof hostPartial> => hostPartial(context, await kernel.partial({ query: last, key: slice(key, 2, start, end), value: slice(value, 2, start, end) }));
    const left = await part(0, 1);
    const right = await part(1, 3);
    for (const [name, one, row, log] of [['left', left, [1, -2], -0.707107], ['right', right, [0.320954, 2.844165], 1.815047]] as const) {
      context.close(`${name} accumulator`, await context.values(one.accumulator), row, bound);
      context.close(`${name} logSumExp`, one.statistics.logSumExp === undefined ? null : await context.values(one.statistics.logSumExp), [log], bound);
    }
    const merged = await context.numbers(finalize(request, merge([left, right]), { query: last, key, value }));
    context.close('merged output', merged.output, [0.37142, 2.484149], bound);
    context.close('merged logSumExp', merged.logSumExp, [1.892273], bound);
  }),
  defineCase({ name: 'golden/gradient', laws: ['L19'], needs: ['attention', 'gradients'], plan: 'The published gradients of query, key and value under a causal softmax.', tolerance: sixDecimals }, async (context) => {
    const kernel = await context.kernel({ variant: attention({ masking: causal() }), queryDim: 2, keyDim: 2, valueDim: 2, gradients: ['query', 'key', 'value'] });
    const inputs = { query, key, value };
    const { saved } = await kernel.run(inputs);
    context.check(saved !== undefined, () => 'The forward call saved nothing.');
    if (saved === undefined) return;
    const gradients = await kernel.backward(inputs, saved, { output: tensor([1, 0, 0, 1, 1, -1], sizes) });
    const want = {
      query: [0, 0, -0.169054, 0.338109, 0.866934, -0.4681],
      key: [-0.480002, 0.114731, -0.785766, 2.416803, 1.265767, -2.531535],
      value: [1.07432, 0.321177, 0.305695, 0.298808, 0.619985, -0.619985],
    };
    for (const [name, expected] of Object.entries(want)) {
      const gradient = gradients[name];
      context.close(`gradient of ${name}`, gradient === undefined ? null : await context.values(gradient), expected, { absolute: 2e-6, relative: 2 ** -20 });
    }
  }),
  ...([['interleaved', [-1.14264, 1.922076, 2.959851, 4.0298]], ['half', [-1.984111, 1.959901, 2.462378, 4.0198]]] as const).map(([pairing, want]) =>
    defineCase({ name: 'golden/rope', parameters: { pairing }, needs: ['attention', 'transformKeys'], plan: `The row 1, 2, 3, 4 at position 1, ${pairing}: the published rotation.`, tolerance: sixDecimals }, async (context) => {
      const kernel = await context.kernel({ variant: attention({ scoring: scaledDot().transform(rope({ pairing })) }), queryDim: 4, keyDim: 4, valueDim: 1 });
      context.close('rotated key', await context.values(await kernel.transformKeys({ key: tensor([1, 2, 3, 4], [1, 1, 1, 4]), keyOffset: 1 })), want, bound);
    }),
  ),
  ...([['interleaved', [-1.14264, 1.922076, 2.959851, 4.0298]], ['half', [-1.984111, 1.959901, 2.462378, 4.0198]]] as const).map(([pairing, want]) =>
    defineCase({ name: 'golden/rope-scores', parameters: { pairing }, laws: ['L3'], plan: `The same rotation seen as scores: queries that are unit rows at position 0 against the key at position 1, ${pairing}, weights not normalized.`, tolerance: sixDecimals }, async (context) => {
      const units = Float32Array.from({ length: 16 }, (_, index) => (index % 5 === 0 ? 1 : 0));
      const variant = attention({ scoring: dot().transformKey(rope({ pairing })), normalization: none() });
      const got = await context.run({ variant, queryDim: 4, keyDim: 4, valueDim: 1 }, { query: tensor(units, [1, 1, 4, 4]), key: tensor([1, 2, 3, 4], [1, 1, 1, 4]), value: tensor([1], [1, 1, 1, 1]), queryOffset: 0, keyOffset: 1 });
      context.close('scores', got.output, want, bound);
    }),
  ),
];
