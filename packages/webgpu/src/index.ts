export { createWebGpuBackend, WebGpuBackend } from './backend.ts';
export type { WebGpuBackendOptions } from './backend.ts';
