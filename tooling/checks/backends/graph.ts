import type { Backend } from '@heed/core';
import { createWasmRuntime } from '@heed/runtime-wasm';
import { createGraphBackend } from '@heed/sparse/wasm';
import { withEdges } from './with-edges.ts';

/** The kernels over edges, on a runtime of their own. */
export async function createBackend(): Promise<Backend> {
  const runtime = await createWasmRuntime();
  const backend = withEdges(createGraphBackend({ runtime }));
  return {
    ...backend,
    dispose: async () => {
      await backend.dispose();
      await runtime.dispose();
    },
  };
}
