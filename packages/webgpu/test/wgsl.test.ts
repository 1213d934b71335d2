import { alibi, attention, causal, distance, laser, rope, scaledDot, softcap, softmax, sparsemax, window, additive, type AttentionVariant } from '@heed/core';
import type { Machine } from '@heed/runtime-webgpu';
import { describe, expect, test } from 'vitest';
import { prefillProgram } from '../src/kernels/prefill.ts';
import { rowsProgram } from '../src/kernels/threshold.ts';
import { transformProgram } from '../src/kernels/transform.ts';
import { planOf } from '../src/plan.ts';

/** What WebGPU guarantees, so that the text is the same wherever the tests run. */
const machine: Machine = { invocations: 256, workgroupBytes: 16384, bindingBytes: 2 ** 27, bufferBytes: 2 ** 28, storageBindings: 8, float16: false, subgroups: null, timestamps: false };

const request = (variant: AttentionVariant): Parameters<typeof planOf>[0] => ({ variant, queryDim: 64, keyDim: 64, valueDim: 64 });

/** Six canonical variants as text, for people to read: whether they are right, the suite says. */
describe('the WGSL of canonical variants', () => {
  const online: Readonly<Record<string, AttentionVariant>> = {
    causal: attention({ masking: causal() }),
    'alibi, softcap, window, sink': attention({ scoring: scaledDot().modify(softcap(30), alibi()), masking: causal().and(window({ left: 1023, right: 0 })), normalization: softmax({ sink: true }) }),
    additive: attention({ scoring: additive({ width: 32 }) }),
  };
  test.each(Object.entries(online))('%s', async (name, variant) => {
    await expect(prefillProgram(request(variant), planOf(request(variant), machine)).code).toMatchFileSnapshot(`./snapshots/${name.replaceAll(', ', '-')}.wgsl`);
  });

  const rows: Readonly<Record<string, AttentionVariant>> = {
    sparsemax: attention({ normalization: sparsemax() }),
    laser: attention({ aggregation: laser(), masking: causal() }),
  };
  test.each(Object.entries(rows))('%s', async (name, variant) => {
    await expect(rowsProgram(request(variant), planOf(request(variant), machine)).code).toMatchFileSnapshot(`./snapshots/${name}.wgsl`);
  });

  test('rope, key rows', async () => {
    const variant = attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })) });
    await expect(transformProgram(request(variant), planOf(request(variant), machine), 'key').code).toMatchFileSnapshot('./snapshots/rope-key-rows.wgsl');
  });

  test('locals of an expression stand behind the inputs that they read', () => {
    const variant = attention({ scoring: distance() });
    const { code } = prefillProgram(request(variant), planOf(request(variant), machine));
    expect(code.indexOf('let ofQuery')).toBeLessThan(code.indexOf('let value1 = (ofQuery'));
  });

  test('other values of uniforms give the same text, so that nothing is compiled again', () => {
    const make = (cap: number): string => {
      const variant = attention({ scoring: scaledDot().modify(softcap(cap)), masking: window({ left: cap, right: 0 }) });
      return prefillProgram(request(variant), planOf(request(variant), machine)).code;
    };
    expect(make(30)).toBe(make(7));
  });
});
