import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { HostTensor } from '../../src/tensor.ts';
import { contiguousStrides, encode, encodeInto, isContiguous, permute, restride, slice, spanOf, tensor, toFloat64, zeros } from '../../src/tensor.ts';
import { expectRefusal } from '../validate/calls.ts';

const counting = (shape: readonly number[]): HostTensor => tensor(Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, (_, index) => index), shape);

/** Element by element from the definition of a strided tensor. */
function elements(source: HostTensor, prefix: readonly number[] = []): number[] {
  const { shape, strides } = source;
  if (prefix.length === shape.length) return [source.view()[prefix.reduce((at, index, axis) => at + index * strides[axis]!, 0)]!];
  return Array.from({ length: shape[prefix.length]! }, (_, index) => elements(source, [...prefix, index])).flat();
}

const shapes = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 });

describe('a tensor', () => {
  test('says its dtype by its array', () => {
    expect(([new Float64Array(2), new Float32Array(2), new Int32Array(2), new Int8Array(2), new Uint8Array(2)] as const).map((array) => tensor(array, [2]).dtype)).toEqual(['f64', 'f32', 'i32', 'i8', 'u8']);
    expect(tensor([1, 2], [2]).dtype).toBe('f32');
    expect(tensor(Buffer.from([1, 2]), [2]).dtype).toBe('u8');
    expectRefusal(() => tensor(new Uint16Array(2), [2]), 'invalid-dtype', 'Uint16Array', "'f16'", "'bf16'");
    expect(tensor(new Uint16Array(2), [2], { dtype: 'bf16' }).dtype).toBe('bf16');
    expectRefusal(() => tensor(new Float32Array(2), [2], { dtype: 'f64' }), 'invalid-dtype', 'Float32Array', 'Float64Array');
    expectRefusal(() => tensor(new Float32Array(2), [2], { dtype: 'f8' as never }), 'invalid-dtype', "'f8'");
    expectRefusal(() => tensor([1, 2], [2], { dtype: 'f8' as never }), 'invalid-dtype', "'f8'");
    expectRefusal(() => tensor(new BigInt64Array(2) as never, [2]), 'invalid-dtype', 'BigInt64Array');
    expectRefusal(() => tensor('12' as never, [2]), 'invalid-argument', "'12'");
  });

  test('fits its array, to the element', () => {
    expect(() => tensor(new Float32Array(6), [2, 3])).not.toThrow();
    expectRefusal(() => tensor(new Float32Array(5), [2, 3]), 'invalid-tensor', '6 elements', 'holds 5');
    expect(() => tensor(new Float32Array(8), [2, 3], { strides: [5, 1] })).not.toThrow();
    expectRefusal(() => tensor(new Float32Array(7), [2, 3], { strides: [5, 1] }), 'invalid-tensor', '8 elements');
    expect(() => tensor(new Float32Array(0), [2, 0, 3])).not.toThrow();
  });

  test.each([[[-1]], [[1.5]], [[Number.NaN]], [[2 ** 30, 2 ** 30]]])('of shape %s is refused', (shape) => {
    expectRefusal(() => tensor(new Float32Array(1), shape), 'invalid-shape');
    expectRefusal(() => zeros(shape), 'invalid-shape');
  });

  test.each([[[1]], [[-1, 1]], [[0.5, 1]], [[1, 1, 1]]])('with strides %s is refused', (strides) => {
    expectRefusal(() => tensor(new Float32Array(9), [2, 2], { strides }), 'invalid-tensor');
  });

  test('in the layout blhd is the permutation of the bhld one', () => {
    const [batch, heads, length, dim] = [2, 3, 4, 5];
    const interleaved = tensor(Float32Array.from({ length: 120 }, (_, index) => index), [batch, heads, length, dim], { layout: 'blhd' });
    expect(elements(interleaved)).toEqual(elements(permute(counting([batch, length, heads, dim]), [0, 2, 1, 3])));
    expectRefusal(() => tensor(new Float32Array(6), [2, 3], { layout: 'blhd' }), 'invalid-layout', 'rank 4');
  });

  test('is frozen', () => {
    const { shape, strides } = counting([2]);
    expect([shape, strides, counting([2])].every((part) => Object.isFrozen(part))).toBe(true);
  });
});

