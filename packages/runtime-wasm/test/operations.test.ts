import {
  constant, encode, isAttentionError, operation, permute, slice, tensor, toFloat64, type DType, type Expression, type HostTensor, type Operations, type Runtime, type Tensor,
} from '@heed/core';
import { createHostRuntime } from '@heed/core/reference';
import { afterAll, describe, expect, test } from 'vitest';
import { createWasmRuntime } from '../src/runtime.ts';

const single = await createWasmRuntime({ threads: 1 });
const threaded = await createWasmRuntime({ threads: 2 });
const host: Runtime = createHostRuntime();
afterAll(() => Promise.all([single.dispose(), threaded.dispose()]));

/** A small generator of normal-like numbers, the same in every run. */
function numbers(count: number, seed = 1): number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    let sum = 0;
    for (let one = 0; one < 4; one += 1) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      sum += state / 2 ** 32 - 0.5;
    }
    return Math.fround(sum * 1.7);
  });
}

const filled = (shape: readonly number[], seed = 1, dtype: DType = 'f32'): HostTensor =>
  tensor(encode(numbers(shape.reduce((product, size) => product * size, 1), seed), dtype), shape, { dtype });

/** The same call on the host (float64) and here with one and two threads; the last two must agree bit for bit (L14). */
async function agree(run: (operations: Operations) => Tensor | readonly Tensor[], tolerance: number): Promise<void> {
  const results = [];
  for (const runtime of [host, single, threaded]) {
    const made = [run(runtime.operations)].flat();
    results.push(await Promise.all(made.map((one) => runtime.read(one))));
    for (const one of made) runtime.release(one);
  }
  const [want = [], one = [], two = []] = results;
  want.forEach((expected, index) => {
    const [got, again] = [one[index]!, two[index]!];
    expect([got.shape, got.dtype]).toEqual([expected.shape, expected.dtype]);
    expect(toFloat64(again)).toEqual(toFloat64(got));
    const [a, b] = [toFloat64(got), toFloat64(expected)];
    let worst = 0;
    a.forEach((value, at) => {
      const other = b[at]!;
      const error = Object.is(value, other) || value === other ? 0 : Math.abs(value - other) / Math.max(1, Math.abs(other));
      if (!(error <= worst)) worst = error;
    });
    expect(worst).toBeLessThanOrEqual(tolerance);
  });
  for (const runtime of [single, threaded]) {
    await runtime.idle();
    expect(runtime.memory().bytes).toBe(0);
  }
}

/** Rounding of the stored result, and k roundings of float32 sums that grow to about √k. */
const bound = (dtype: DType, k = 1): number => (dtype === 'f32' ? 0 : dtype === 'f16' ? 2 ** -11 : 2 ** -8) + 2 ** -24 * (8 + k);

describe('matmul', () => {
  const shapes = [
    [1, 1, 1], [1, 64, 17], [2, 5, 16], [3, 7, 33], [4, 130, 40], [5, 8, 8], [6, 16, 16], [7, 3, 9], [13, 65, 50], [49, 31, 100], [100, 64, 64], [6, 0, 5],
  ] as const;
  test.each(shapes.flatMap((shape) => [true, false].map((transposed) => [...shape, transposed] as const)))('[%i, %i] by %i columns, transposed %s', async (m, k, n, transposed) => {
    await agree((operations) => operations.matmul(filled([m, k]), filled(transposed ? [n, k] : [k, n], 2), { transposed, bias: filled([n], 3) }), bound('f32', k));
  });

  test.each<DType>(['f16', 'bf16'])('%s storage, sums in float32', async (dtype) => {
    for (const m of [2, 9]) {
      for (const transposed of [true, false]) {
        await agree((operations) => operations.matmul(filled([m, 21], 1, dtype), filled(transposed ? [18, 21] : [21, 18], 2, dtype), { transposed }), bound(dtype, 21));
        await agree((operations) => operations.matmul(filled([m, 21], 1, dtype), filled([21, 18], 2, 'f32'), { dtype: 'f32' }), bound('f32', 21));
      }
    }
  });

  test('leading axes, those of b repeated where they are 1', async () => {
    for (const lead of [[2, 3], [2, 1], [1, 3], [1, 1]]) {
      for (const m of [3, 8]) await agree((operations) => operations.matmul(filled([2, 3, m, 10]), filled([...lead, 10, 12], 2)), bound('f32', 10));
    }
  });

  test('strided views of both', async () => {
    const a = permute(filled([10, 7]), [1, 0]);
    const b = slice(filled([10, 30], 2), 1, 3, 24);
    await agree((operations) => operations.matmul(a, b), bound('f32', 10));
  });
});

