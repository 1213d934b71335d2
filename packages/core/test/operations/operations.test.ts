import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Operations } from '../../src/backend.ts';
import { constant, input } from '../../src/expression/build.ts';
import { write } from '../../src/expression/scope.ts';
import { createHostRuntime } from '../../src/reference/runtime.ts';
import type { HostTensor, Tensor } from '../../src/tensor.ts';
import { isHostTensor, permute, slice, tensor, toFloat64, zeros } from '../../src/tensor.ts';
import { expectRefusal } from '../validate/calls.ts';

const operations = (): Operations => createHostRuntime().operations;
const f64 = (values: readonly number[], shape: readonly number[]): HostTensor => tensor(Float64Array.from(values), shape);
const i32 = (values: readonly number[], shape: readonly number[]): HostTensor => tensor(Int32Array.from(values), shape);

function numbers(source: Tensor): number[] {
  if (!isHostTensor(source)) throw new Error('expected a host tensor');
  return [...toFloat64(source)];
}

function expectClose(source: Tensor, shape: readonly number[], expected: readonly number[]): void {
  expect(source.shape).toEqual(shape);
  const got = numbers(source);
  expect(got).toHaveLength(expected.length);
  got.forEach((value, index) => {
    if (Number.isFinite(expected[index])) expect(value).toBeCloseTo(expected[index]!, 10);
    else expect(value).toBe(expected[index]);
  });
}

const finite = fc.double({ min: -8, max: 8, noNaN: true });
const matrix = (rows: number, columns: number): fc.Arbitrary<HostTensor> => fc.array(finite, { minLength: rows * columns, maxLength: rows * columns }).map((values) => f64(values, [rows, columns]));

describe('matmul', () => {
  // Golub & Van Loan, "Matrix computations": (1 2; 3 4)(5 6; 7 8) = (19 22; 43 50).
  test('multiplies, transposed or not, with a bias', () => {
    const host = operations();
    const [a, b] = [f64([1, 2, 3, 4], [2, 2]), f64([5, 6, 7, 8], [2, 2])];
    expectClose(host.matmul(a, b), [2, 2], [19, 22, 43, 50]);
    expectClose(host.matmul(a, b, { transposed: true }), [2, 2], [17, 23, 39, 53]);
    expectClose(host.matmul(a, b, { bias: f64([100, 200], [2]) }), [2, 2], [119, 222, 143, 250]);
  });

  test('is associative, and transposing turns it round', () => {
    fc.assert(
      fc.property(matrix(2, 3), matrix(3, 4), matrix(4, 2), (a, b, c) => {
        const host = operations();
        expectClose(host.matmul(host.matmul(a, b), c), [2, 2], numbers(host.matmul(a, host.matmul(b, c))));
        expectClose(host.matmul(a, permute(b, [1, 0]), { transposed: true }), [2, 4], numbers(host.matmul(a, b)));
      }),
    );
  });

  test('repeats leading axes of the second that are 1', () => {
    const host = operations();
    const a = f64(Array.from({ length: 24 }, (_, index) => index), [2, 3, 2, 2]);
    const b = f64([1, 0, 0, 1, 0, 1, 1, 0, 2, 0, 0, 2], [1, 3, 2, 2]);
    const whole = host.matmul(a, b);
    for (let batch = 0; batch < 2; batch++) {
      for (let head = 0; head < 3; head++) {
        const part = (source: HostTensor, entry: number): HostTensor => slice(slice(source, 0, entry, entry + 1), 1, head, head + 1);
        expect(numbers(part(whole as HostTensor, batch))).toEqual(numbers(host.matmul(part(a, batch), part(b, 0))));
      }
    }
    expectRefusal(() => host.matmul(b, a), 'invalid-shape');
  });

  test('stores in the dtype asked for, rounded once', () => {
    const host = operations();
    const [a, b] = [tensor([2048, 1], [1, 2]), tensor([1, 1], [2, 1])];
    expect(host.matmul(a, b).dtype).toBe('f32');
    expect(numbers(host.matmul(a, b, { dtype: 'f16' }))).toEqual([2048]);
    expect(numbers(host.matmul(tensor([2048, 1, 1, 1], [1, 4]), tensor([1, 1, 1, 0], [4, 1]), { dtype: 'f16' }))).toEqual([2050]);
  });

  test('of shapes that do not meet is refused', () => {
    const host = operations();
    expectRefusal(() => host.matmul(zeros([2, 3]), zeros([2, 3])), 'invalid-shape', '[2, 3]');
    expectRefusal(() => host.matmul(zeros([2, 3]), zeros([3])), 'invalid-shape');
    expectRefusal(() => host.matmul(zeros([3]), zeros([3])), 'invalid-shape');
    expectRefusal(() => host.matmul(zeros([2, 2, 3]), zeros([3, 3, 4])), 'invalid-shape');
    expectRefusal(() => host.matmul(zeros([2, 3]), zeros([3, 2]), { bias: zeros([3]) }), 'invalid-shape', 'bias');
    expectClose(host.matmul(zeros([2, 0]), zeros([0, 3])), [2, 3], [0, 0, 0, 0, 0, 0]);
  });
});

