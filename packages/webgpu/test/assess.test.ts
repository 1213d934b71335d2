import { attention, based, causal, scaledDot } from '@heed/core';
import { describe, expect, test } from 'vitest';
import { assess } from '../src/assess.ts';

const machine = { invocations: 256, workgroupBytes: 16384, bindingBytes: 2 ** 27, bufferBytes: 2 ** 28, storageBindings: 8, float16: false, subgroups: null, timestamps: false };

describe('assess', () => {
  test('rows that do not fit into workgroup memory are refused with the limit and both numbers', () => {
    // 1 + 64 + 64 · 65 / 2 = 2145 features, two rows of them in float32 and 512 bytes of shares.
    const assessment = assess({ variant: attention({ scoring: scaledDot().transform(based()) }), queryDim: 64, keyDim: 64, valueDim: 64 }, machine);
    expect(assessment.supported).toBe(false);
    const refusal = assessment.supported ? undefined : assessment.refusals.find(({ stage }) => stage === 'dims');
    expect(refusal?.reason).toContain(String(2145 * 8 + 512));
    expect(refusal?.reason).toContain('maxComputeWorkgroupStorageSize of this device is 16384');
  });

  test('the cost counts 2 · pairs · (scoreDim + valueDim)', () => {
    const assessment = assess({ variant: attention({ masking: causal() }), queryDim: 8, keyDim: 8, valueDim: 6 }, machine, { batch: 2, heads: 4, keyHeads: 2, queryLength: 5, keyLength: 7 });
    expect(assessment.supported && assessment.cost?.flops).toBe(2 * 2 * 4 * 5 * 7 * 14);
  });
});
