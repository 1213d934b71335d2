/** Attention over the edges of a graph, on the WebAssembly runtime. */
export { createGraphBackend, GraphBackend } from './backend.ts';
export type { GraphBackendOptions } from './backend.ts';
