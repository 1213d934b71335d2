import { elementCount, tensor, toFloat64, write, type HostTensor, type Operations, type Runtime, type Tensor } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWebGpuRuntime, type WebGpuRuntime } from '../../src/index.ts';

/** Numbers between −1 and 1 that repeat in no short pattern. */
function draw(shape: readonly number[], seed = 1): HostTensor {
  return tensor(Float32Array.from({ length: elementCount(shape) }, (_, index) => Math.fround(Math.sin(index * 12.9898 + seed * 78.233) * 43758.5453) % 1), shape);
}

/** What an operation gives on a runtime, on the host. */
async function resultOf(runtime: Runtime, sources: readonly HostTensor[], operation: (operations: Operations, tensors: readonly Tensor[]) => Tensor): Promise<{ readonly shape: readonly number[]; readonly values: Float64Array }> {
  const made = operation(runtime.operations, sources.map((source) => runtime.upload(source)));
  const values = toFloat64(await runtime.read(made));
  return { shape: made.shape, values };
}

const [elementwise] = [write('transform', '', ({ table, uniform }) => table('a', []).at().mul(uniform('factor', 1)).add(table('b', []).at())).expression];

type Operation = (operations: Operations, tensors: readonly Tensor[]) => Tensor;
const first = (tensors: readonly Tensor[], index = 0): Tensor => {
  const one = tensors[index];
  if (one === undefined) throw new RangeError('no such tensor');
  return one;
};

type Call = readonly [name: string, sources: readonly HostTensor[], operation: Operation];

/** Expected values come from the float64 reference runtime. */
const calls: readonly Call[] = [
  ...[[65, 17, 130], [64, 64, 64], [9, 33, 5], [1, 257, 67], [8, 3, 1], [200, 1, 3]].flatMap(([m = 0, k = 0, n = 0]): readonly Call[] => [
    [`matmul ${m} × ${k} × ${n}`, [draw([m, k]), draw([k, n], 2), draw([n], 3)], (operations, all) => operations.matmul(first(all), first(all, 1), { bias: first(all, 2) })],
    [`matmul ${m} × ${k} × ${n}, transposed`, [draw([2, m, k]), draw([1, n, k], 2)], (operations, all) => operations.matmul(first(all), first(all, 1), { transposed: true })],
    [`matmul ${m} × ${k} × ${n}, many matrices`, [draw([3, 2, m, k]), draw([3, 1, k, n], 2)], (operations, all) => operations.matmul(first(all), first(all, 1))],
  ]),
  ...[1, 5, 40, 300, 1025].flatMap((size): readonly Call[] => [
    ...(['l2', 'rms', 'layer'] as const).map((norm): Call => [`${norm} norm of ${size}`, [draw([7, 5, size]), draw([size], 2)], (operations, all) => operations.rowNorm(first(all), { norm, epsilon: 1e-3, gain: first(all, 1) })]),
    ...(['sum', 'max', 'mean'] as const).map((reduction): Call => [`${reduction} of ${size}`, [draw([7, 5, size])], (operations, all) => operations.reduce(first(all), reduction)]),
  ]),
  ...[[6, 1], [100, 7], [100, 100], [300, 64], [300, 65]].flatMap(([size = 0, k = 0]): readonly Call[] => [
    [`top ${k} of ${size}, values`, [draw([9, size])], (operations, all) => operations.topK(first(all), k).values],
    [`top ${k} of ${size}, indices`, [draw([9, size])], (operations, all) => operations.topK(first(all), k).indices],
  ]),
  ['elementwise', [draw([300, 40]), draw([300, 40], 2)], (operations, all) => operations.elementwise(elementwise, { a: first(all), b: first(all, 1) }, { uniforms: { factor: -0.5 } })],
  ['copy to f16 and back', [draw([300, 41])], (operations, all) => operations.copy(operations.copy(first(all), { dtype: 'f16' }), { dtype: 'f32' })],
];

async function agree(runtime: Runtime, reference: Runtime, [, sources, operation]: Call): Promise<void> {
  const [got, want] = [await resultOf(runtime, sources, operation), await resultOf(reference, sources, operation)];
  expect(got.shape).toEqual(want.shape);
  const worst = got.values.reduce((most, value, index) => Math.max(most, Math.abs(value - (want.values[index] ?? Number.NaN))), 0);
  // Sums of at most 1025 products of numbers below 1, in float32: 2⁻²⁴ · √1025 · 1025 at the very most.
  expect(worst).toBeLessThan(2e-4);
}

