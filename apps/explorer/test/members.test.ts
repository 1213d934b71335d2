import { createReferenceBackend } from '@heed/core/reference';
import { describe, expect, test } from 'vitest';
import { Caller } from '../src/model/call.ts';
import { headsFor } from '../src/model/heads.ts';
import { aggregations, maskings, modifiers, normalizations, scorings } from '../src/model/members.ts';
import { variantOf } from '../src/model/variant.ts';
import { initial, type ExplorerState } from '../src/state/state.ts';

const backend = createReferenceBackend();
const caller = new Caller();
const heads = headsFor(['the', 'bank', 'was', 'closed', 'because', 'it', 'was', 'late']);
const choices: readonly (readonly [string, Partial<ExplorerState>])[] = [
  ...Object.keys(scorings).map((scoring) => [`scoring ${scoring}`, { scoring }] as const),
  ...Object.keys(modifiers).map((name) => [`modifier ${name}`, { modifiers: [name] }] as const),
  ...Object.keys(maskings).map((masking) => [`masking ${masking}`, { masking }] as const),
  ...Object.keys(normalizations).map((normalization) => [`normalization ${normalization}`, { normalization }] as const),
  ...Object.keys(aggregations).map((aggregation) => [`aggregation ${aggregation}`, { aggregation }] as const),
  ['all modifiers at once', { modifiers: Object.keys(modifiers) }],
];

describe('every choice can be computed and gives numbers', () => {
  test.each(choices)('%s', async (_name, chosen) => {
    const described = variantOf({ ...initial, ...chosen }, { queryDim: 16, queryLength: 8 });
    expect(described.problems).toEqual([]);
    const { output, stages } = await caller.run(backend, described, heads, {});
    expect(output.every((number) => Number.isFinite(number))).toBe(true);
    expect(stages.weights.some((weight) => weight !== 0)).toBe(true);
  });
});
