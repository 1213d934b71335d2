import type { Backend } from '@heed/core';
import { createWebGpuRuntime } from '@heed/runtime-webgpu';
import { createGraphBackend } from '@heed/sparse/webgpu';
import { provideAdapter } from '../src/webgpu-adapter.ts';
import { withEdges } from './with-edges.ts';

/** The kernels over edges on the GPU, or on SwiftShader, on a runtime of their own. */
export async function createBackend(): Promise<Backend> {
  provideAdapter();
  const runtime = await createWebGpuRuntime();
  const backend = withEdges(createGraphBackend({ runtime }));
  return {
    ...backend,
    dispose: async () => {
      await backend.dispose();
      await runtime.dispose();
    },
  };
}
