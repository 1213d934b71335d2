import type { Case } from '../case.ts';
import { defineCase } from '../case.ts';
import type { Shape } from '../inputs.ts';
import { normalizations, toleranceOf, variantsByStage } from '../variants.ts';
import { drawCall, matchReference } from '../attend.ts';

/** A prefill with a past, and a decode step; dims suit every variant. */
const shapes: Readonly<Record<string, Shape>> = {
  prefill: { batch: 2, heads: 4, keyHeads: 2, queryLength: 9, keyLength: 13, queryDim: 8, keyDim: 8, valueDim: 5 },
  decode: { batch: 2, heads: 4, keyHeads: 2, queryLength: 1, keyLength: 17, queryDim: 8, keyDim: 8, valueDim: 5 },
};

/** Every stage member of core, one at a time, against the reference. */
export const stageCases: readonly Case[] = [
  ...Object.entries(variantsByStage).flatMap(([stage, named]) =>
    Object.entries(named).flatMap(([name, { make, tables, score }]) =>
      Object.entries(shapes).map(([call, shape]) =>
        defineCase({ name: `${stage}/${name}`, parameters: { call }, plan: `A ${call} of ${name} (${shape.queryLength} queries at the end of ${shape.keyLength} keys) is that of the reference.`, tolerance: toleranceOf(make(shape)) }, async (context) => {
          const variant = make(shape);
          await matchReference(context, drawCall(context, variant, shape, { ...tables?.(shape), inputs: { queryOffset: 'end' } }), toleranceOf(variant), score === undefined ? {} : { score });
        }),
      ),
    ),
  ),
  ...Object.entries(normalizations).flatMap(([name, make]) =>
    Object.entries(shapes).map(([call, shape]) =>
      defineCase({ name: `normalization/${name}`, parameters: { call }, plan: `A ${call} under ${name} (${shape.queryLength} queries at the end of ${shape.keyLength} keys) is that of the reference.`, tolerance: toleranceOf(make()) }, async (context) => {
        await matchReference(context, drawCall(context, make(), shape, { inputs: { queryOffset: 'end' } }), toleranceOf(make()));
      }),
    ),
  ),
];