const rowShapes = [[1, 1], [3, 3], [5, 64], [7, 65], [2, 3, 127], [300, 40], [4, 4096]] as const;
const floats: readonly DType[] = ['f32', 'f16', 'bf16'];

describe('rows', () => {
  test.each(floats)('sum, greatest and mean of %s rows', async (dtype) => {
    for (const shape of rowShapes) {
      for (const reduction of ['sum', 'max', 'mean'] as const) await agree((operations) => operations.reduce(filled(shape, 1, dtype), reduction), bound(dtype, shape.at(-1)));
    }
  });

  test('of nothing: 0, −∞, NaN; NaN in, NaN out', async () => {
    for (const reduction of ['sum', 'max', 'mean'] as const) {
      await agree((operations) => operations.reduce(tensor([], [2, 0]), reduction), 0);
      for (const at of [0, 3, 5]) await agree((operations) => operations.reduce(tensor([1, 2, 3, 4, 5, 6].map((value, index) => (index === at ? NaN : value)), [1, 6]), reduction), 0);
    }
  });

  test.each(floats)('l2, rms and layer norm of %s rows', async (dtype) => {
    for (const shape of rowShapes) {
      const size = [shape.at(-1)!];
      for (const norm of ['l2', 'rms', 'layer'] as const) {
        // A layer norm of one channel divides rounding by ε.
        await agree((operations) => operations.rowNorm(filled(shape, 1, dtype), { norm, epsilon: 1e-3, gain: filled(size, 2, dtype), shift: filled(size, 3) }), 2 * bound(dtype, shape.at(-1)));
        await agree((operations) => operations.rowNorm(filled(shape, 1, dtype), { norm, epsilon: 1e-3 }), 2 * bound(dtype, shape.at(-1)));
      }
    }
  });

  test.each(floats)('the k largest of %s rows, ties in order, NaN last', async (dtype) => {
    const ties = encode(Array.from({ length: 200 }, (_, index) => (index * 7) % 5), dtype);
    const odd = encode([NaN, 1, -0, 0, Infinity, NaN, -Infinity, 1, -2, 3], dtype);
    for (const k of [0, 1, 3, 10]) {
      await agree((operations) => Object.values(operations.topK(filled([9, 33], 5, dtype), k)), 0);
      await agree((operations) => Object.values(operations.topK(tensor(ties, [4, 50], { dtype }), k)), 0);
      await agree((operations) => Object.values(operations.topK(tensor(odd, [1, 10], { dtype }), k)), 0);
    }
    await agree((operations) => Object.values(operations.topK(filled([2, 1000], 5, dtype), 100)), 0);
  });
});

describe('gather', () => {
  test.each<DType>(['f32', 'f16', 'f64', 'i32', 'u8'])('rows of %s by index', async (dtype) => {
    const x = tensor(encode(numbers(2 * 5 * 7).map((value) => Math.abs(value * 50)), dtype), [2, 5, 7], { dtype });
    await agree((operations) => operations.gather(x, tensor(Int32Array.of(4, 0, 2, 1, 1, 3), [2, 3])), 0);
  });

  test('an index outside is refused on the host and gives zeros here', async () => {
    const x = filled([3, 4]);
    for (const index of [-1, 3]) expect(() => single.operations.gather(x, tensor(Int32Array.of(index), [1]))).toThrow(/index/);
    const indices = single.upload(tensor(Int32Array.of(-1, 3, 2 ** 31 - 1, 1), [4]));
    const made = single.operations.gather(x, indices);
    const rows = toFloat64(await single.read(made));
    expect([...rows.subarray(0, 12)]).toEqual(new Array(12).fill(0));
    expect([...rows.subarray(12)]).toEqual([...toFloat64(x).subarray(4, 8)]);
    for (const one of [made, indices]) single.release(one);
  });
});

