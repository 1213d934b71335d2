/** Shaders as text. Whether they compute what they should, the suite says on a device; what every device guarantees (WebGPU, limits) is checked here. */
import type { FastWeightVariant } from '@heed/core';
import { based, eluFeatures, fastWeights, additiveRule, inPlaceRule, l2Norm, titansRule, tttLinearRule, tttMlpRule } from '@heed/core';
import type { ProgramSource } from '@heed/runtime-webgpu';
import { describe, expect, test } from 'vitest';
import { readRequest } from '../src/assess.ts';
import { planOfTraining } from '../src/test-time-training/plan-of.ts';
import { advanceProgram, beginProgram, endProgram } from '../src/test-time-training/webgpu/programs.ts';
import { gpuPlan } from '../src/webgpu/gpu-plan.ts';
import { programsOf, sourcesOf, type Programs } from '../src/webgpu/stages.ts';
import { rules } from './calls.ts';

/** maxStorageBuffersPerShaderStage, maxComputeWorkgroupStorageSize and maxComputeInvocationsPerWorkgroup of every device. */
const guaranteed = { storageBuffers: 8, workgroupBytes: 16384, invocations: 256 };

function recurrent(variant: FastWeightVariant, dim: number): Programs {
  const { plan } = readRequest({ variant, dim, valueDim: dim }, { maxDim: 1024, gradients: false });
  if (plan === null) throw new Error('the request has a plan');
  return programsOf(gpuPlan(plan), variant);
}

const training: Readonly<Record<string, FastWeightVariant>> = {
  tttLinear: fastWeights({ rule: tttLinearRule({ tokenRate: true }) }),
  tttMlp: fastWeights({ rule: tttMlpRule() }),
  titans: fastWeights({ rule: titansRule(), transformKey: [l2Norm()] }),
  titansMlp: fastWeights({ rule: titansRule({ memory: 'mlp', miniBatch: 4 }) }),
  inPlace: fastWeights({ rule: inPlaceRule({ projection: true, chunk: 64 }) }),
};

function trained(variant: FastWeightVariant, dim: number): readonly ProgramSource[] {
  const plan = planOfTraining({ variant, dim, valueDim: dim });
  if (plan === null) throw new Error('the rule trains');
  return [beginProgram(plan, variant), advanceProgram(plan), endProgram(plan)];
}

function expectGuaranteed({ name, code, bindings }: ProgramSource): void {
  expect(bindings.filter((kind) => kind !== 'uniform').length, `storage buffers of ${name}`).toBeLessThanOrEqual(guaranteed.storageBuffers);
  const arrays = [...code.matchAll(/var<workgroup> \w+: array<\w+, (\d+)>/g)].map(([, count]) => 4 * Number(count));
  expect(arrays.reduce((sum, bytes) => sum + bytes, 0), `workgroup memory of ${name}`).toBeLessThanOrEqual(guaranteed.workgroupBytes);
  expect(Number(/@workgroup_size\((\d+)\)/.exec(code)?.[1]), `invocations of ${name}`).toBeLessThanOrEqual(guaranteed.invocations);
}

describe.each([1, 64, 128, 1000])('within what every device guarantees, width %i', (dim) => {
  test.each(Object.entries(rules))('%s', (_, variant) => {
    for (const source of sourcesOf(recurrent(variant, dim))) expectGuaranteed(source);
  });
  test.each(Object.entries(training))('%s', (_, variant) => {
    for (const source of trained(variant, dim)) expectGuaranteed(source);
  });
});

test('programs that read sizes from the call serve every width', () => {
  for (const variant of Object.values(rules)) {
    const [narrow, wide] = [recurrent(variant, 8).chunked, recurrent(variant, 96).chunked];
    expect(wide?.factors.code).toBe(narrow?.factors.code);
    expect(wide?.outputs.code).toBe(narrow?.outputs.code);
  }
});

describe('the WGSL of canonical rules', () => {
  const gatedDelta = recurrent(rules['gatedDelta'] ?? fastWeights({ rule: additiveRule() }), 64);
  const kda = recurrent(rules['kda'] ?? fastWeights({ rule: additiveRule() }), 64);
  const linear = recurrent(fastWeights({ rule: additiveRule(), transformQuery: [eluFeatures(), based()], transformKey: [eluFeatures(), based()], rowSum: true }), 16);
  const [, ttt] = trained(fastWeights({ rule: tttLinearRule() }), 64);
  const texts: Readonly<Record<string, ProgramSource | null | undefined>> = {
    'recurrent-gated-delta': gatedDelta.recurrent,
    'chunk-factors-kda': kda.chunked?.factors,
    'chunk-states-gated-delta': gatedDelta.chunked?.states,
    'chunk-outputs-row-sum': linear.chunked?.outputs,
    'rows-elu-based': linear.keyRows,
    'advance-ttt-linear': ttt,
  };
  test.each(Object.entries(texts))('%s', async (name, source) => {
    await expect(source?.code).toMatchFileSnapshot(`./snapshots/${name}.wgsl`);
  });
});
