import { describe, expect, test } from 'vitest';
import { differentiate } from '../../src/expression/differentiate.ts';
import { readsInput } from '../../src/expression/node.ts';
import { print } from '../../src/expression/print.ts';
import type { Formula, Normalization } from '../../src/index.ts';
import {
  attention, dropout, entmax, gumbel, hardMax, input, none, normalization, positionWeight, relu, reluSquared, reweighing, rowSum, sigmoid, softmax, softmaxOffByOne, sparsemax,
} from '../../src/index.ts';
import { codeOf } from '../code-of.ts';
import type { Inputs, Tables } from './place.ts';
import { valueOf, vector } from './place.ts';

function weightOf(member: Normalization, inputs: Inputs): number {
  return valueOf(member.rule.score, member, inputs);
}

describe('elementwise', () => {
  // z = [1, 0.5, −0.2, −1] with bias −ln 4.
  test.each([[1, 0.40461], [0.5, 0.291875], [-0.2, 0.169906], [-1, 0.084224]])('sigmoid of %d with n = 4', (score, weight) => {
    expect(weightOf(sigmoid({ length: 4 }), { score })).toBeCloseTo(weight, 6);
    expect(weightOf(sigmoid({ bias: -Math.log(4) }), { score })).toBeCloseTo(weight, 6);
    expect(weightOf(sigmoid(), { score, keyLength: 4, queryPosition: 9 })).toBeCloseTo(weight, 6);
    expect(weightOf(sigmoid({ length: 'position' }), { score, keyLength: 9, queryPosition: 3 })).toBeCloseTo(weight, 6);
  });

  test.each([sigmoid(), relu(), reluSquared()])('$name gives a score of −∞ no weight', (member) => {
    expect(weightOf(member, { score: -Infinity, keyLength: 4, queryPosition: 3 })).toBe(0);
  });

  test('relu divides by n', () => {
    expect(weightOf(relu({ length: 8 }), { score: 2 })).toBe(0.25);
    expect(weightOf(relu(), { score: 2, keyLength: 4, queryPosition: 0 })).toBe(0.5);
    expect(weightOf(relu({ length: 'position' }), { score: 2, keyLength: 4, queryPosition: 0 })).toBe(2);
    expect(weightOf(relu(), { score: -2, keyLength: 4, queryPosition: 0 })).toBe(0);
  });

  test('reluSquared divides the square by n', () => {
    expect(weightOf(reluSquared({ length: 8 }), { score: 4 })).toBe(2);
    expect(weightOf(reluSquared({ length: 8 }), { score: -4 })).toBe(0);
  });

  test('none is the score, and a user writes what they like', () => {
    expect(weightOf(none(), { score: -2.5 })).toBe(-2.5);
    expect(weightOf(normalization('squared', ({ score }) => score.mul(score)), { score: 3 })).toBe(9);
  });
});

describe('rules', () => {
  test('are what they say', () => {
    expect(softmax().rule).toMatchObject({ kind: 'softmax', sink: null });
    expect(sparsemax().rule).toMatchObject({ kind: 'threshold', alpha: 2 });
    expect(entmax(1.5).rule).toMatchObject({ kind: 'threshold', alpha: 1.5 });
    expect(hardMax().rule).toMatchObject({ kind: 'hardMax', score: input('score').node });
    expect(rowSum({ epsilon: 0.5 }).rule).toMatchObject({ kind: 'rowSum' });
    expect(rowSum({ epsilon: 0.5 }).uniforms).toMatchObject({ 'rowSum.epsilon': { type: 'f32', value: 0.5 } });
  });

  test('α and the rule are structure, ε and the temperature are not', () => {
    const structure = (member: Normalization): string => attention({ normalization: member }).structure;
    expect(structure(entmax(1.5))).not.toBe(structure(entmax(1.25)));
    expect(structure(entmax(2))).toBe(structure(sparsemax()));
    expect(structure(rowSum({ epsilon: 1 }))).toBe(structure(rowSum()));
    expect(structure(softmax({ temperature: 2 }))).toBe(structure(softmax({ temperature: 3 })));
    expect(structure(softmax({ temperature: 1 }))).not.toBe(structure(softmax()));
  });

  test('a sink is read by head, untouched by the temperature', () => {
    const member = softmax({ sink: 'logits', temperature: 2 });
    const { rule } = member;
    expect(rule.kind === 'softmax' && rule.sink !== null && valueOf(rule.sink, member, { head: 1 }, { logits: vector([3, 5]) })).toBe(5);
    expect(weightOf(member, { score: 6 })).toBe(3);
    expect(member.tables).toEqual({ logits: { type: 'f32', axes: ['head'] } });
  });

  test('softmaxOffByOne is the sink 0', () => {
    const { rule } = softmaxOffByOne();
    expect(rule.kind === 'softmax' && rule.sink !== null && print(rule.sink)).toBe('0.0');
  });

  test('gumbel noise has mean γ and variance π²/6 within four standard errors, and depends on the seed', () => {
    const noise = (seed: number): readonly number[] => {
      const member = gumbel({ seed, temperature: 1 });
      return Array.from({ length: 10_000 }, (_, index) => weightOf(member, { score: 0, batch: 0, head: 0, queryPosition: Math.floor(index / 100), keyPosition: index % 100 }));
    };
    const first = noise(1);
    const mean = first.reduce((sum, value) => sum + value, 0) / first.length;
    const deviation = Math.PI / Math.sqrt(6);
    expect(Math.abs(mean - 0.5772156649)).toBeLessThan((4 * deviation) / Math.sqrt(first.length));
    const variance = first.reduce((sum, value) => sum + (value - mean) ** 2, 0) / first.length;
    // The kurtosis of the distribution is 5.4.
    expect(Math.abs(variance - deviation ** 2)).toBeLessThan(4 * deviation ** 2 * Math.sqrt(4.4 / first.length));
    expect(noise(2)).not.toEqual(first);
  });

  test('gumbel divides score and noise by the temperature; hard draws by the noisy score', () => {
    const place = { score: 1, batch: 0, head: 0, queryPosition: 2, keyPosition: 3 };
    const noise = weightOf(gumbel({ seed: 5 }), place) - 1;
    expect(weightOf(gumbel({ seed: 5, temperature: 4 }), place)).toBeCloseTo((1 + noise) / 4, 12);
    expect(gumbel({ seed: 5, hard: true }).rule.kind).toBe('hardMax');
    expect(weightOf(gumbel({ seed: 5, hard: true, temperature: 4 }), place)).toBeCloseTo(1 + noise, 12);
  });
});