describe('short causal convolution', () => {
  test.each([[1, 1, 1, 1], [2, 9, 4, 4], [1, 2, 5, 4], [3, 17, 7, 3], [2, 40, 64, 2], [1, 0, 4, 3]])('[%i, %i, %i] with %i taps', async (batch, length, channels, taps) => {
    const x = filled([batch, length, channels]);
    const weight = filled([channels, taps], 2);
    await agree((operations) => Object.values(operations.causalConvolution(x, weight)), bound('f32', taps));
    const options = { tail: filled([batch, taps - 1, channels], 3), bias: filled([channels], 4) };
    await agree((operations) => Object.values(operations.causalConvolution(x, weight, options)), bound('f32', taps));
  });

  test('segments joined by their tails give the whole', async () => {
    const x = filled([1, 12, 6]);
    const weight = filled([6, 4], 2);
    const whole = single.operations.causalConvolution(x, weight);
    const head = single.operations.causalConvolution(slice(x, 1, 0, 5), weight);
    const rest = single.operations.causalConvolution(slice(x, 1, 5, 12), weight, { tail: head.tail });
    const [all, first, last] = await Promise.all([whole.output, head.output, rest.output].map(async (one) => [...toFloat64(await single.read(one))]));
    expect([...first!, ...last!]).toEqual(all);
    for (const { output, tail } of [whole, head, rest]) {
      single.release(output);
      single.release(tail);
    }
  });
});

describe('elementwise', () => {
  const table = (name: string, type: 'f32' | 'i32' | 'bool' = 'f32'): Expression => ({ kind: 'table', type, name, indices: [] });
  const uniform = (name: string, type: 'f32' | 'i32' = 'f32'): Expression => ({ kind: 'uniform', type, name });

  test.each([1, 3, 4, 17, 16_384, 16_390, 50_000])('gated tanh over %i numbers', async (count) => {
    const expression = operation('mul', [operation('tanh', [table('x')]), operation('add', [table('y'), uniform('shift')])]);
    await agree((operations) => operations.elementwise(expression, { x: filled([count]), y: filled([count], 2) }, { uniforms: { shift: 0.5 } }), 1e-6);
  });

  test.each(floats)('%s in and out', async (dtype) => {
    const expression = operation('exp', [operation('neg', [table('x')])]);
    await agree((operations) => operations.elementwise(expression, { x: filled([5, 9], 1, dtype) }), bound(dtype));
    await agree((operations) => operations.elementwise(expression, { x: filled([5, 9], 1, dtype) }, { dtype: 'f32' }), 1e-6);
  });

  test('integers and booleans', async () => {
    const integers = tensor(Int32Array.from({ length: 21 }, (_, index) => index * 37 - 300), [3, 7]);
    const bytes = tensor(Int8Array.from({ length: 21 }, (_, index) => index - 10), [3, 7]);
    const flags = tensor(Uint8Array.from({ length: 21 }, (_, index) => index % 3 === 0 ? 1 : 0), [3, 7]);
    const sum = operation('add', [operation('mod', [table('a', 'i32'), constant(13, 'i32').node]), operation('mul', [table('b', 'i32'), uniform('by', 'i32')])]);
    await agree((operations) => operations.elementwise(sum, { a: integers, b: bytes }, { uniforms: { by: 3 } }), 0);
    await agree((operations) => operations.elementwise(operation('and', [operation('lt', [table('a', 'i32'), table('b', 'i32')]), table('c', 'bool')]), { a: integers, b: bytes, c: flags }), 0);
    await agree((operations) => operations.elementwise(operation('toF32', [table('a', 'i32')]), { a: integers }, { dtype: 'f32' }), 0);
  });

  test('what it cannot read is refused', () => {
    const x = filled([4]);
    const run = (expression: Expression, tensors: Readonly<Record<string, HostTensor>>, uniforms = {}) => (): unknown => single.operations.elementwise(expression, tensors, { uniforms });
    expect(run(table('x'), {})).toThrow(/table 'x'/);
    expect(run(table('x'), { x, y: x })).toThrow(/'y'/);
    expect(run(operation('add', [table('x'), uniform('s')]), { x })).toThrow(/uniform 's'/);
    expect(run(operation('add', [table('x'), table('y')]), { x, y: filled([5]) })).toThrow(/shape/);
    expect(run(table('x', 'i32'), { x })).toThrow(/i32/);
    expect(run({ kind: 'input', type: 'f32', name: 'score' }, { x })).toThrow(/no meaning/);
  });
});

