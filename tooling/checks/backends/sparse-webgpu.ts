import { sparse, type SparseBackend } from '@heed/sparse';
import { createWebGpuBackend } from '@heed/webgpu';
import { provideAdapter } from '../src/webgpu-adapter.ts';

/** Over the webgpu backend in Node, as its own lane judges that one. */
export async function createBackend(): Promise<SparseBackend> {
  provideAdapter();
  return sparse(await createWebGpuBackend(), { blockQuery: 4, blockKey: 3, leastTiles: 0 });
}
