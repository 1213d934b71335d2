import type { DType, Layout } from '@heed/core';
import type { Case, Need } from '../case.ts';
import { defineCase } from '../case.ts';
import type { Distribution, Shape } from '../inputs.ts';
import { distributions } from '../inputs.ts';
import { coverPairs } from '../pairs.ts';
import { RandomSource } from '../random.ts';
import { toleranceOf, variants } from '../variants.ts';
import { drawCall, matchReference } from '../attend.ts';

/** The axes of the space that examples cover, every pair of values of two axes at least once where it fits. */
const axes = {
  variant: Object.keys(variants),
  lq: [1, 3, 17, 63, 65, 127, 257],
  lk: [1, 3, 17, 63, 65, 127, 257],
  dim: [1, 8, 40, 64, 80, 96, 128, 256],
  valueDim: [1, 8, 40, 64, 80, 96, 128, 256],
  heads: ['1/1', '4/4', '6/2', '8/1'],
  batch: [1, 2],
  dtype: ['f32', 'f16', 'bf16'],
  output: ['f32', 'same'],
  layout: ['bhld', 'blhd'],
  inputs: Object.keys(distributions),
} as const;

interface Example {
  readonly variant: string;
  readonly lq: number;
  readonly lk: number;
  readonly dim: number;
  readonly valueDim: number;
  readonly heads: string;
  readonly batch: number;
  readonly dtype: DType;
  readonly output: 'f32' | 'same';
  readonly layout: Layout;
  readonly inputs: Distribution;
}

/** Products of a call above this make the float64 reference slow. */
const mostProducts = 9e6;

function shapeOf(example: Example): Shape {
  const [heads = 1, keyHeads = 1] = example.heads.split('/').map(Number);
  return { batch: example.batch, heads, keyHeads, queryLength: example.lq, keyLength: example.lk, queryDim: example.dim, keyDim: example.dim, valueDim: example.valueDim };
}

/** False for what the reference takes too long for, what the variant does not suit, and inputs under which a variant has no stable answer. */
function fits(example: Partial<Example>): boolean {
  const { variant, lq = 1, lk = 1, dim = 8, valueDim = 1, heads = '1/1', batch = 1, dtype = 'f32', inputs = 'normal' } = example;
  const named = variant === undefined ? undefined : variants[variant];
  const [queryHeads = 1] = heads.split('/').map(Number);
  if (batch * queryHeads * lq * lk * (dim + valueDim) > mostProducts || batch * queryHeads * lq * lk > 70_000) return false;
  if (named !== undefined && example.dim !== undefined && named.suits?.(shapeOf({ heads, batch, lq, lk, dim, valueDim } as Example)) === false) return false;
  if (named !== undefined && example.lq !== undefined && example.lk !== undefined && named.suits?.(shapeOf({ heads, batch, lq, lk, dim: example.dim ?? 8, valueDim } as Example)) === false) return false;
  // ±10⁴ and 10⁻³⁹ do not fit f16; selections among equal scores and unnormalized weights of huge scores have no stable answer in float32.
  if ((inputs === 'hugeScores' || inputs === 'denormals') && dtype === 'f16') return false;
  if (variant !== undefined && inputs !== 'normal' && !robust.has(variant)) return false;
  return true;
}

/** Variants whose results are stable under every distribution: softmax of scores that grow no faster than products of rows. */
const robust: ReadonlySet<string> = new Set([
  'plainSoftmax', 'softmaxTemperature', 'softmaxSink', 'softmaxOffByOne', 'scaledDot', 'softcap', 'alibi', 'alibiSoftcap', 'additiveBias', 'causal', 'window', 'causalWindow', 'chunkedLocal', 'documents', 'causalDocuments', 'prefix', 'keyPaddingLeft',
  'keyPaddingRight', 'booleanMask', 'tree', 'dilated', 'neighbourhood', 'sinkTokens', 'stridedPattern', 'fixedPattern', 'globalTokens', 'userMask', 'cosine', 'l2Norm', 'outputGate', 'prepared',
]);

/** Every example, in an order that does not depend on how many are taken. */
export function allExamples(): readonly Example[] {
  return coverPairs(axes, (row) => fits(row), new RandomSource(20_261_120)) as unknown as readonly Example[];
}

/** Backend against reference: a seeded sample of the examples, or all. */
export function exampleCases(count: number | 'all', seed: number): readonly Case[] {
  if (count === 0) return [];
  const all = allExamples();
  const order = new RandomSource(seed).permutation(all.length);
  const chosen = count === 'all' ? all : order.slice(0, count).sort((a, b) => a - b).flatMap((index) => all[index] ?? []);
  return chosen.map(exampleCase);
}

function exampleCase(example: Example): Case {
  const { variant: name, dtype } = example;
  const named = variants[name];
  const shape = shapeOf(example);
  if (named === undefined) throw new Error(`There is no variant '${name}'.`);
  const variant = named.make(shape);
  const output = example.output === 'same' ? dtype : 'f32';
  const needs: readonly Need[] = ['attention', ...(dtype === 'f32' ? [] : [`dtype:${dtype}` as const])];
  const { variant: _variant, ...parameters } = example;
  return defineCase(
    {
      name: `examples/${name}`,
      parameters: { ...parameters },
      needs,
      plan: `${name}, ${shape.batch} × ${example.heads} heads, ${shape.queryLength} queries on ${shape.keyLength} keys, dims ${shape.queryDim} and ${shape.valueDim}, ${dtype} to ${output}, ${example.layout}; inputs: ${distributions[example.inputs]}.`,
      tolerance: toleranceOf(variant),
    },
    async (context) => {
      const call = drawCall(context, variant, shape, {
        dtype,
        output,
        layout: example.layout,
        distribution: example.inputs,
        ...named.tables?.(shape),
        inputs: { queryOffset: Math.max(0, shape.keyLength - shape.queryLength) },
      });
      await matchReference(context, call, toleranceOf(variant), { score: largestScore(example.inputs, named.score ?? 4) });
    },
  );
}

/** How large scores get: what the variant says for N(0, 1), more where one key is 20 times as long or scores are meant to be huge. */
function largestScore(distribution: Distribution, usual: number): number {
  if (distribution === 'hugeScores') return 1e4;
  return distribution === 'dominantScore' ? 20 * usual : usual;
}
