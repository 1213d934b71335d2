export { createLinearBackend as createBackend } from '@heed/linear/wasm';