describe('operations', () => {
  let runtime: WebGpuRuntime;
  const reference = createReferenceBackend();
  beforeAll(async () => {
    runtime = await createWebGpuRuntime();
  });
  afterAll(async () => {
    await runtime.dispose();
    await reference.dispose();
  });

  test.each(calls)('%s agrees with the reference', async (...call) => agree(runtime, reference.runtime, call));

  test('equal elements come in the order of their indices', async () => {
    const { values, indices } = runtime.operations.topK(runtime.upload(tensor([3, 1, 3, 2, 3, 0, -1, -0.5], [1, 8])), 5);
    expect([...(await runtime.read(values)).view()]).toEqual([3, 3, 3, 2, 1]);
    expect([...(await runtime.read(indices)).view()]).toEqual([0, 2, 4, 3, 1]);
  });

  test('give the same bits every time', async () => {
    const [a, b] = [draw([70, 300]), draw([300, 70], 2)].map((source) => runtime.upload(source));
    if (a === undefined || b === undefined) throw new RangeError('no tensors');
    const once = async (): Promise<readonly number[]> => [...(await runtime.read(runtime.operations.reduce(runtime.operations.matmul(a, b), 'sum'))).view()];
    const before = await once();
    for (let round = 0; round < 5; round += 1) expect(await once()).toEqual(before);
  });
});

describe('operations on tensors that are longer than one binding', () => {
  // 8 KiB, 16 times less than the longest tensor below.
  const bindingBytes = 8 * 1024;
  let runtime: WebGpuRuntime;
  const reference = createReferenceBackend();
  beforeAll(async () => {
    runtime = await createWebGpuRuntime({ bindingBytes });
  });
  afterAll(async () => {
    await runtime.dispose();
    await reference.dispose();
  });

  const long: readonly Call[] = [
    ['matmul, by rows', [draw([700, 40]), draw([40, 50], 2)], (operations, all) => operations.matmul(first(all), first(all, 1))],
    ['matmul, by matrices', [draw([64, 5, 40]), draw([1, 40, 50], 2)], (operations, all) => operations.matmul(first(all), first(all, 1))],
    ['norm', [draw([700, 17])], (operations, all) => operations.rowNorm(first(all), { norm: 'layer', epsilon: 1e-3 })],
    ['sum', [draw([700, 17])], (operations, all) => operations.reduce(first(all), 'sum')],
    ['largest', [draw([700, 17])], (operations, all) => operations.topK(first(all), 3).values],
    ['elementwise', [draw([300, 40]), draw([300, 40], 2)], (operations, all) => operations.elementwise(elementwise, { a: first(all), b: first(all, 1) }, { uniforms: { factor: 3 } })],
    ['copies through bf16', [draw([300, 41])], (operations, all) => operations.copy(operations.copy(first(all), { dtype: 'bf16' }), { dtype: 'f32' })],
  ];

  test.each(long)('%s is computed range by range', async (...call) => agree(runtime, reference.runtime, call));

  test('what every part needs whole is refused with the limit and both numbers, and the runtime works on', async () => {
    const [a, b] = [runtime.upload(draw([3, 50])), runtime.upload(draw([50, 100], 2))];
    expect(() => runtime.operations.matmul(a, b)).toThrow(/a binding of 20480 bytes; maxStorageBufferBindingSize of this device is 8192/);
    expect((await runtime.read(a)).view()[1]).toBe(draw([3, 50]).view()[1]);
  });

  test('a part of it that lies in one piece is read, and written, by itself', async () => {
    const whole = draw([16, 40, 30]);
    const tensors = runtime.upload(whole);
    const part = runtime.view(tensors, [2, 40, 30], undefined, 5 * 1200);
    const { values } = await resultOf(runtime, [], () => runtime.operations.reduce(part, 'sum'));
    const want = await resultOf(reference.runtime, [tensor(Float32Array.from(toFloat64(whole).slice(5 * 1200, 7 * 1200)), [2, 40, 30])], (operations, all) => operations.reduce(first(all), 'sum'));
    expect(Math.max(...values.map((value, index) => Math.abs(value - (want.values[index] ?? Number.NaN))))).toBeLessThan(1e-5);
    runtime.operations.copy(tensor(new Float32Array(2400).fill(9), [2, 40, 30]), { into: part });
    const after = toFloat64(await runtime.read(tensors));
    expect([after[5999], after[6000], after[8399], after[8400]]).toEqual([toFloat64(whole)[5999], 9, 9, toFloat64(whole)[8400]]);
  });

  test('more bytes than one buffer are refused with the limit and both numbers', () => {
    const most = runtime.machine.bufferBytes;
    expect(() => runtime.tensor([most / 4 + 1], 'f32')).toThrow(new RegExp(`A buffer of ${most + 4} bytes was asked for; maxBufferSize of this device is ${most}`));
  });
});
