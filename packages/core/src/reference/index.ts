export { createReferenceBackend } from './backend.ts';
export { createHostRuntime } from './runtime.ts';
