import type { CompetitorSource } from '../competitors.ts';
import { plainJs } from './plain-js.ts';

/** Somebody else's attention: everything that `--peer` takes. Adding one is adding a row. Libraries are loaded when they are started. */
export const peerSources: readonly CompetitorSource[] = [
  { name: 'plain-js', role: 'peer', start: plainJs },
  { name: 'onnxruntime-node', role: 'peer', start: async (options) => (await import('./onnxruntime-node.ts')).onnxruntimeNode(options) },
  { name: 'onnxruntime-web', role: 'peer', start: async (options) => (await import('./onnxruntime-web.ts')).onnxruntimeWeb(options) },
  { name: 'tfjs', role: 'peer', start: async (options) => (await import('./tfjs.ts')).tfjs(options) },
  { name: 'jax-js', role: 'peer', start: async () => (await import('./jax-js.ts')).jaxJs() },
  { name: 'webgpu-three-pass', role: 'peer', start: async () => (await import('./webgpu-three-pass.ts')).webgpuThreePass() },
];
