import type { Case } from '../case.ts';
import { defineCase } from '../case.ts';
import { drawFastCall, recurrentRules, trainingRules } from '../fast-inputs.ts';
import { float32Recurrence } from '../tolerance.ts';
import { largest } from '../attend.ts';

const shapes = [
  { batch: 1, heads: 1, valueHeads: 1, length: 1, dim: 1, valueDim: 1 },
  { batch: 2, heads: 1, valueHeads: 3, length: 63, dim: 40, valueDim: 64 },
  { batch: 1, heads: 2, valueHeads: 2, length: 127, dim: 64, valueDim: 17 },
] as const;

/** Every rule of core over odd sizes and storage types, against the reference. */
export const fastWeightCases: readonly Case[] = [
  ...Object.entries(recurrentRules).flatMap(([name, make]) =>
    shapes.flatMap((shape) =>
      (['f32', 'f16', 'bf16'] as const).map((dtype) =>
        defineCase(
          {
            name: `fast-weights/${name}`,
            parameters: { length: shape.length, dim: shape.dim, valueDim: shape.valueDim, dtype },
            laws: ['L12'],
            needs: ['fastWeights', ...(dtype === 'f32' ? [] : [`dtype:${dtype}` as const])],
            plan: `${name} over ${shape.length} tokens, dims ${shape.dim} and ${shape.valueDim}, ${shape.heads} heads and ${shape.valueHeads} value heads, ${dtype} to float32.`,
            tolerance: float32Recurrence,
          },
          async (context) => {
            const call = drawFastCall(context.random, make(), shape, { dtype });
            const got = await context.runFast(call.request, call.inputs);
            const want = await context.expectedFast(call.request, call.inputs);
            const setting = { length: shape.length, dim: shape.dim, dtype: 'f32' } as const;
            context.close('output', got.output, want.output, float32Recurrence.bound({ ...setting, magnitude: largest(want.output) }));
            for (const [part, state] of Object.entries(want.state)) context.close(`state ${part}`, got.state[part], state, float32Recurrence.bound({ ...setting, magnitude: largest(state) }));
          },
        ),
      ),
    ),
  ),
  ...Object.entries(trainingRules).map(([name, make]) =>
    defineCase({ name: `fast-weights/${name}`, parameters: { length: 33, dim: 16 }, laws: ['L12'], needs: ['fastWeights'], plan: `${name} over 33 tokens of width 16.`, tolerance: float32Recurrence }, async (context) => {
      const call = drawFastCall(context.random, make(), { batch: 1, heads: 2, valueHeads: 2, length: 33, dim: 16, valueDim: 16 });
      const got = await context.runFast(call.request, call.inputs);
      const want = await context.expectedFast(call.request, call.inputs);
      context.close('output', got.output, want.output, float32Recurrence.bound({ length: 33, dim: 16, dtype: 'f32', magnitude: largest(want.output) }));
    }),
  ),
];
