import { attention, softmax } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { expect, test } from 'vitest';
import { Caller } from '../src/model/call.ts';
import { effectsOf, entropies, rowSums } from '../src/model/effect.ts';
import { headsFor } from '../src/model/heads.ts';
import { tokensOf } from '../src/model/tokens.ts';
import { plain } from '../src/model/variant.ts';

/** For each query, the key with the largest weight. */
async function strongest(text: string, name: string): Promise<readonly number[]> {
  const heads = headsFor(tokensOf(text));
  const result = await new Caller().run(createReferenceBackend(), plain(attention({ normalization: softmax() })), heads, {});
  const head = heads.names.indexOf(name);
  return Array.from({ length: result.queryLength }, (_, query) => {
    const start = (head * result.queryLength + query) * result.keyLength;
    const row = [...result.stages.weights.subarray(start, start + result.keyLength)];
    return row.indexOf(Math.max(...row));
  });
}

test('a head looks for what its name says', async () => {
  const text = 'The cat saw the dog and the cat slept .';
  const previous = await strongest(text, 'previous token');
  expect(previous.slice(1)).toEqual(previous.slice(1).map((_, index) => index));
  expect(new Set(await strongest(text, 'first token'))).toEqual(new Set([0]));
  const tokens = tokensOf(text).map((token) => token.toLowerCase());
  (await strongest(text, 'same token')).forEach((key, query) => expect(tokens[key]).toBe(tokens[query]));
  // Induction: behind an earlier place where the same word stood.
  const induction = await strongest(text, 'induction');
  expect(tokens[(induction[tokens.lastIndexOf('cat')] ?? 0) - 1]).toBe('cat');
});

test('in the sentence of the page, it attends to the bank', async () => {
  const text = 'The bank was closed because it was late.';
  const tokens = tokensOf(text);
  expect(tokens[(await strongest(text, 'word features'))[tokens.indexOf('it')] ?? -1]).toBe('bank');
});

test('variants of one structure share a kernel and keep their own parameters', async () => {
  const caller = new Caller();
  const backend = createReferenceBackend();
  const heads = headsFor(['a', 'b']);
  const [soft, hard] = [1, 0.1].map((temperature) => plain(attention({ normalization: softmax({ temperature }) })));
  const first = await caller.run(backend, soft!, heads, {});
  const second = await caller.run(backend, hard!, heads, {});
  const alone = await new Caller().run(backend, hard!, heads, {});
  expect([...second.stages.weights]).toEqual([...alone.stages.weights]);
  expect([...second.stages.weights]).not.toEqual([...first.stages.weights]);
});

test('a large weight is no large effect, and a small one may have one', () => {
  // One row over three keys. Values equal to the output move nothing however heavy (VARIANTS: v = o).
  const weights = Float32Array.from([0.5, 0.5, 0]);
  const same = effectsOf(weights, Float32Array.from([2, 2, 7]), Float32Array.from([2]), 1, true);
  expect([...same.leaveOneOut]).toEqual([0, 0, 0]);
  // w / (1 − w) · |o − v| in numbers: w = ¼ and o = ¼·10 + ¾·0 = 2.5 give ⅓ · 7.5.
  const moved = effectsOf(Float32Array.from([0.25, 0.75]), Float32Array.from([10, 0]), Float32Array.from([2.5]), 1, true);
  expect(moved.leaveOneOut[0]).toBeCloseTo(2.5, 5);
  expect(moved.valueNorms[0]).toBeCloseTo(2.5, 5);
  // Weights that share no sum lose w v alone.
  expect(effectsOf(Float32Array.from([0.25, 0.75]), Float32Array.from([10, 0]), Float32Array.from([2.5]), 1, false).leaveOneOut[0]).toBeCloseTo(2.5, 5);
  expect(entropies(Float32Array.from([0.5, 0.5, 1, 0]), 2)[0]).toBeCloseTo(Math.LN2, 6);
  expect([...rowSums(Float32Array.from([0.5, 0.5, 1, 0.25]), 2)]).toEqual([1, 1.25]);
});
