/** Other libraries in a browser, on the GPU. */
import { AttentionError } from '@heed/core';
import type { Competitor } from '../src/competitor.ts';
import type { CompetitorSource } from '../src/competitors.ts';
import { webgpuLimits } from '../src/limits.ts';
import { jaxJsCompetitor } from '../src/peers/jax-js-competitor.ts';
import { onnxruntimeCompetitor } from '../src/peers/onnxruntime/competitor.ts';
import { oneOperatorModel, type TensorName } from '../src/peers/onnxruntime/model.ts';
import type { Fed } from '../src/peers/onnxruntime/operator.ts';
import { plainJs } from '../src/peers/plain-js.ts';
import { tfjsCompetitor } from '../src/peers/tfjs-competitor.ts';

const limit = webgpuLimits.f32;

export const peerSources: readonly CompetitorSource[] = [
  { name: 'plain-js', role: 'peer', start: plainJs },
  { name: 'onnxruntime-web', role: 'peer', start: onnxruntimeWeb },
  { name: 'tfjs', role: 'peer', start: tfjs },
  { name: 'jax-js', role: 'peer', start: jaxJs },
];

/** Their own messages without an adapter tell little. @throws AttentionError `unsupported` */
async function needAdapter(): Promise<void> {
  const gpu = (navigator as { readonly gpu?: GPU }).gpu;
  if (gpu === undefined) throw new AttentionError('unsupported', 'This browser has no WebGPU.', 'Use one that has it.');
  if ((await gpu.requestAdapter()) === null) throw new AttentionError('unsupported', 'WebGPU is there, but no adapter.', 'Turn hardware acceleration on.');
}

async function tfjs(): Promise<Competitor> {
  await needAdapter();
  const [core, { WebGPUBackend }] = await Promise.all([import('@tensorflow/tfjs-core'), import('@tensorflow/tfjs-backend-webgpu')]);
  if (!(await core.setBackend('webgpu'))) throw new AttentionError('unsupported', 'TensorFlow.js refused its backend webgpu.', 'Leave it out.');
  await core.ready();
  const backend = core.backend();
  if (!(backend instanceof WebGPUBackend)) throw new AttentionError('internal', 'TensorFlow.js runs on another backend.', 'Leave it out.');
  const { device } = backend;
  return tfjsCompetitor(core, { about: `TensorFlow.js ${core.version_core}, WebGPU, keys transposed beforehand.`, limit }, async () => {
    // It gathers commands until somebody reads; so they are handed over here.
    backend.ensureCommandEncoderReady();
    backend.endComputePassEncoder();
    backend.submitQueue();
    await device.queue.onSubmittedWorkDone();
  });
}

async function jaxJs(): Promise<Competitor> {
  await needAdapter();
  return jaxJsCompetitor(await import('@jax-js/jax'), 'webgpu', { about: 'jax-js, WebGPU.', limit });
}

const largestScores = 512 * 2 ** 20;

/** ONNX Runtime on WebGPU, inputs and outputs in buffers of the device. */
async function onnxruntimeWeb(): Promise<Competitor> {
  await needAdapter();
  const library = await import('onnxruntime-web/webgpu');
  const session = {
    executionProviders: ['webgpu'],
    preferredOutputLocation: 'gpu-buffer',
    logSeverityLevel: 4,
    // Operators that the GPU has not would silently run on the processor.
    extra: { session: { disable_cpu_ep_fallback: '1' } },
  } as const;
  // The device is there after the first session, and goes with the last: so this one stays.
  const tensor = (name: string): TensorName => ({ name, type: 'float32' });
  const first = await library.InferenceSession.create(oneOperatorModel({ operator: 'Identity', domain: '', inputs: [tensor('x')], outputs: [tensor('y')], attributes: {} }), session);
  const device = await (library.env.webgpu.device as GPUDevice | Promise<GPUDevice>);
  const place = ({ type, elements, shape }: Fed): InstanceType<typeof library.Tensor> => {
    if (type !== 'float32') return new library.Tensor(type, elements, shape);
    const buffer = device.createBuffer({ size: Math.max(16, elements.byteLength), usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC });
    device.queue.writeBuffer(buffer, 0, elements as Float32Array<ArrayBuffer>);
    return library.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims: shape, dispose: () => { buffer.destroy(); } });
  };
  const settled = async (): Promise<void> => {
    await device.queue.onSubmittedWorkDone();
  };
  return {
    ...onnxruntimeCompetitor(
      { library, session, writesGivenOutputs: false, largestScores, device: { place, settled } },
      { name: 'onnxruntime-web', about: `ONNX Runtime ${library.env.versions.web ?? library.env.versions.common}, WebGPU, inputs and outputs in buffers of its device.`, limit },
    ),
    dispose: async () => first.release(),
  };
}
