import { alibi, attention, causal, distance, laser, rope, scaledDot, softcap, softmax, sparsemax, window, additive, type AttentionVariant } from '@heed/core';
import { describe, expect, test } from 'vitest';
import { prefillProgram } from '../src/kernels/prefill.ts';
import { rowsProgram } from '../src/kernels/threshold.ts';
import { transformProgram } from '../src/kernels/transform.ts';
import { planOf } from '../src/plan.ts';

const request = (variant: AttentionVariant): Parameters<typeof planOf>[0] => ({ variant, queryDim: 64, keyDim: 64, valueDim: 64 });

/** Six canonical variants as text, for people to read: whether they are right, the suite says. */
describe('the WGSL of canonical variants', () => {
  const online: Readonly<Record<string, AttentionVariant>> = {
    causal: attention({ masking: causal() }),
    'alibi, softcap, window, sink': attention({ scoring: scaledDot().modify(softcap(30), alibi()), masking: causal().and(window({ left: 1023, right: 0 })), normalization: softmax({ sink: true }) }),
    additive: attention({ scoring: additive({ width: 32 }) }),
  };
  test.each(Object.entries(online))('%s', async (name, variant) => {
    await expect(prefillProgram(request(variant), planOf(request(variant))).code).toMatchFileSnapshot(`./snapshots/${name.replaceAll(', ', '-')}.wgsl`);
  });

  const rows: Readonly<Record<string, AttentionVariant>> = {
    sparsemax: attention({ normalization: sparsemax() }),
    laser: attention({ aggregation: laser(), masking: causal() }),
  };
  test.each(Object.entries(rows))('%s', async (name, variant) => {
    await expect(rowsProgram(request(variant), planOf(request(variant))).code).toMatchFileSnapshot(`./snapshots/${name}.wgsl`);
  });

  test('rope, key rows', async () => {
    const variant = attention({ scoring: scaledDot().transform(rope({ pairing: 'half' })) });
    await expect(transformProgram(request(variant), planOf(request(variant)), 'key').code).toMatchFileSnapshot('./snapshots/rope-key-rows.wgsl');
  });

  test('locals of an expression stand behind the inputs that they read', () => {
    const variant = attention({ scoring: distance() });
    const { code } = prefillProgram(request(variant), planOf(request(variant)));
    expect(code.indexOf('let queryElement')).toBeLessThan(code.indexOf('let value1 = (queryElement'));
  });

  test('other values of uniforms give the same text, so that nothing is compiled again', () => {
    const make = (cap: number): string => {
      const variant = attention({ scoring: scaledDot().modify(softcap(cap)), masking: window({ left: cap, right: 0 }) });
      return prefillProgram(request(variant), planOf(request(variant))).code;
    };
    expect(make(30)).toBe(make(7));
  });
});
