import type { AttentionInputs, AttentionKernel, AttentionVariant, HostPartial } from '@heed/core';
import { attention, causal, slice } from '@heed/core';
import { finalize, merge, mergeClassOf } from '@heed/core/compute';
import type { Case } from '../../case.ts';
import { lawCase } from '../../case.ts';
import type { CaseContext } from '../../context.ts';
import type { Shape } from '../../inputs.ts';
import { smallShape } from '../../inputs.ts';
import { exact, float32Attention } from '../../tolerance.ts';
import { mergeable, notMergeable } from '../../variants.ts';
import type { Call } from '../../attend.ts';
import { compareNumbers, drawCall } from '../../attend.ts';
import { hostPartial } from '../../shards.ts';

const shape: Shape = { ...smallShape, queryLength: 5, keyLength: 13 };

function classOf(variant: AttentionVariant): string {
  return mergeClassOf(variant).mergeClass ?? 'none';
}

/** L13: what is computed over parts of the keys merges to the whole. */
export const mergeCases: readonly Case[] = [
  ...Object.entries(mergeable).flatMap(([name, variant]) =>
    [[6], [1, 2, 9], [0, 5, 5, 13]].map((cuts) =>
      lawCase(
        'L13',
        { parameters: { variant: name, cuts: cuts.join('-') }, needs: ['attention', 'partial'], plan: `${name} over keys cut at ${cuts.join(', ')} and merged in order is ${name} over all keys, finished once (class ${classOf(variant())}).`, tolerance: float32Attention },
        async (context) => {
          const call = draw(context, variant());
          const got = await mergedNumbers(context, call, await shards(context, call, cuts));
          compareNumbers(context, call, got, await context.expected(call.request, call.inputs), float32Attention);
        },
      ),
    ),
  ),
  ...Object.entries(mergeable).map(([name, variant]) =>
    lawCase('L13', { name: 'any-order', parameters: { variant: name }, needs: ['attention', 'partial'], plan: `${name}: merging the shards backwards, or the last two first, gives the same up to rounding; the same order twice gives the same bits.`, tolerance: float32Attention }, async (context) => {
      const call = draw(context, variant());
      const parts = await shards(context, call, [2, 7, 9]);
      const forward = await mergedNumbers(context, call, parts);
      compareNumbers(context, call, await mergedNumbers(context, call, [...parts].reverse()), forward, float32Attention);
      const [first, second, third, fourth] = parts;
      if (first !== undefined && second !== undefined && third !== undefined && fourth !== undefined) {
        compareNumbers(context, call, await mergedNumbers(context, call, [first, merge([second, merge([third, fourth])])]), forward, float32Attention);
      }
      const again = await mergedNumbers(context, call, await shards(context, call, [2, 7, 9]));
      context.sameBits('the same shards again', again.output, forward.output);
    }),
  ),
  lawCase('L13', { name: 'identity', needs: ['attention', 'partial'], plan: 'A shard whose keys no query may see is the identity, and −∞ with −∞ stays −∞: rows that see nothing in any shard are 0.', tolerance: float32Attention }, async (context) => {
    const call = drawCall(context, attention({ masking: causal() }), shape, { inputs: { queryOffset: -3 } });
    const got = await mergedNumbers(context, call, await shards(context, call, [2, 8]));
    compareNumbers(context, call, got, await context.expected(call.request, call.inputs), float32Attention);
    context.check(!got.output.some(Number.isNaN), () => 'The merged output has a NaN.');
  }),
  lawCase('L13', { name: 'class', needs: ['attention'], plan: 'A kernel names its merge class: the one that follows from the variant, null where partial results refuse.', tolerance: exact }, async (context) => {
    for (const [name, variant] of [...Object.entries(mergeable), ...Object.entries(notMergeable)]) {
      const call = draw(context, variant());
      if (!context.backend.assess(call.request).supported) continue;
      const kernel = await context.kernel(call.request);
      const want = classOf(variant());
      context.check(kernel.mergeClass === (want === 'none' ? null : want), () => `${name} has merge class ${String(kernel.mergeClass)}; expected ${want}.`);
    }
  }),
  ...Object.entries(notMergeable).map(([name, variant]) =>
    lawCase('L13', { name: 'refused', parameters: { variant: name }, laws: ['L20'], needs: ['attention', 'partial'], plan: `${name} needs the whole row: partial rejects with merge-refused, and run still answers.`, tolerance: exact }, async (context) => {
      const call = draw(context, variant());
      const kernel = await context.kernel(call.request);
      await context.refuses('partial', () => kernel.partial(call.inputs), 'merge-refused');
      context.check((await context.numbers(await kernel.run(call.inputs))).output.length > 0, () => 'run gives nothing afterwards.');
    }),
  ),
];

function draw(context: CaseContext, variant: AttentionVariant): Call {
  return drawCall(context, variant, shape, { inputs: { queryOffset: 8 } });
}

/** Partial results over the keys between the cuts, each shard saying where it stands and how long the whole is. */
async function shards(context: CaseContext, call: Call, cuts: readonly number[]): Promise<readonly HostPartial[]> {
  const kernel = await context.kernel(call.request);
  const ends = [0, ...cuts, call.shape.keyLength];
  const parts: HostPartial[] = [];
  for (const [index, start] of ends.slice(0, -1).entries()) parts.push(await shard(context, kernel, call, start, ends[index + 1] ?? start));
  return parts;
}

async function shard(context: CaseContext, kernel: AttentionKernel, call: Call, start: number, end: number): Promise<HostPartial> {
  const { key, value } = call.inputs;
  const inputs: AttentionInputs = {
    ...call.inputs,
    key: slice(key, 2, start, end),
    value: slice(value, 2, start, end),
    keyOffset: start,
    totalKeyLengths: new Array<number>(call.shape.batch).fill(call.shape.keyLength),
  };
  return hostPartial(context, await kernel.partial(inputs));
}

async function mergedNumbers(context: CaseContext, call: Call, parts: readonly HostPartial[]): Promise<Awaited<ReturnType<CaseContext['numbers']>>> {
  return context.numbers(finalize(call.request, merge(parts), call.inputs));
}