describe('views', () => {
  test('have the span that their furthest element needs', () => {
    fc.assert(
      fc.property(shapes, fc.array(fc.nat(9), { minLength: 4, maxLength: 4 }), (shape, steps) => {
        const strides = shape.map((_, axis) => steps[axis]!);
        let furthest = -1;
        const visit = (axis: number, at: number): void => {
          if (axis === shape.length) furthest = Math.max(furthest, at);
          else for (let index = 0; index < shape[axis]!; index++) visit(axis + 1, at + index * strides[axis]!);
        };
        visit(0, 0);
        expect(spanOf(shape, strides)).toBe(furthest + 1);
      }),
    );
  });

  test('are contiguous when their elements follow one another in memory', () => {
    fc.assert(
      fc.property(shapes, fc.array(fc.nat(12), { minLength: 4, maxLength: 4 }), (shape, steps) => {
        const strides = shape.map((_, axis) => steps[axis]!);
        const memory = tensor(Float32Array.from({ length: 200 }, (_, index) => index), shape, { strides });
        expect(isContiguous(memory)).toBe(elements(memory).every((element, index) => element === index));
        expect(isContiguous(zeros(shape))).toBe(true);
      }),
    );
    expect(contiguousStrides([2, 3, 4])).toEqual([12, 4, 1]);
  });

  test('read as float64 in row-major order, and are written back the same', () => {
    fc.assert(
      fc.property(shapes, fc.array(fc.nat(9), { minLength: 4, maxLength: 4 }), (shape, steps) => {
        const view = tensor(Float32Array.from({ length: 200 }, (_, index) => index), shape, { strides: shape.map((_, axis) => steps[axis]!) });
        expect([...toFloat64(view)]).toEqual(elements(view));
        const dense = counting(shape);
        const target = tensor(new Float32Array(200), shape, { layout: 'bhld' });
        encodeInto(toFloat64(dense), target);
        expect(elements(target)).toEqual(elements(dense));
      }),
    );
  });

  test('are written through their strides', () => {
    const memory = zeros([3, 4]);
    encodeInto([1, 2, 3, 4, 5, 6], permute(slice(memory, 1, 1, 3), [1, 0]));
    expect(elements(memory)).toEqual([0, 1, 4, 0, 0, 2, 5, 0, 0, 3, 6, 0]);
  });

  test('permute, slice and repeat the memory of the original', () => {
    const original = counting([2, 3, 4]);
    expect(elements(permute(original, [2, 0, 1]))).toEqual(Array.from({ length: 4 }, (_, c) => [0, 1].flatMap((a) => [0, 1, 2].map((b) => a * 12 + b * 4 + c))).flat());
    expect(elements(slice(slice(original, 1, 1, 3), 2, 2, 4))).toEqual([6, 7, 10, 11, 18, 19, 22, 23]);
    expect(slice(original, 1, 3, 3).shape).toEqual([2, 0, 4]);
    expect(elements(restride(original, [2, 2], [0, 1]))).toEqual([0, 1, 0, 1]);
    original.view()[6] = -1;
    expect(elements(slice(slice(original, 1, 1, 3), 2, 2, 4))[0]).toBe(-1);
  });

  test('stay inside the original', () => {
    const original = slice(counting([4, 3]), 0, 1, 3);
    expectRefusal(() => restride(original, [3, 3], [3, 1]), 'invalid-tensor', 'leaves');
    expectRefusal(() => slice(original, 0, 1, 3), 'invalid-argument');
    expectRefusal(() => slice(original, 0, 2, 1), 'invalid-argument');
    expectRefusal(() => slice(original, 2, 0, 0), 'invalid-argument');
    expectRefusal(() => slice(original, 0, 0.5, 1), 'invalid-argument');
    for (const order of [[0], [0, 0], [0, 2], [0, 1, 2]]) expectRefusal(() => permute(original, order), 'invalid-argument');
    expectRefusal(() => restride(original, [1], [1], [9]), 'invalid-tensor');
    expectRefusal(() => restride(original, [1], [1], [-1]), 'invalid-tensor');
  });

  test('encode to every dtype and back', () => {
    for (const dtype of ['f64', 'f32', 'f16', 'bf16', 'i32', 'i8'] as const) {
      const stored = tensor(encode([1, -2, 0.5, 3], dtype), [4], { dtype });
      expect([...toFloat64(stored)]).toEqual(dtype.startsWith('i') ? [1, -2, 0, 3] : [1, -2, 0.5, 3]);
    }
  });
});