describe('reweighing', () => {
  const reweighed = (formula: Formula, inputs: Inputs, tables: Tables = {}): number => valueOf(formula.expression, formula, inputs, tables);

  test('positionWeight is a bell around the centre, not normalized', () => {
    const tables = { centers: { sizes: [1, 2, 3], data: [0, 0, 0, 0, 7.5, 0] } };
    const at = (keyPosition: number): number => reweighed(positionWeight({ deviation: 2 }), { weight: 0.5, batch: 0, head: 1, queryIndex: 1, keyPosition }, tables);
    expect(at(10)).toBeCloseTo(0.5 * Math.exp(-(2.5 ** 2) / 8), 12);
    expect(at(5)).toBe(at(10));
  });

  const places = Array.from({ length: 20_000 }, (_, index) => ({ weight: 1, batch: 0, head: 0, queryPosition: Math.floor(index / 200), keyPosition: index % 200 }));

  test('dropout drops a share p of the weights and keeps their mean, within four standard errors', () => {
    const weights = places.map((place) => reweighed(dropout({ probability: 0.3, seed: 1 }), place));
    const dropped = weights.filter((weight) => weight === 0).length / weights.length;
    expect(Math.abs(dropped - 0.3)).toBeLessThan(4 * Math.sqrt((0.3 * 0.7) / weights.length));
    for (const weight of weights) if (weight !== 0) expect(weight).toBeCloseTo(1 / 0.7, 12);
  });

  test('dropout of 0 changes nothing', () => {
    for (const place of places.slice(0, 1000)) expect(reweighed(dropout({ probability: 0, seed: 1 }), place)).toBe(1);
  });

  test('dropout and gumbel with one seed draw different numbers', () => {
    const member = gumbel({ seed: 1 });
    // Dropped are the places with small numbers; had they the same numbers, their noise would be small everywhere.
    const noiseOfDropped = places.filter((place) => reweighed(dropout({ probability: 0.5, seed: 1 }), place) === 0).map((place) => weightOf(member, { ...place, score: 0 }));
    expect(Math.max(...noiseOfDropped)).toBeGreaterThan(-Math.log(-Math.log(0.9)));
  });

  test.each([positionWeight({ deviation: 2 }), dropout({ probability: 0.3, seed: 1 })])('is linear in the weight (%#)', ({ expression }) => {
    expect(readsInput(differentiate(expression, input('weight').node), 'weight')).toBe(false);
  });

  test('appends: the second reads the weight that the first has changed', () => {
    const twice = softmax().reweighBy(reweighing('plusOne', ({ weight }) => weight.add(1))).reweighBy(reweighing('double', ({ weight }) => weight.mul(2)));
    expect(valueOf(twice.reweigh, twice, { weight: 3 })).toBe(8);
  });

  test('two of a kind keep their own seeds', () => {
    const twice = softmax().reweighBy(dropout({ probability: 0.1, seed: 1 })).reweighBy(dropout({ probability: 0.2, seed: 2 }));
    expect(Object.entries(twice.uniforms).map(([name, { value }]) => `${name}=${value}`))
      .toEqual(['dropout.probability=0.1', 'dropout.seed=1', 'dropout.probability#2=0.2', 'dropout.seed#2=2']);
    expect(print(twice.reweigh)).toContain('random($dropout.seed#2, 2)');
  });
});

describe('arguments', () => {
  test.each<[string, () => unknown]>([
    ['softmax({ temperature: 0 })', () => softmax({ temperature: 0 })],
    ['sigmoid with bias and length', () => sigmoid({ bias: 1, length: 4 })],
    ['sigmoid({ length: 0 })', () => sigmoid({ length: 0 })],
    ['relu({ length: -1 })', () => relu({ length: -1 })],
    ['entmax(1)', () => entmax(1)],
    ['entmax(Infinity)', () => entmax(Infinity)],
    ['rowSum({ epsilon: -1 })', () => rowSum({ epsilon: -1 })],
    ['gumbel without a seed', () => gumbel({} as { seed: number })],
    ['gumbel({ temperature: 0 })', () => gumbel({ seed: 1, temperature: 0 })],
    ['dropout({ probability: 1 })', () => dropout({ probability: 1, seed: 1 })],
    ['dropout with a fractional seed', () => dropout({ probability: 0.5, seed: 0.5 })],
    ['positionWeight({ deviation: 0 })', () => positionWeight({ deviation: 0 })],
  ])('refuses %s', (_, make) => {
    expect(codeOf(make)).toBe('invalid-argument');
  });
});
