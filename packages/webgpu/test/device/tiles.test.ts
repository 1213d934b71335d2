import { attention, causal, isHostTensor, sparsemax, tensor, toFloat64, type HostTensor, type Tensor } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { describe, expect, test } from 'vitest';
import { createWebGpuBackend, type WebGpuBackendOptions } from '../../src/index.ts';

function waves(heads: number, length: number, dim: number, step: number): HostTensor {
  return tensor(Float32Array.from({ length: heads * length * dim }, (_, index) => Math.sin(index * step)), [1, heads, length, dim]);
}

function numbers(of: Tensor): Float64Array {
  if (!isHostTensor(of)) throw new TypeError('a host query gives host tensors');
  return toFloat64(of);
}

/** What larger and smaller devices would take, on whichever device there is. */
const machines: Readonly<Record<string, NonNullable<WebGpuBackendOptions['within']>>> = {
  wide: { subgroups: null, workgroupBytes: 32_768, invocations: 256 },
  'middle, the guaranteed limits': { subgroups: null, workgroupBytes: 16_384, invocations: 256 },
  narrow: { subgroups: null, workgroupBytes: 11_000, invocations: 128 },
  small: { subgroups: null, workgroupBytes: 6_000, invocations: 128 },
};

describe('every tile computes the same function as the float64 reference', () => {
  // Expected: the reference; 2⁻²⁴ · (16 + 2√dim + 2√length) is the suite's bound for rows of magnitude 1, about 4 · 10⁻⁶.
  test.each(Object.entries(machines))('%s', { timeout: 120_000 }, async (name, within) => {
    const [gpu, reference] = [await createWebGpuBackend({ within }), createReferenceBackend()];
    const machine = gpu.runtime.machine;
    expect(within.workgroupBytes ?? 0).toBeLessThanOrEqual(machine.workgroupBytes);
    for (const variant of [attention({ masking: causal() }), attention({ normalization: sparsemax(), masking: causal() })]) {
      const request = { variant, queryDim: 20, keyDim: 20, valueDim: 34 };
      const [kernel, expected] = [await gpu.prepare(request), await reference.prepare(request)];
      expect(kernel.explain({ batch: 1, heads: 4, keyHeads: 2, queryLength: 70, keyLength: 140 }).plan.join('\n')).toMatch(new RegExp(`tile '${name.split(',')[0] ?? ''}' .*: taken`));
      for (const [queryLength, keyLength] of [[70, 140], [3, 600]] as const) {
        const inputs = { query: waves(4, queryLength, 20, 0.7), key: waves(2, keyLength, 20, 0.9), value: waves(2, keyLength, 34, 1.1), queryOffset: 'end' as const };
        const [got, want] = [await kernel.run(inputs), await expected.run(inputs)];
        const [a, b] = [numbers(got.output), numbers(want.output)];
        expect(a.reduce((most, value, index) => Math.max(most, Math.abs(value - (b[index] ?? Number.NaN))), 0)).toBeLessThan(1e-5);
      }
    }
    await Promise.all([gpu.dispose(), reference.dispose()]);
  });
});

test('a device that is too small for every tile is refused with the limit and both numbers', async () => {
  const gpu = await createWebGpuBackend({ within: { workgroupBytes: 2000 } });
  const refused = await gpu.prepare({ variant: attention({}), queryDim: 8, keyDim: 8, valueDim: 8 }).catch((error: unknown) => error);
  expect(String(refused)).toMatch(/takes \d+ bytes of workgroup memory; maxComputeWorkgroupStorageSize of this device is 2000/);
  await gpu.dispose();
});