describe('rowNorm', () => {
  test('gives rows of length 1, of mean square 1, of mean 0 and variance 1', () => {
    fc.assert(
      fc.property(fc.array(finite, { minLength: 4, maxLength: 4 }), (values) => {
        const spread = Math.max(...values) - Math.min(...values);
        fc.pre(spread > 0.1);
        const host = operations();
        const of = (norm: 'l2' | 'rms' | 'layer'): number[] => numbers(host.rowNorm(f64(values, [1, 4]), { norm, epsilon: 0 }));
        const sum = (row: readonly number[], power: number): number => row.reduce((total, value) => total + value ** power, 0);
        expect(sum(of('l2'), 2)).toBeCloseTo(1, 10);
        expect(sum(of('rms'), 2) / 4).toBeCloseTo(1, 10);
        expect(sum(of('layer'), 1)).toBeCloseTo(0, 10);
        expect(sum(of('layer'), 2) / 4).toBeCloseTo(1, 10);
      }),
    );
  });

  test('takes ε where each norm has it', () => {
    const host = operations();
    const row = f64([3, 4], [1, 2]);
    expectClose(host.rowNorm(row, { norm: 'l2', epsilon: 10 }), [1, 2], [0.3, 0.4]);
    expectClose(host.rowNorm(row, { norm: 'rms', epsilon: 87.5 }), [1, 2], [0.3, 0.4]);
    expectClose(host.rowNorm(row, { norm: 'layer', epsilon: 0.75 }), [1, 2], [-0.5, 0.5]);
    expectClose(host.rowNorm(zeros([1, 2], 'f64'), { norm: 'l2', epsilon: 1e-6 }), [1, 2], [0, 0]);
  });

  test('scales and shifts each channel', () => {
    const host = operations();
    expectClose(host.rowNorm(f64([3, 4, 4, 3], [2, 2]), { norm: 'l2', epsilon: 0, gain: f64([10, 100], [2]), shift: f64([1, 2], [2]) }), [2, 2], [7, 82, 9, 62]);
    expectRefusal(() => host.rowNorm(zeros([2, 2]), { norm: 'l2', epsilon: 0, gain: zeros([3]) }), 'invalid-shape', 'gain');
    expectRefusal(() => host.rowNorm(zeros([2, 2]), { norm: 'l2', epsilon: -1 }), 'invalid-argument', 'epsilon');
    expectRefusal(() => host.rowNorm(zeros([2, 0]), { norm: 'l2', epsilon: 0 }), 'invalid-shape');
  });
});