describe('copy', () => {
  const dtypes: readonly DType[] = ['f64', 'f32', 'f16', 'bf16', 'i32', 'i8', 'u8'];
  test.each(dtypes.flatMap((from) => dtypes.map((to) => [from, to] as const)))('%s to %s', async (from, to) => {
    const values = numbers(2 * 3 * 11).map((value) => (to === 'u8' || from === 'u8' ? Math.abs(value * 60) : value * 60));
    const x = tensor(encode(from.startsWith('f') || from === 'bf16' ? values.map((value) => value * (from === 'f64' ? 1.0000001 : 1)) : values.map(Math.trunc), from), [2, 3, 11], { dtype: from });
    await agree((operations) => operations.copy(x, { dtype: to }), 0);
    await agree((operations) => operations.copy(permute(x, [2, 0, 1]), { dtype: to }), 0);
  });

  test('a float64 is rounded to half precision once, not twice', async () => {
    // Above the middle of two f16 numbers by less than float32 can tell.
    const x = tensor(Float64Array.of(1 + 2 ** -11 + 2 ** -40, 1 + 2 ** -11 - 2 ** -40, 1 + 3 * 2 ** -11 - 2 ** -40, 2 ** -25 + 2 ** -60), [4]);
    await agree((operations) => operations.copy(x, { dtype: 'f16' }), 0);
    await agree((operations) => operations.copy(x, { dtype: 'bf16' }), 0);
  });

  test('into a tensor, and between threads of a long one', async () => {
    const into = threaded.tensor([4, 3], 'f32');
    expect(threaded.operations.copy(permute(filled([3, 4]), [1, 0]), { into })).toBe(into);
    const want = toFloat64(permute(filled([3, 4]), [1, 0]));
    expect(toFloat64(await threaded.read(into))).toEqual(want);
    threaded.release(into);
    await agree((operations) => operations.copy(filled([300_000])), 0);
    await agree((operations) => operations.copy(filled([64, 8192])), 0);
    expect(() => single.operations.copy(filled([2]), { into: single.tensor([3], 'f32') })).toThrow(/shape/);
  });
});

describe('a result that cannot be', () => {
  test('integers and f64 are not silently rounded', () => {
    const x = tensor(Int32Array.of(1, 2), [1, 2]);
    expect(() => single.operations.reduce(x, 'sum')).toThrow(/i32/);
    expect(() => single.operations.rowNorm(tensor(Float64Array.of(1), [1, 1]), { norm: 'rms', epsilon: 0 })).toThrow(/f64/);
  });

  test('a tensor of another runtime is refused', async () => {
    const foreign = threaded.upload(filled([2, 2]));
    expect(() => single.operations.matmul(foreign, filled([2, 2]))).toThrow(expect.objectContaining({ code: 'foreign-tensor' }));
    threaded.release(foreign);
    expect(() => threaded.operations.reduce(foreign, 'sum')).toThrow(expect.objectContaining({ code: 'disposed' }));
    expect(isAttentionError(await threaded.read(foreign).catch((error: unknown) => error), 'disposed')).toBe(true);
  });
});
