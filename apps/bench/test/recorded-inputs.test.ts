import { isAttentionError, tensor, toFloat64 } from '@heed/core';
import { describe, expect, test } from 'vitest';
import { models } from '../src/models.ts';
import { recordedCall } from '../src/recorded-inputs.ts';

function recorded(query: readonly number[], key: readonly number[], value: readonly number[]): Parameters<typeof recordedCall>[0] {
  const filled = (shape: readonly number[]): ReturnType<typeof tensor> => tensor(new Float64Array(shape.reduce((product, size) => product * size, 1)).fill(1 / 3), shape);
  return { query: filled(query), key: filled(key), value: filled(value) };
}

describe('recorded tensors', () => {
  test('without a model are causal attention with scale 1/√dim, the queries being the last positions', () => {
    const { workload } = recordedCall(recorded([1, 4, 3, 16], [1, 2, 5, 16], [1, 2, 5, 8]), null, null);
    expect(workload).toMatchObject({ batch: 1, queryLength: 3, keyLength: 5, queryOffset: 2, dtype: 'f32', layer: { heads: 4, keyHeads: 2, queryDim: 16, valueDim: 8, scale: 0.25, mask: { kind: 'causal' } } });
  });

  test('with a model are its layer of that shape, once', () => {
    const gemma = models.find(({ name }) => name === 'gemma-2-2b')!;
    const { workload } = recordedCall(recorded([1, 8, 3, 256], [1, 4, 3, 256], [1, 4, 3, 256]), gemma, null);
    expect(workload.layer).toEqual({ ...gemma.layers[0], count: 1 });
  });

  test('are rounded to the storage type that is asked for', () => {
    const { inputs } = recordedCall(recorded([1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]), null, 'bf16');
    expect(inputs.query.dtype).toBe('bf16');
    // 1/3 is 0.0101010101…₂; eight significant bits of it, rounded to nearest, are 171/512.
    expect([...toFloat64(inputs.query)]).toEqual([171 / 512]);
  });

  const refused: readonly (readonly [string, readonly (readonly number[])[]])[] = [
    ['batches differ', [[2, 4, 3, 8], [1, 4, 3, 8], [1, 4, 3, 8]]],
    ['key and value have other lengths', [[1, 4, 3, 8], [1, 4, 3, 8], [1, 4, 4, 8]]],
    ['key and value have other heads', [[1, 4, 3, 8], [1, 4, 3, 8], [1, 2, 3, 8]]],
    ['query and key have other widths', [[1, 4, 3, 8], [1, 4, 3, 6], [1, 4, 3, 8]]],
    ['heads are no multiple of key heads', [[1, 4, 3, 8], [1, 3, 3, 8], [1, 3, 3, 8]]],
  ];
  test.each(refused)('are refused when %s', (_, [query = [], key = [], value = []]) => {
    let thrown: unknown = null;
    try {
      recordedCall(recorded(query, key, value), null, null);
    } catch (error) {
      thrown = error;
    }
    expect(isAttentionError(thrown, 'invalid-shape')).toBe(true);
  });

  test('are refused when the model has no such layer', () => {
    expect(() => recordedCall(recorded([1, 4, 3, 8], [1, 4, 3, 8], [1, 4, 3, 8]), models[0] ?? null, null)).toThrow(/gpt2 has 12 on 12, 64 and 64/);
  });
});