describe('elementwise', () => {
  const table = (name: string): ReturnType<typeof write> => write('modify', name, (scope) => scope.table(name, []).at());
  const blend = write('modify', '', ({ table: read, uniform }) => {
    const share = uniform('share', 0.5);
    return read('a', []).at().mul(share).add(read('b', []).at().mul(constant(1).sub(share)));
  });

  test('evaluates at each place, through strides', () => {
    const host = operations();
    const [a, b] = [f64([1, 2, 3, 4, 5, 6], [2, 3]), permute(f64([10, 40, 20, 50, 30, 60], [3, 2]), [1, 0])];
    expectClose(host.elementwise(blend.expression, { a, b }, { uniforms: { share: 0.25 } }), [2, 3], [7.75, 15.5, 23.25, 31, 38.75, 46.5]);
  });

  test('stores booleans and integers as such, floats like its first float', () => {
    const host = operations();
    const positive = write('mask', '', ({ table: read }) => read('n', [], 'i32').at().gt(0));
    const flags = host.elementwise(positive.expression, { n: i32([-1, 0, 1], [3]) });
    expect([flags.dtype, numbers(flags)]).toEqual(['u8', [0, 0, 1]]);
    expect(host.elementwise(table('x').expression, { x: zeros([2], 'bf16') }).dtype).toBe('bf16');
    expect(host.elementwise(table('x').expression, { x: zeros([2], 'bf16') }, { dtype: 'f64' }).dtype).toBe('f64');
  });

  test('of what is missing, unknown or of another shape is refused', () => {
    const host = operations();
    const [a, b] = [zeros([2]), zeros([2])];
    expectRefusal(() => host.elementwise(blend.expression, { a }, { uniforms: { share: 1 } }), 'missing-table', "'b'");
    expectRefusal(() => host.elementwise(blend.expression, { a, b, c: a }, { uniforms: { share: 1 } }), 'unknown-table', "'c'");
    expectRefusal(() => host.elementwise(blend.expression, { a, b }), 'invalid-uniform', "'share'");
    expectRefusal(() => host.elementwise(blend.expression, { a, b }, { uniforms: { share: 1, other: 2 } }), 'unknown-uniform', "'other'");
    expectRefusal(() => host.elementwise(blend.expression, { a, b: zeros([3]) }, { uniforms: { share: 1 } }), 'invalid-shape', "'b'");
    expectRefusal(() => host.elementwise(input('score').node, { a }), 'invalid-expression', 'score');
    expectRefusal(() => host.elementwise(constant(1).node, {}), 'invalid-argument');
  });
});

describe('gather', () => {
  test('picks rows of each leading entry', () => {
    const host = operations();
    const x = f64(Array.from({ length: 12 }, (_, index) => index), [2, 3, 2]);
    expectClose(host.gather(x, i32([2, 0, 1, 1], [2, 2])), [2, 2, 2], [4, 5, 0, 1, 8, 9, 8, 9]);
    expectClose(host.gather(x, zeros([2, 0], 'i32')), [2, 0, 2], []);
    expectRefusal(() => host.gather(x, i32([2, 3, 1, 1], [2, 2])), 'invalid-argument', 'index 3', '3 rows');
    expectRefusal(() => host.gather(x, i32([-1], [1])), 'invalid-shape');
    expectRefusal(() => host.gather(x, i32([-1, 0], [2, 1])), 'invalid-argument', 'index -1');
    expectRefusal(() => host.gather(x, zeros([2, 1])), 'invalid-dtype', 'i32');
  });
});

describe('reduce', () => {
  test('sums, averages and finds the greatest of each row', () => {
    const host = operations();
    const x = f64([1, 5, 3, -1, -5, -3], [2, 3]);
    expectClose(host.reduce(x, 'sum'), [2], [9, -9]);
    expectClose(host.reduce(x, 'mean'), [2], [3, -3]);
    expectClose(host.reduce(x, 'max'), [2], [5, -1]);
    expectClose(host.reduce(f64([1, Number.NaN], [2]), 'max'), [], [Number.NaN]);
    expectClose(host.reduce(zeros([2, 0], 'f64'), 'sum'), [2], [0, 0]);
    expectClose(host.reduce(zeros([2, 0], 'f64'), 'max'), [2], [-Infinity, -Infinity]);
    expectRefusal(() => host.reduce(f64([1], []), 'sum'), 'invalid-shape');
  });

  test('sums in float64 whatever the storage', () => {
    const host = operations();
    expect(numbers(host.reduce(tensor(Float32Array.of(2 ** 24, 1, 1), [3]), 'sum'))).toEqual([2 ** 24 + 2]);
  });
});

