export { createCpuBackend as createBackend } from '@heed/cpu';
