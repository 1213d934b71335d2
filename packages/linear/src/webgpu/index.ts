export { createLinearBackend, LinearBackend } from './backend.ts';
export type { LinearBackendOptions } from './backend.ts';