describe('topK', () => {
  test('takes the largest, the lower index first on ties', () => {
    const host = operations();
    const { values, indices } = host.topK(f64([1, 3, 2, 3, 0, -1, 0, 0], [2, 4]), 3);
    expectClose(values, [2, 3], [3, 3, 2, 0, 0, 0]);
    expect(numbers(indices)).toEqual([1, 3, 2, 0, 2, 3]);
    expect(indices.dtype).toBe('i32');
  });

  test('leaves nothing larger behind, and puts NaN last', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.integer({ min: -3, max: 3 }), fc.constant(Number.NaN), fc.constant(-Infinity)), { minLength: 6, maxLength: 6 }), fc.nat(6), (row, k) => {
        const host = operations();
        const { indices } = host.topK(f64(row, [6]), k);
        const taken = numbers(indices);
        const rank = (index: number): number => row.filter((other, place) => (Number.isNaN(row[index]!) ? !Number.isNaN(other) || place < index : other > row[index]! || (other === row[index]! && place < index))).length;
        expect(taken.map(rank)).toEqual(Array.from({ length: k }, (_, place) => place));
      }),
    );
    expectRefusal(() => operations().topK(zeros([2]), 3), 'invalid-argument', 'k = 3');
    expectRefusal(() => operations().topK(zeros([2]), 1.5), 'invalid-argument');
  });
});

describe('causalConvolution', () => {
  test('weighs each channel’s own past', () => {
    const host = operations();
    const x = f64([1, 10, 2, 20, 3, 30], [1, 3, 2]);
    const { output, tail } = host.causalConvolution(x, f64([100, 1, 0, 1], [2, 2]), { bias: f64([0, 5], [2]) });
    expectClose(output, [1, 3, 2], [1, 15, 102, 25, 203, 35]);
    expectClose(tail, [1, 1, 2], [3, 30]);
  });

  test('continues from its tail, wherever the sequence is cut', () => {
    fc.assert(
      fc.property(fc.array(finite, { minLength: 14, maxLength: 14 }), fc.integer({ min: 0, max: 7 }), fc.integer({ min: 1, max: 4 }), (values, cut, taps) => {
        const host = operations();
        const x = f64(values, [1, 7, 2]);
        const weight = f64(Array.from({ length: 2 * taps }, (_, index) => index - 1.5), [2, taps]);
        const whole = host.causalConvolution(x, weight);
        const first = host.causalConvolution(slice(x, 1, 0, cut), weight);
        const second = host.causalConvolution(slice(x, 1, cut, 7), weight, { tail: first.tail });
        expectClose(whole.output, [1, 7, 2], [...numbers(first.output), ...numbers(second.output)]);
        expectClose(whole.tail, [1, taps - 1, 2], numbers(second.tail));
      }),
    );
  });

  test('of shapes that do not meet is refused', () => {
    const host = operations();
    expectRefusal(() => host.causalConvolution(zeros([3, 2]), zeros([2, 2])), 'invalid-shape');
    expectRefusal(() => host.causalConvolution(zeros([1, 3, 2]), zeros([3, 2])), 'invalid-shape', 'weight');
    expectRefusal(() => host.causalConvolution(zeros([1, 3, 2]), zeros([2, 0])), 'invalid-shape', 'weight');
    expectRefusal(() => host.causalConvolution(zeros([1, 3, 2]), zeros([2, 3]), { tail: zeros([1, 1, 2]) }), 'invalid-shape', 'tail');
    expectRefusal(() => host.causalConvolution(zeros([1, 3, 2]), zeros([2, 3]), { bias: zeros([3]) }), 'invalid-shape', 'bias');
  });
});

describe('copy', () => {
  test('is dense, converts, and writes through strides', () => {
    const host = operations();
    const x = permute(f64([1, 2, 3, 4, 5, 6], [2, 3]), [1, 0]);
    expectClose(host.copy(x), [3, 2], [1, 4, 2, 5, 3, 6]);
    expect(host.copy(x, { dtype: 'i8' }).dtype).toBe('i8');
    const target = zeros([2, 3]);
    host.copy(x, { into: permute(target, [1, 0]) });
    expect(numbers(target)).toEqual([1, 2, 3, 4, 5, 6]);
    expectRefusal(() => host.copy(x, { into: target }), 'invalid-shape', 'into');
    expectRefusal(() => host.copy(x, { into: zeros([3, 2]), dtype: 'f64' }), 'invalid-dtype', 'into');
  });
});
