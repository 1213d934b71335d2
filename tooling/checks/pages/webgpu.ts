import { runSuite } from '@heed/conformance';
import { attention, causal, isAttentionError, tensor, type AttentionInputs, type AttentionKernel, type HostTensor } from '@heed/core';
import { createWebGpuBackend } from '@heed/webgpu';
import { answerWith, evalIsRefused, expect, violationsOfPolicy } from './page.ts';
import type { PageFinding, Question, Verdict } from './verdict.ts';

/** Judges the WebGPU backend where it is loaded, under a Content-Security-Policy that allows no eval, and sends the verdict to where the page came from. */

const parameters = new URLSearchParams(location.search);
const question: Question = { isolated: parameters.get('isolated') === 'true', examples: Number(parameters.get('examples')) };

const violations = violationsOfPolicy();

/** Rows of waves, of different lengths for each operand. */
function waves(shape: readonly [number, number, number, number], step: number): HostTensor {
  return tensor(Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, (_, index) => Math.sin(index * step)), shape);
}

const call: AttentionInputs = { query: waves([1, 4, 96, 16], 0.7), key: waves([1, 4, 96, 16], 0.9), value: waves([1, 4, 96, 16], 1.1) };

async function resultOf(kernel: AttentionKernel): Promise<readonly number[]> {
  const { output } = await kernel.run(call);
  return 'view' in output ? [...(output as HostTensor).view()] : [];
}

/** STORAGE, COPY_SRC and COPY_DST of `GPUBufferUsage`. */
const bufferUsage = 0x80 | 0x4 | 0x8;

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'it resolved';
  } catch (error) {
    return isAttentionError(error) ? error.code : String(error);
  }
}

/** The device is destroyed while calls are under way: each of them must say so, and after `restore` the same kernel must give the same bits. */
async function loseDevice(): Promise<PageFinding> {
  const check = 'a device lost in mid-call ends every pending promise, and restore brings the same kernel back';
  const backend = await createWebGpuBackend();
  try {
    const { runtime } = backend;
    const request = { variant: attention({ masking: causal() }), queryDim: 16, keyDim: 16, valueDim: 16 };
    const kernel = await backend.prepare(request);
    const before = await resultOf(kernel);
    const uploaded = runtime.upload(waves([1, 4, 96, 16], 0.7));
    const { output } = kernel.enqueue({ query: uploaded, key: uploaded, value: uploaded });
    const pending = [kernel.run(call), kernel.run(call), runtime.read(output), runtime.read(uploaded), runtime.idle()];
    runtime.device.destroy();
    const codes = await Promise.all(pending.map(codeOf));
    codes.push(await codeOf(kernel.run(call)));
    await runtime.restore();
    const after = await resultOf(kernel);
    const same = before.length === after.length && before.length > 0 && before.every((value, index) => value === after[index]);
    const problems = [...codes.flatMap((code, index) => (code === 'device-lost' ? [] : [`promise ${index}: ${code}`])), ...(same ? [] : ['after restore the result is another'])];
    return { check, problems };
  } finally {
    await backend.dispose();
  }
}

/** A buffer of the page's own device is a tensor as it is. */
async function shareDevice(): Promise<PageFinding> {
  const check = 'a buffer of the page’s own device is a tensor without a copy';
  const adapter = await navigator.gpu.requestAdapter();
  if (adapter === null) return { check, problems: ['no adapter'] };
  const device = await adapter.requestDevice();
  const backend = await createWebGpuBackend({ device });
  const { runtime } = backend;
  const buffer = device.createBuffer({ size: 16, usage: bufferUsage });
  device.queue.writeBuffer(buffer, 0, Float32Array.of(1, 2, 3, 4));
  const wrapped = runtime.wrap(buffer, [4], 'f32');
  const [copy, doubled] = await runtime.readAll([wrapped, runtime.operations.matmul(runtime.view(wrapped, [1, 4]), runtime.view(wrapped, [4, 1]))]);
  const [seen, product] = [copy?.view().join(), doubled?.view()[0]];
  await backend.dispose();
  device.destroy();
  return { check, problems: seen === '1,2,3,4' && product === 30 && runtime.device === device ? [] : [`read ${String(seen)} and ${String(product)}`] };
}

async function judge(): Promise<Verdict> {
  const findings = [
    expect('the page is isolated, or not, as asked', crossOriginIsolated === question.isolated, `crossOriginIsolated is ${crossOriginIsolated}`),
    expect('the policy refuses eval', evalIsRefused(), 'a function was made from text'),
    await loseDevice(),
    await shareDevice(),
  ];
  const backend = await createWebGpuBackend();
  const description = backend.runtime.describe();
  await backend.dispose();
  const report = await runSuite(createWebGpuBackend, { examples: question.examples });
  // One is the page's own attempt.
  const policy = expect('nothing else was refused by the policy', violations.length === 1, violations.join('; '));
  return { report, description, findings: [...findings, policy] };
}

await answerWith(judge);
