export { CpuBackend, createCpuBackend } from './backend.ts';
export type { CpuBackendOptions } from './backend.ts';
