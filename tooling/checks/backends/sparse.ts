import { createCpuBackend } from '@heed/cpu';
import { sparse, type SparseBackend } from '@heed/sparse';

/** Over the cpu backend. Every mask becomes a list, of tiles that cases of a few rows have several of. */
export async function createBackend(): Promise<SparseBackend> {
  return sparse(await createCpuBackend(), { blockQuery: 4, blockKey: 3, leastTiles: 0 });
}
