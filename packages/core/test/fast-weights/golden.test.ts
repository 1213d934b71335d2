import { describe, expect, test } from 'vitest';
import { additiveRule, decayRule, deltaRule, elementwise, gatedDeltaRule, kdaRule, rwkv7Rule, tensor } from '../../src/index.ts';
import type { FastWeightInputs, FastWeightOptions } from '../../src/index.ts';
import { expectClose, run, values } from './helpers.ts';

// Three tokens, width 2, worked out independently to six decimals; scale 1.
const query = tensor(Float64Array.of(1, 0, 0.5, 1, -1, 2), [1, 1, 3, 2]);
const key = tensor(Float64Array.of(1, 0, 0.6, 0.8, 0, 1), [1, 1, 3, 2]);
const value = tensor(Float64Array.of(1, -2, 3, 0.5, -1, 4), [1, 1, 3, 2]);
const writeStrength = tensor(Float64Array.of(1, 0.5, 0.25), [1, 1, 3]);
const byStep = tensor(Float64Array.of(0.9, 0.8, 0.5).map(Math.log), [1, 1, 3]);
const byChannel = tensor(Float64Array.of(0.9, 0.8, 0.7, 0.6, 0.5, 0.4).map(Math.log), [1, 1, 3, 2]);
const removalWeight = tensor(Float64Array.of(1, 1, 0.5, 0.5, 0.25, 0.25), [1, 1, 3, 2]);

interface Golden {
  readonly options: FastWeightOptions;
  readonly inputs?: Partial<FastWeightInputs>;
  /** Rows 1 and 2; row 0 is the first value. */
  readonly rows: readonly number[];
  readonly state?: readonly number[];
}

const eluPlusOne = elementwise('eluPlusOne', ({ element }) => element.gt(0).select(element.add(1), element.exp()));

const cases: Readonly<Record<string, Golden>> = {
  'linear attention without denominator': { options: { rule: additiveRule(), scale: 1 }, rows: [3.8, -0.45, 0, 10.5] },
  'linear attention with elu + 1 and its row sum': {
    options: { rule: additiveRule(), scale: 1, transformQuery: [eluPlusOne], transformKey: [eluPlusOne], rowSum: { epsilon: 0 } },
    rows: [2.090909, -0.636364, 0.952863, 1.304622],
  },
  'retention with decay 0.9': { options: { rule: decayRule({ by: 'head' }), scale: 1 }, inputs: { logDecay: tensor(Float64Array.of(Math.log(0.9)), [1, 1, 1]) }, rows: [3.75, -0.35, -0.11, 10.07] },
  'gated linear attention, a decay for each channel': { options: { rule: decayRule({ by: 'channel' }), scale: 1 }, inputs: { logDecay: byChannel }, rows: [3.65, -0.15, -1.33, 8.87] },
  'delta rule': { options: { rule: deltaRule(), scale: 1 }, inputs: { writeStrength }, rows: [1.82, -0.065, -0.78, 4.51], state: [1.72, -1.49, 0.47, 1.51] },
  'gated delta rule': { options: { rule: gatedDeltaRule(), scale: 1 }, inputs: { writeStrength, logDecay: byStep }, rows: [1.786, 0.003, -0.522, 3.019], state: [0.778, -0.581, 0.128, 1.219] },
  'Kimi delta attention': { options: { rule: kdaRule(), scale: 1 }, inputs: { writeStrength, logDecay: byChannel }, rows: [1.769, 0.037, -0.6178, 2.8206], state: [0.737, -0.499, 0.0596, 1.1608] },
  'RWKV-7 removes by the undecayed state': { options: { rule: rwkv7Rule(), scale: 1 }, inputs: { logDecay: byChannel, removalKey: key, removalWeight }, rows: [3.32, 0.51, -2.512, 8.634] },
};

describe('three tokens, worked out by hand', () => {
  test.each(Object.entries(cases))('%s', async (_name, { options, inputs, rows, state }) => {
    const result = await run(options, { query, key, value, ...inputs });
    expectClose(values(result.output), [1, -2, ...rows], 1e-6);
    if (state !== undefined) expectClose(values(result.state['memory']), state, 1e-6);
  });

  test('the final state of linear attention is the sum of k vᵀ, and of the normalizer that of k', async () => {
    const { state } = await run({ rule: additiveRule(), scale: 1, rowSum: { epsilon: 0 } }, { query, key, value });
    expectClose(values(state['memory']), [1 + 0.6 * 3, -2 + 0.6 * 0.5, 0.8 * 3 - 1, 0.8 * 0.5 + 4]);
    expectClose(values(state['normalizer']), [1.6, 1.8]);
    expect(state['normalizer']?.shape).toEqual([1, 1, 2]);
  });
});
