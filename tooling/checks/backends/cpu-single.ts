import { createCpuBackend, type CpuBackend } from '@heed/cpu';

/** One thread, and so memory that is not shared. */
export function createBackend(): Promise<CpuBackend> {
  return createCpuBackend({ threads: 1 });
}
