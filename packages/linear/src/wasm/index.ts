export { createLinearBackend, LinearWasmBackend } from './backend.ts';
export type { LinearWasmOptions } from './backend.ts';
