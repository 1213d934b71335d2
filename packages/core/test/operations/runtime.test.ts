import { describe, expect, test } from 'vitest';
import { isAttentionError } from '../../src/errors.ts';
import { createHostRuntime } from '../../src/reference/runtime.ts';
import { isHostTensor, slice, tensor, toFloat64 } from '../../src/tensor.ts';
import type { HostTensor, Tensor } from '../../src/tensor.ts';
import { expectRefusal } from '../validate/calls.ts';

function host(source: Tensor): HostTensor {
  if (!isHostTensor(source)) throw new Error('expected a host tensor');
  return source;
}

describe('the host runtime', () => {
  test('uploads a copy and reads a copy', async () => {
    const runtime = createHostRuntime();
    const source = Float32Array.of(1, 2, 3, 4);
    const here = runtime.upload(tensor(source, [2, 2]));
    source[0] = 9;
    const back = await runtime.read(slice(host(here), 1, 1, 2));
    expect(back).toMatchObject({ runtime: null, shape: [2, 1], strides: [1, 1], dtype: 'f32' });
    expect([...toFloat64(back)]).toEqual([2, 4]);
    back.view()[0] = 7;
    expect([...toFloat64(await runtime.read(here))]).toEqual([1, 2, 3, 4]);
  });

  test('keeps dtypes through a round trip, bit for bit', async () => {
    const runtime = createHostRuntime();
    const bits = Uint16Array.of(0x3c00, 0xfc00, 0x0001, 0x8000);
    expect([...(await runtime.read(runtime.upload(tensor(bits, [4], { dtype: 'f16' })))).view()]).toEqual([...bits]);
  });

  test('counts the bytes of live tensors and their peak', () => {
    const runtime = createHostRuntime();
    expect(runtime.memory()).toEqual({ bytes: 0, peakBytes: 0 });
    const first = runtime.tensor([2, 3], 'f64');
    const second = runtime.tensor([5], 'f16');
    expect(runtime.memory()).toEqual({ bytes: 58, peakBytes: 58 });
    runtime.release(first);
    expect(runtime.memory()).toEqual({ bytes: 10, peakBytes: 58 });
    runtime.operations.copy(second);
    expect(runtime.memory()).toEqual({ bytes: 20, peakBytes: 58 });
  });

  test('ends a tensor and its views with its release, once', () => {
    const runtime = createHostRuntime();
    const whole = runtime.tensor([4], 'f32');
    const part = slice(host(whole), 0, 1, 2);
    expectRefusal(() => runtime.release(part), 'disposed', 'view');
    runtime.release(whole);
    expectRefusal(() => part.view(), 'disposed');
    expectRefusal(() => runtime.operations.reduce(whole, 'sum'), 'disposed');
    expectRefusal(() => runtime.release(whole), 'disposed');
  });

  test('knows its own tensors', async () => {
    const [here, there] = [createHostRuntime(), createHostRuntime()];
    const foreign = there.tensor([2], 'f32');
    expectRefusal(() => here.operations.reduce(foreign, 'sum'), 'foreign-tensor');
    expectRefusal(() => here.operations.copy(tensor([1, 2], [2]), { into: foreign }), 'foreign-tensor');
    expectRefusal(() => here.release(foreign), 'foreign-tensor');
    expectRefusal(() => here.release(tensor([1], [1])), 'foreign-tensor');
    await expect(here.read(foreign)).rejects.toSatisfy((error) => isAttentionError(error, 'foreign-tensor'));
  });

  test('refuses what it cannot make', () => {
    const runtime = createHostRuntime();
    expectRefusal(() => runtime.tensor([2 ** 40], 'f64'), 'out-of-memory', String(2 ** 43), '0 held');
    expectRefusal(() => runtime.tensor([-1], 'f64'), 'invalid-shape');
    expectRefusal(() => runtime.tensor([1], 'f8' as never), 'invalid-dtype', "'f8'");
    expect(runtime.memory().bytes).toBe(0);
  });

  test('is over when disposed, and disposing twice is fine', async () => {
    const runtime = createHostRuntime();
    const left = runtime.tensor([2], 'f32');
    await runtime.idle();
    await runtime.dispose();
    await runtime.dispose();
    expect(runtime.memory().bytes).toBe(0);
    expectRefusal(() => runtime.tensor([1], 'f32'), 'disposed');
    expectRefusal(() => runtime.upload(tensor([1], [1])), 'disposed');
    expectRefusal(() => runtime.operations.reduce(tensor([1], [1]), 'sum'), 'disposed');
    expectRefusal(() => host(left).view(), 'disposed');
    for (const late of [runtime.idle(), runtime.read(left)]) await expect(late).rejects.toSatisfy((error) => isAttentionError(error, 'disposed'));
  });
});
