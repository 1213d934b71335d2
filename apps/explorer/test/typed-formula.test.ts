import { evaluate, type Environment, type Expression } from '@heed/core';
import { expect, test } from 'vitest';
import { typedMask, typedScore } from '../src/model/typed-formula.ts';

/** A formula at one pair, from the meaning that core gives to expressions. */
function at(expression: Expression, inputs: Readonly<Record<string, number>>): number {
  const environment: Environment = { input: (name) => inputs[name] ?? Number.NaN, uniform: () => Number.NaN, table: () => Number.NaN, queryTable: () => Number.NaN, random: () => Number.NaN };
  return evaluate(expression, environment);
}

const pair = { score: 2, head: 1, queryPosition: 5, keyPosition: 3, queryLength: 8, keyLength: 9 };

test.each([
  ['score - 0.5 * abs(q - k)', 2 - 0.5 * 2],
  ['s * 2 + keyLength', 13],
  ['-score', -2],
  ['q > k ? score : -1', 2],
  ['max(score, 3) / 4', 0.75],
  ['tanh(score) * exp(0)', Math.tanh(2)],
  ['pow(score, 3)', 8],
  ['q / k', 5 / 3],
])('the score %s', (text, want) => {
  expect(at(typedScore(text).expression, pair)).toBeCloseTo(want, 10);
});

test.each([
  ['k <= q && (q - k) % 2 == 0', true],
  ['k > q || head == 1', true],
  ['!(k <= q)', false],
  ['q - k < 2', false],
])('the mask %s', (text, want) => {
  expect(Boolean(at(typedMask(text).allowed, pair))).toBe(want);
});

test.each(['score -', 'alert(1)', 'window.x', 'score.constructor', 'this', '"text"', 'a = 1', '`x`', 'nothing', 'score && 1', '[1, 2]', 'abs()', 'x'.repeat(600), 'keyPosition <= 0.5 ? "a" : 1'])('%s is refused as a score, and says why', (text) => {
  expect(() => typedScore(text)).toThrow(expect.objectContaining({ code: 'invalid-expression' }));
});

test.each(['q - k', 'score > 0', '1', 'k <= 0.5'])('%s is refused as a mask', (text) => {
  expect(() => typedMask(text)).toThrow(expect.objectContaining({ code: 'invalid-expression' }));
});
